"""partalign evaluate, partalign embed, partalign results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from partalign.cli.engine import Engine
from partalign.errors import EvaluationError

Flag = Annotated[bool, Parameter(negative="")]


def evaluate(
    model: Path | None = None,
    *,
    data: Path | None = None,
    dataset: str = "market1501",
    protocol: str | None = None,
    boxes: Literal["labeled", "detected"] | None = None,
    test_set: str | None = None,
    embeddings: Path | None = None,
    multi_query: Flag = False,
    distractors: Path | None = None,
    rerank: Flag = False,
    expand: int = 0,
    center: Flag = False,
    ap: Literal["rectangular", "trapezoidal"] = "rectangular",
    same_camera: Literal["ignore", "keep", "tracklet"] | None = None,
    tracklets: Literal["mean", "max"] | None = None,
    verification: Flag = False,
    flip: Flag = False,
    corrupt: Literal["refuse", "skip"] = "refuse",
    json_: Annotated[Path | None, Parameter(name="--json")] = None,
    csv: Path | None = None,
    device: str = "cpu",
    engine: Engine = "auto",
    workers: PositiveInt | None = None,
    ray: str | None = None,
) -> None:
    """Score a model, or saved descriptors, by a data set's protocol: CMC, mAP, mINP.

    Example: partalign evaluate runs/rcpm/model.safetensors --dataset market1501 --data ~/data --json scores.json

    Args:
        model: a model file (.safetensors, or exported: .onnx), or the name of a shipped one (see partalign models); by
            default the shipped model
        data: the folder of the data set; left out when --embeddings says itself which rows are query and gallery
        dataset: market1501, dukemtmc, cuhk03, cuhk01, mars, or folder (your own crops)
        protocol: of cuhk03 (classic, new) and cuhk01 (100, 486); for any data set also market1501, single-camera,
            single-shot, all-shots, mars
        boxes: of cuhk03
        test_set: of cuhk03 (0 to 19) and cuhk01: the persons to test on; "all" for each set in turn
        embeddings: score this file (.npz, .parquet, .mat, also of other systems), or what partalign embed-many wrote;
            no network runs
        multi_query: describe every query by the mean of all crops of its person and camera (gt_bbox of market1501)
        distractors: a folder of crops of nobody, or what partalign embed-many made of one; the gallery is scored
            without them and with 100, 200, 500 thousand
        rerank: re-rank by k-reciprocal neighbours
        expand: replace every query by the mean of itself and so many best matches (AQE); 0 is off
        center: subtract the mean descriptor of each camera first: helps on cameras that the network was not trained on
        ap: which definition of average precision the printed mAP has
        same_camera: gallery crops of the query's person and camera are ignored (default); for data of one camera: only
            those of the query's tracklet are, or all are kept as matches but for the query's own picture
        tracklets: rank tracklets by the mean or maximum of their crops' descriptors (default of mars: mean)
        verification: also report how well a threshold tells same from different, and the calibrated probability
        flip: average every descriptor with that of the mirrored crop
        corrupt: what a picture that cannot be read does: stop the work, or be named and left out
        json_: also write the figures, as fractions, to this file
        csv: also write the figures, in per cent, with the paper's of the same setting below, to this file
        device: cpu, cuda, cuda:1 ...
        workers: how many count in what partalign embed-many wrote; by default one, on Ray one for each core
        ray: have them counted by Ray: local (on this machine), auto (the cluster this machine is in), or its address
    """
    from partalign.embedding import Embedder, embed_split
    from partalign.engines import load_engine
    from partalign.scoring import read_saved, read_task
    from partalign.shards.workers import Workers
    from partalign.weights.info import read_info

    if model is not None and embeddings is not None:
        raise EvaluationError("expected either a model or --embeddings FILE, found both: leave one out")
    if data is None and embeddings is None:
        raise EvaluationError("expected --data DIR, the folder of the data set")
    task = None
    if data is not None:
        choices = {"protocol": protocol, "boxes": boxes, "test_set": test_set, "distractors": distractors}
        task = read_task(dataset, data, **choices).with_rules(same_camera, tracklets)  # type: ignore[arg-type]
    if task is not None and embeddings is None:
        if task.strangers:
            task.require_model(read_info(model).version, flip)
        crops = len(task.split.query) + len(task.split.gallery)
        found = load_engine(model, engine, device=device, crops=crops)
        embedder = Embedder(found, flip=flip, on_error=corrupt)
        if not task.split.query and all(crop.person is None for crop in task.split.gallery):
            print(task.pairs_text(embedder.embed(task.split.gallery), read_info(model).calibration))
            return
        descriptors = embed_split(embedder, task.split, multi_query)
    else:
        whole = rerank or expand > 0 or center or verification
        task, descriptors = read_saved(embeddings, task, multi_query, whole=whole)  # type: ignore[arg-type]
        task = task.with_rules(same_camera, tracklets)
    how = {"rerank": rerank, "expand": expand, "center": center, "verification": verification}
    report = task.score(descriptors, ap, **how, workers=Workers(workers, ray))
    print(report.text())
    report.write(json_, csv)


def results(table: int | None = None) -> None:
    """List the paper's results with the commands that train and score each.

    Example: partalign results 4

    Args:
        table: the number of one of the paper's tables; all by default
    """
    from partalign.evaluation.published import published_results

    tables = sorted({result.table for result in published_results()})
    if table not in (None, *tables):
        raise EvaluationError(f"expected the number of a table, {tables[0]} to {tables[-1]}, found {table}")
    for result in published_results():
        if table in (None, result.table):
            figures = ", ".join(f"{name} {value}" for name, value in result.figures.items())
            print(f"Table {result.table}, {result.setting.dataset}, {result.title}: {figures}")
            print(f"    {result.train_command}\n    {result.evaluate_command}")


def embed(
    *images: Path,
    out: Path,
    flip: Annotated[bool, Parameter(negative="")] = False,
    corrupt: Literal["refuse", "skip"] = "refuse",
    device: str = "cpu",
    engine: Engine = "auto",
) -> None:
    """Turn pictures of people into descriptors, saved with their records.

    Example: partalign embed crops/ one.jpg --out crops.npz

    Args:
        images: pictures, or folders of pictures; a model file (.safetensors, .onnx), or a shipped model's name, may
            come first
        out: the file to write (.npz, or .parquet with the extra data)
        flip: average every descriptor with that of the mirrored crop
        corrupt: what a picture that cannot be read does: stop the work, or be named and left out
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.crops import EMBEDDINGS_ENDINGS
    from partalign.datasets.folder import find_crops
    from partalign.embedding import Embedder
    from partalign.engines import load_engine
    from partalign.files import check_ending
    from partalign.weights.shipped import leading_model

    check_ending(out, *EMBEDDINGS_ENDINGS)
    model, places = leading_model(images)
    crops = find_crops(places)
    found = load_engine(model, engine, device=device, crops=len(crops))
    vectors = Embedder(found, flip=flip, on_error=corrupt).embed(crops)
    vectors.save(out)
    print(f"{len(vectors)} descriptors of {vectors.vectors.shape[1]} numbers: {out}")

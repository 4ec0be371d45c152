"""partalign evaluate, partalign embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from partalign.errors import EvaluationError


def evaluate(
    model: Path | None = None,
    *,
    data: Path,
    dataset: str = "market1501",
    embeddings: Path | None = None,
    ap: Literal["rectangular", "trapezoidal"] = "rectangular",
    same_camera: Literal["ignore", "keep"] = "ignore",
    flip: Annotated[bool, Parameter(negative="")] = False,
    corrupt: Literal["refuse", "skip"] = "refuse",
    json_: Annotated[Path | None, Parameter(name="--json")] = None,
    device: str = "cpu",
) -> None:
    """Score a model, or saved embeddings, by a data set's protocol: CMC, mAP, mINP.

    Example: partalign evaluate runs/rcpm/model.safetensors --dataset market1501 --data ~/data --json scores.json

    Parameters
    ----------
    model: a model file; left out when --embeddings is given
    data: the folder of the data set
    dataset: market1501, or folder (your own crops)
    embeddings: score this file, written by `partalign embed`; no network runs
    ap: which definition of average precision the printed mAP has
    same_camera: what a gallery crop of the query's person and camera is: ignored, or (for data of one camera) a match
    flip: average every descriptor with that of the mirrored crop
    corrupt: what a picture that cannot be read does: stop the work, or be named and left out
    json_: also write the figures, as fractions, to this file
    device: cpu, cuda, cuda:1 ...
    """
    from partalign import embedding
    from partalign.datasets import load_dataset
    from partalign.evaluation.evaluate import match_saved, score
    from partalign.evaluation.protocols import Protocol
    from partalign.files import atomic_file
    from partalign.weights.checkpoint import load_model

    if (model is None) == (embeddings is None):
        raise EvaluationError("expected either a model or --embeddings FILE: give one of them")
    split, protocol = load_dataset(dataset, data), Protocol(same_camera=same_camera)
    if embeddings is not None:
        scores = score(*match_saved(embeddings, split), protocol, ap)
    else:
        embedder = embedding.Embedder(load_model(model), device=device, flip=flip, on_error=corrupt)  # type: ignore[arg-type]
        scores = embedding.evaluate(embedder, split, protocol, ap)
    for note in split.notes:
        print(f"note: {note}")
    print(scores.table())
    if json_ is not None:
        with atomic_file(json_) as file:
            file.write(scores.to_json().encode())


def embed(
    model: Path,
    *images: Path,
    out: Path,
    flip: Annotated[bool, Parameter(negative="")] = False,
    corrupt: Literal["refuse", "skip"] = "refuse",
    device: str = "cpu",
) -> None:
    """Turn pictures of people into descriptors, saved with their records.

    Example: partalign embed model.safetensors crops/ one.jpg --out crops.npz

    Parameters
    ----------
    model: a model file
    images: pictures, or folders of pictures
    out: the file to write (.npz)
    flip: average every descriptor with that of the mirrored crop
    corrupt: what a picture that cannot be read does: stop the work, or be named and left out
    device: cpu, cuda, cuda:1 ...
    """
    from partalign.datasets.folder import find_crops
    from partalign.embedding import Embedder
    from partalign.weights.checkpoint import load_model

    crops = find_crops(images)
    vectors = Embedder(load_model(model), device=device, flip=flip, on_error=corrupt).embed(crops)
    vectors.save(out)
    print(f"{len(vectors)} descriptors of {vectors.vectors.shape[1]} numbers: {out}")

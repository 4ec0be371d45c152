"""partalign embed-many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from partalign.cli.engine import Engine
from partalign.errors import DatasetError

Flag = Annotated[bool, Parameter(negative="")]


def embed_many(
    *crops: Path,
    out: Path,
    shard: int = 8192,
    half: Flag = False,
    flip: Flag = False,
    workers: PositiveInt | None = None,
    ray: str | None = None,
    device: str = "cpu",
    engine: Engine = "auto",
) -> None:
    """Turn millions of pictures into descriptors, in a folder of Parquet files; stopped at any moment, it goes on.

    Example: partalign embed-many /data/crops --out /data/descriptors --workers 16

    A picture that cannot be read is named in OUT/corrupt.csv and stops nothing. Score the result with partalign
    evaluate --embeddings OUT, or --distractors OUT.

    Args:
        crops: a folder of pictures, or a table of them (.csv, .parquet: path, and if known person, camera, tracklet,
            time); a model file (.safetensors, .onnx), or a shipped model's name, may come first
        out: the folder to write; the same call again does what is missing there
        shard: pictures in a file, the most that is lost when a worker dies
        half: store half precision: half the bytes
        flip: average every descriptor with that of the mirrored crop
        workers: how many work at once; by default one, on Ray one for each CPU core or GPU
        ray: spread the work with Ray: local (on this machine), auto (the cluster this machine is in), or its address
        device: cpu, or cuda; with Ray every worker on cuda has a GPU of its own
    """
    from partalign.bulk import embed_many as run
    from partalign.shards.workers import Workers
    from partalign.weights.shipped import leading_model

    model, places = leading_model(crops)
    if len(places) != 1:
        raise DatasetError(f"expected one folder or table of crops, found {len(places)}: put them into one")
    done = run(
        places[0],
        out,
        model,
        shard_size=shard,
        precision="float16" if half else "float32",
        flip=flip,
        engine=engine,
        device=device,
        workers=Workers(workers, ray, gpu=device.startswith("cuda")),
    )
    print(f"{done.crops:,} descriptors in {done.shards:,} shards: {out}")
    if done.corrupt:
        print(f"{done.corrupt:,} pictures cannot be read: {out / 'corrupt.csv'}")

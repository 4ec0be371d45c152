"""Descriptors of any number of crops, by any number of workers, into a folder of shards.

A shard is what a worker does at once: it either stands, complete, or does not. So a job that was stopped, or whose
workers died, goes on with the shards that are missing, and every readable crop is there exactly once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from partalign.crops import Crop, Embeddings
from partalign.embedding import Embedder
from partalign.engines import EngineName, load_engine
from partalign.errors import PictureError, ShardsError
from partalign.images import read_picture
from partalign.progress import bar, say
from partalign.shards.listing import make_list
from partalign.shards.manifest import Manifest, Precision
from partalign.shards.store import LIST, Shard, Shards, is_shards
from partalign.shards.workers import HERE, Workers
from partalign.weights.info import read_info
from partalign.weights.shipped import find_model


class Done(NamedTuple):
    """What a finished job has: descriptors, crops that could not be read, shards."""

    crops: int
    corrupt: int
    shards: int


def embed_many(
    source: Path,
    out: Path,
    model: str | Path | None = None,
    *,
    shard_size: int = 8192,
    precision: Precision = "float32",
    flip: bool = False,
    engine: EngineName = "auto",
    device: str = "cpu",
    workers: Workers = HERE,
) -> Done:
    """Describe the crops of a folder, or of a table of them, into the folder of shards `out`; goes on where it stands.

    source: as `datasets.folder.walk_crops`. A crop that cannot be read is named in OUT/corrupt.csv. shard_size: crops
    in a shard, what is lost at the most when a worker dies. Raises ShardsError where `out` holds shards of another
    list, model or option, or workers died; DatasetError, WeightsError, DeviceError, SaveError.
    """
    if shard_size < 1:
        raise ShardsError(f"expected shards of one crop at least, found {shard_size}")
    path, folder = find_model(model).absolute(), Path(out).absolute()
    if device != "cpu" and workers.ray is None and path.suffix != ".onnx":
        from partalign.model.device import checked_device  # needs torch, which exported models do not

        checked_device(device)  # before millions of crops are listed; on Ray it is a matter of the workers' machines
    shards = _open(
        Path(source), folder, path, device, shard_size=shard_size, precision=precision, flip=flip, engine=engine
    )
    missing = shards.missing()
    remaining = sum(map(shards.length, missing))
    make = partial(EmbedWorker, folder, path, device)
    with bar("embedding", shards.manifest.crops, completed=shards.manifest.crops - remaining) as advance:
        for shard in workers.run(make, missing):
            advance(shards.length(shard.number))
    shards.require_complete()
    corrupt = shards.finish()
    return Done(shards.manifest.crops - corrupt, corrupt, shards.manifest.shards)


class EmbedWorker:
    """Makes shards of the job in a folder, one after another.

    Raises ShardsError where the folder, the crops or the model are not those of the job: another machine's, say.
    """

    def __init__(self, folder: Path, model: Path, device: str = "cpu"):
        self.shards = Shards.open(folder)
        job, version = self.shards.manifest, read_info(model).version
        if version != job.version:
            raise ShardsError(f"{model}: expected version {job.version}, found {version}: give all machines the same")
        _require_source(self.shards)
        engine = load_engine(model, cast(EngineName, job.engine), device=device, crops=job.crops)
        self.embedder = Embedder(engine, flip=job.flip, on_error="skip")

    def __call__(self, number: int) -> Shard:
        """Make one shard."""
        return embed_shard(self.shards, number, self.embedder)


def embed_shard(shards: Shards, number: int, embedder: Embedder) -> Shard:
    """Describe the crops of one shard and store it, unless it stands. Raises ShardsError, SaveError."""
    if shards.path(number).is_file():
        return shards.about(number)
    crops = shards.listed(number)
    found = _embed_readable(crops, embedder, f"shard {number:05}")
    lost = _lost(crops, found)
    if len(found) + len(lost) < len(crops):  # some could be read when they were looked at again
        found = _embed_readable([crop for place, crop in enumerate(crops) if place not in lost], embedder, "again")
        lost = _lost(crops, found) | lost
    if lost:  # or are they all there, and the file system that they are on is not?
        _require_source(shards)
    if len(found) + len(lost) < len(crops):
        raise ShardsError(f"{shards.manifest.source}: crops can be read at one time and not at another: try again")
    return shards.write(number, found, lost)


def _require_source(shards: Shards) -> None:
    source = shards.manifest.source
    if not Path(source).exists():
        raise ShardsError(f"{source}: the crops cannot be seen from this machine: mount them there too")


def _embed_readable(crops: Sequence[Crop], embedder: Embedder, description: str) -> Embeddings:
    try:
        return embedder.embed(crops, description)
    except PictureError:  # not one of them can be read
        return Embeddings(np.empty((0, embedder.channels), np.float32), ())


def _lost(crops: Sequence[Crop], found: Embeddings) -> dict[int, str]:
    """Return why crops that were not found cannot be read, by their places; nothing of those that can."""
    kept = {crop.path for crop in found.crops}
    return {place: why for place, crop in enumerate(crops) if crop.path not in kept and (why := _problem(crop))}


def _problem(crop: Crop) -> str | None:
    """Say why a crop cannot be read, None where it can."""
    try:
        read_picture(crop.path)
    except PictureError as error:
        return str(error)
    return None


def _open(source: Path, out: Path, model: Path, device: str, **options: Any) -> Shards:
    """Open the job in a folder, or begin it. Raises ShardsError where it is another job."""
    begun = Shards.open(out) if is_shards(out) else None
    say(f"listing {source}")
    notes, first = Counter[str](), {}

    def note(reason: str, name: str) -> None:
        notes[reason] += 1
        first.setdefault(reason, name)

    listed = make_list(source, options["shard_size"], None if begun else out / LIST, note)
    for reason, count in notes.items():
        say(f"{count:,} {reason}: {first[reason]}{', ...' * (count > 1)}")
    info = read_info(model)
    # What the workers will run: a network is converted here, once, and not by each of them.
    engine = options["engine"] if device == "cpu" or model.suffix == ".onnx" else "torch"
    channels = load_engine(model, engine, crops=listed.crops).channels
    wanted = Manifest(
        source=str(source.absolute()),
        crops=listed.crops,
        list_sha256=listed.sha256,
        model=info.name,
        version=info.version,
        dimension=channels,
        **options,
    )
    if begun is not None:
        begun.manifest.refuse_other(wanted, out)
        return begun
    return Shards.begin(out, wanted)

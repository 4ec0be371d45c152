"""A folder of shards:

    DIR/manifest.json         what they are of (`manifest`)
    DIR/list.parquet          all crops, a row group for each shard (`listing`)
    DIR/shards/00000.parquet  descriptors and records of a shard's readable crops, as `Embeddings.save` writes them
    DIR/corrupt.csv           the crops that could not be read, and why

A shard takes its name when it is complete, with the crops that it lacks in its metadata; so one that stands is done,
and workers that do the same shard twice change nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partalign.crops import Crop, Embeddings
from partalign.errors import PartAlignError, ShardsError
from partalign.files import atomic_file, import_pyarrow, read_parquet, write_parquet
from partalign.shards.listing import COLUMNS, read_piece
from partalign.shards.manifest import Manifest, read_manifest

MANIFEST = "manifest.json"
LIST = "list.parquet"


@dataclass(frozen=True)
class Shard:
    """What one shard holds: how many descriptors, and by their place in its list the crops that could not be read."""

    number: int
    crops: int
    corrupt: Mapping[int, str]


@dataclass(frozen=True)
class Shards:
    """A folder of shards, finished or not, and what they are of."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Shards:
        """Open a folder. Raises ShardsError where it holds no shards."""
        return cls(Path(folder).absolute(), read_manifest(Path(folder) / MANIFEST))

    @classmethod
    def begin(cls, folder: Path, manifest: Manifest) -> Shards:
        """Begin a job in a folder with its list. Raises SaveError; ShardsError where there are shards already."""
        if any((folder / "shards").glob("*.parquet")):
            raise ShardsError(f"{folder}: holds shards without a manifest: choose another --out")
        manifest.write(folder / MANIFEST)
        return cls(folder, manifest)

    def path(self, number: int) -> Path:
        """Where a shard is, or will be."""
        return self.folder / "shards" / f"{number:05}.parquet"

    def listed(self, number: int) -> tuple[Crop, ...]:
        """Return the crops that a shard is made of, readable or not. Raises ShardsError."""
        return read_piece(self.folder / LIST, number)

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are not done."""
        folder = self.folder / "shards"
        done = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return [number for number in range(self.manifest.shards) if self.path(number).name not in done]

    def require_model(self, version: str, flip: bool) -> None:
        """Raise ShardsError where these descriptors cannot be compared with those of a model of this version."""
        job = self.manifest
        if (job.version, job.flip) != (version, flip):
            found, other = (
                f"version {v}{' with mirrored crops' * f}" for v, f in ((job.version, job.flip), (version, flip))
            )
            raise ShardsError(
                f"{self.folder}: descriptors of {job.model}, {found}, cannot be compared with those of {other}: "
                "embed both with one model and the same --flip"
            )

    def require_complete(self) -> None:
        """Raise ShardsError where shards are missing."""
        if missing := self.missing():
            raise ShardsError(
                f"{self.folder}: {len(missing):,} of {self.manifest.shards:,} shards are missing, the first is "
                f"{self.path(missing[0]).name}: run the same `partalign embed-many` again to make them"
            )

    def write(self, number: int, found: Embeddings, corrupt: Mapping[int, str]) -> Shard:
        """Store a shard, atomically. corrupt: why crops are not among it, by their place in the shard's list."""
        shard = Shard(number, len(found), corrupt)
        columns = {name: [getattr(crop, name) for crop in found.crops] for name in COLUMNS}
        columns["path"] = [str(path) for path in columns["path"]]
        notes = {"partalign": json.dumps({**self._identity(number), "corrupt": corrupt})}
        vectors = found.vectors.reshape(-1, self.manifest.dimension).astype(self.manifest.precision)
        write_parquet(
            self.path(number), vectors, columns | {"time": np.array(columns["time"], dtype=np.float64)}, notes
        )
        return shard

    def about(self, number: int) -> Shard:
        """Read of a shard only what it holds. Raises ShardsError where it is damaged or of another job."""
        path = self.path(number)
        _, parquet = import_pyarrow(path)
        try:
            with parquet.ParquetFile(path) as file:
                notes = json.loads((file.schema_arrow.metadata or {}).get(b"partalign", b"{}"))
                rows = file.metadata.num_rows
            corrupt = {int(place): str(reason) for place, reason in notes.pop("corrupt", {}).items()}
            whole = rows + len(corrupt) == self.length(number)
        except Exception as error:  # pyarrow raises a dozen kinds on damaged files
            raise self._damaged(path, error) from None
        if notes != self._identity(number) or not whole:
            raise ShardsError(f"{path}: a shard of another job: delete it, and run `partalign embed-many` again")
        return Shard(number, rows, corrupt)

    def read(self, number: int) -> Embeddings:
        """Return a shard's descriptors, float32 and of unit length. Raises ShardsError, MissingExtraError."""
        path, shard = self.path(number), self.about(number)
        try:
            vectors, cells = read_parquet(path, COLUMNS)
            if not shard.crops:
                return Embeddings(np.empty((0, self.manifest.dimension), np.float32), ())
            if vectors.shape != (shard.crops, self.manifest.dimension):
                raise ValueError(f"descriptors of shape {vectors.shape}")
            if self.manifest.precision == "float16":
                vectors /= np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
            rows = zip(*(cells[name] for name in COLUMNS), strict=True)
            return Embeddings(vectors, tuple(Crop(Path(name), *rest) for name, *rest in rows))
        except Exception as error:
            raise self._damaged(path, error) from None

    def paths(self, number: int) -> list[str]:
        """Return the paths of a shard's rows. Raises ShardsError."""
        self.about(number)
        _, parquet = import_pyarrow(self.path(number))
        try:
            return parquet.read_table(self.path(number), columns=["path"])["path"].to_pylist()
        except Exception as error:
            raise self._damaged(self.path(number), error) from None

    def places(self, number: int) -> np.ndarray:
        """Return where in the list of all crops a shard's rows stand, (N,) int."""
        places = np.delete(np.arange(self.length(number)), sorted(self.about(number).corrupt))
        return places + number * self.manifest.shard_size

    def finish(self) -> int:
        """Write `corrupt.csv` and remove what dead workers left half written; returns how many crops are corrupt."""
        for left in (self.folder / "shards").glob(".*.partial"):
            left.unlink(missing_ok=True)
        count = 0
        with atomic_file(self.folder / "corrupt.csv") as file:
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(("path", "shard", "reason"))
            for number in range(self.manifest.shards):
                corrupt = self.about(number).corrupt
                crops = self.listed(number) if corrupt else ()
                for place, reason in corrupt.items():
                    rows.writerow((crops[place].path, self.path(number).name, reason))
                count += len(corrupt)
            text.detach()
        return count

    def __iter__(self) -> Iterator[Embeddings]:
        """Read shard after shard. Raises as `require_complete` and `read`."""
        self.require_complete()
        return map(self.read, range(self.manifest.shards))

    def length(self, number: int) -> int:
        """Return how many crops a shard is made of, readable or not."""
        size = self.manifest.shard_size
        return min(size, self.manifest.crops - number * size)

    def _identity(self, number: int) -> dict[str, str | int]:
        return {"shard": number, "list": self.manifest.list_sha256, "version": self.manifest.version}

    def _damaged(self, path: Path, error: Exception) -> PartAlignError:
        if isinstance(error, ShardsError):
            return error
        told = " ".join(str(error).split())[:200]
        return ShardsError(f"{path}: cannot be read ({told}): delete it, and run `partalign embed-many` again")


def is_shards(folder: Path) -> bool:
    """Whether this is a folder that `partalign embed-many` writes to."""
    return (Path(folder) / MANIFEST).is_file()


def read_shards(folder: Path) -> Embeddings:
    """Read all descriptors of a finished folder of shards into memory, in the order of its list.

    Raises ShardsError where a shard is missing or damaged, MissingExtraError without pyarrow.
    """
    shards = Shards.open(folder)
    shards.require_complete()
    rows = sum(shards.about(number).crops for number in range(shards.manifest.shards))
    vectors, crops, first = np.empty((rows, shards.manifest.dimension), np.float32), [], 0
    for shard in shards:
        vectors[first : first + len(shard)] = shard.vectors
        first += len(shard)
        crops += shard.crops
    return Embeddings(vectors, tuple(crops))

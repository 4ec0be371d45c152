"""The list of crops that a job describes: made once, in a stream, and read piece by piece, one for each shard."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from partalign.crops import Crop
from partalign.datasets.folder import walk_crops
from partalign.datasets.listing import Note
from partalign.datasets.table import find_table
from partalign.errors import DatasetError, ShardsError
from partalign.files import atomic_file, import_pyarrow

COLUMNS = ("path", "person", "camera", "tracklet", "time")

Row = tuple[str, str | None, str | None, str | None, float | None]


class Listed(NamedTuple):
    """How many crops a list has, and the SHA-256 of all that it says of them."""

    crops: int
    sha256: str


def make_list(source: Path, shard_size: int, target: Path | None = None, note: Note | None = None) -> Listed:
    """List the crops of a folder or table with absolute paths, in the order of `datasets.folder.walk_crops`.

    target: the Parquet file to write, atomically, with a row group for each shard; None only counts and hashes. Holds
    one shard's rows, and a few bytes for each line of a table. note: see `datasets.listing.Note`. Raises DatasetError,
    also where there are no crops or a table has two lines for a file; MissingExtraError, SaveError.
    """
    rows = map(_row, walk_crops(Path(os.path.abspath(source)), note))  # noqa: PTH100 - resolve() would follow links
    table = source.is_file() or find_table(source) is not None
    digest, seen, count = hashlib.sha256(), array("q"), 0
    with _writer(target) as write:
        while piece := list(islice(rows, shard_size)):
            write(piece)
            digest.update("".join(json.dumps(row) + "\n" for row in piece).encode())
            if table:
                seen.extend(hash(row[0]) for row in piece)
            count += len(piece)
        if not count:
            raise DatasetError(f"{source}: expected pictures, found none; give the folder that holds the crops")
        _refuse_doubles(source, seen)
    return Listed(count, digest.hexdigest())


def read_piece(file: Path, number: int) -> tuple[Crop, ...]:
    """Return the crops of the shard with this number. Raises ShardsError where the list cannot be read."""
    _, parquet = import_pyarrow(file)
    try:
        with parquet.ParquetFile(file) as table:
            columns = table.read_row_group(number, columns=list(COLUMNS)).to_pydict()
        return tuple(Crop(Path(path), *rest) for path, *rest in zip(*columns.values(), strict=True))
    except Exception as error:  # pyarrow raises a dozen kinds on damaged files
        told = " ".join(str(error).split())[:200]
        raise ShardsError(f"{file}: cannot read the crops of shard {number} ({told}): begin in a new folder") from None


def _row(crop: Crop) -> Row:
    path = str(crop.path)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{path!r}: expected a file name in UTF-8; rename it") from None
    return path, crop.person, crop.camera, crop.tracklet, crop.time


@contextmanager
def _writer(target: Path | None) -> Iterator[Callable[[list[Row]], None]]:
    """Yield what writes a piece of the list as a row group, or does nothing where there is no file to write."""
    if target is None:
        yield lambda piece: None  # noqa: ARG005
        return
    arrow, parquet = import_pyarrow(target)
    kinds = [arrow.float64() if name == "time" else arrow.string() for name in COLUMNS]
    schema = arrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    with atomic_file(target) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:

        def write(piece: list[Row]) -> None:
            columns = dict(zip(COLUMNS, zip(*piece, strict=True), strict=True))
            writer.write_table(arrow.table(columns, schema), row_group_size=len(piece))

        yield write


def _refuse_doubles(source: Path, hashes: array[int]) -> None:
    """Raise where a table has several lines for one file; only the names whose hashes are alike are compared."""
    if not hashes:
        return
    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    alike = set(values[counts > 1].tolist())
    if not alike:
        return
    names: set[str] = set()
    for crop in walk_crops(Path(os.path.abspath(source))):  # noqa: PTH100
        name = str(crop.path)
        if hash(name) in alike:
            if name in names:
                raise DatasetError(f"{source}: a second line for {name}; remove one")
            names.add(name)

"""A file of descriptors: rows of float32, nothing else, mapped into memory. Knows no records.

Rows are written behind the end, or overwritten with zeros; which of them count is known elsewhere.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from partalign.errors import GalleryError

_TYPE = np.dtype("<f4")
_AT_ONCE = 2**26  # bytes
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # a gallery of somebody else may point anywhere


def map_rows(path: Path, rows: int, dimension: int) -> np.ndarray:
    """Return the first `rows` rows (rows, D) of a file, read-only. Raises GalleryError where it is missing or short."""
    expected = rows * dimension * _TYPE.itemsize
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < expected:
                raise GalleryError(
                    f"{path}: expected {expected:,} bytes of descriptors, found {size:,}: the folder was copied only "
                    "in part; copy it again, or restore it from a backup"
                )
            if not rows:
                return np.empty((0, dimension), _TYPE)
            mapped = mmap.mmap(file.fileno(), expected, access=mmap.ACCESS_READ)
    except OSError as error:
        raise GalleryError(
            f"{path}: expected the gallery's descriptors, cannot read them ({error.strerror}): copy the folder again, "
            "or restore it from a backup"
        ) from None
    return np.frombuffer(mapped, _TYPE).reshape(rows, dimension)


def write_rows(path: Path, first: int, vectors: np.ndarray) -> None:
    """Write (N, D) rows from row `first` on, and wait until they are on the disk. Raises OSError."""
    content = memoryview(np.ascontiguousarray(vectors, _TYPE).tobytes())
    file = os.open(path, os.O_WRONLY | os.O_CREAT | _NO_LINK, 0o666)
    try:
        place = first * vectors.shape[1] * _TYPE.itemsize
        while content:
            written = os.pwrite(file, content[:_AT_ONCE], place)
            content, place = content[written:], place + written
        os.fsync(file)
    finally:
        os.close(file)


def wipe_rows(path: Path, rows: list[int], dimension: int) -> None:
    """Overwrite rows with zeros, and wait until they are on the disk. Raises OSError."""
    file = os.open(path, os.O_WRONLY | _NO_LINK)
    try:
        zeros = bytes(dimension * _TYPE.itemsize)
        for row in rows:
            os.pwrite(file, zeros, row * len(zeros))
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

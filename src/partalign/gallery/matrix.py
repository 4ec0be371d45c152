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


class Rows:
    """The first `rows` rows of a file, mapped into memory. Raises GalleryError where the file is missing or short."""

    def __init__(self, path: Path, rows: int, dimension: int):
        self._path, self._expected, self._mapped = path, rows * dimension * _TYPE.itemsize, None
        self._matrix = np.empty((0, dimension), _TYPE)
        try:
            with path.open("rb") as file:
                self._require(os.fstat(file.fileno()).st_size)
                if rows:
                    self._mapped = mmap.mmap(file.fileno(), self._expected, access=mmap.ACCESS_READ)
                    self._matrix = np.frombuffer(self._mapped, _TYPE).reshape(rows, dimension)
        except OSError as error:
            raise GalleryError(
                f"{path}: expected the gallery's descriptors, cannot read them ({error.strerror}): copy the folder "
                "again, or restore it from a backup"
            ) from None

    def matrix(self) -> np.ndarray:
        """Return the rows (rows, D), read-only. Raises GalleryError where the file was made shorter since.

        To touch a mapped byte that is no longer in the file ends the process.
        """
        if self._mapped is not None:
            self._require(self._mapped.size())  # of the file as it is now, also where it has no name any more
        return self._matrix

    def _require(self, size: int) -> None:
        if size < self._expected:
            raise GalleryError(
                f"{self._path}: expected {self._expected:,} bytes of descriptors, found {size:,}: the folder was "
                "copied only in part; copy it again, or restore it from a backup"
            )


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

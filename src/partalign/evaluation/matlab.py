"""Arrays and texts from .mat files of other systems: version 5 to 7, and version 7.3, which is HDF5.

Version 5 is read here and not by SciPy, whose reader follows nested cells until the stack ends and the process with
it. Only what descriptors need is read: numbers, text, and cells of either; all else is refused where it is asked for,
and nothing in a file is run. Sizes are checked before memory is taken.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from partalign.errors import MissingExtraError
from partalign.files import require_plausible

Variable = np.ndarray | list[Any]
"""Numbers as an array of MATLAB's shape; text and cells as a list of str or numbers."""

_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _CHAR = 1, 4
_NUMERIC = range(6, 16)


def read_version_5(path: Path, names: Collection[str]) -> dict[str, Variable]:
    """Read the named variables of a version 5 file (what MATLAB saves as -v6 and -v7), those that are there.

    Raises ValueError, or what zlib and NumPy raise, where the file is damaged or a variable of another kind.
    """
    found = {}
    with Path(path).open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:])
        if order is None:
            raise ValueError("the header is damaged")
        for content in _matrices(file, order):
            matrix = _Matrix(content, order)
            if matrix.name in names:
                found[matrix.name] = matrix.value()
    return found


def _matrices(file: BinaryIO, order: str) -> Iterator[memoryview]:
    """Yield the content of each variable, unpacked."""
    while tag := file.read(8):
        kind, size = _integers(tag, order)
        # A file is read only as far as it goes, whatever it claims.
        content = _read(file, size)
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            kind, size = _integers(unpacker.decompress(content, 8), order)
            require_plausible(size, len(content))
            content = unpacker.decompress(unpacker.unconsumed_tail, max(1, size))
        if kind != _MATRIX or len(content) != size:
            raise ValueError(f"expected a variable of {size:,} bytes, found {len(content):,} of kind {kind}")
        yield memoryview(content)


def _read(file: BinaryIO, size: int) -> bytes:
    here = file.tell()
    left = file.seek(0, 2) - here
    file.seek(here)
    if size > left:
        raise ValueError(f"it ends early: {size:,} bytes are announced, {left:,} are left")
    return file.read(size)


def _integers(data: bytes | memoryview, order: str) -> tuple[int, ...]:
    return struct.unpack(f"{order}{len(data) // 4}I", data)


class _Matrix:
    """One variable, or one cell of one: what its header says, and its data, not yet looked at."""

    def __init__(self, content: memoryview, order: str):
        self._content, self._order, self._at = content, order, 0
        flags, shape, name = (self._element()[1] for _ in range(3))
        self._class, self._complex = _integers(flags, order)[0] & 0xFF, _integers(flags, order)[0] & 0x800
        self._shape = tuple(int(side) for side in np.frombuffer(shape, order + "i4"))
        self.name = bytes(name).decode("latin-1")
        if min(self._shape, default=-1) < 0:
            raise ValueError(f"{self.name} is of shape {self._shape}")

    def value(self, *, cells: bool = True) -> Variable:
        """Return the content. cells: whether cells are read; those within cells are not."""
        if self._class == _CELL and cells:
            return self._cells()
        if self._class not in (_CHAR, *_NUMERIC) or self._complex:
            raise ValueError(f"{self.name or 'a cell'} holds neither numbers nor text (class {self._class})")
        kind, data = self._element()
        if self._class == _CHAR:
            if kind not in _TEXTS:
                raise ValueError(f"{self.name or 'a cell'} has text of unknown kind {kind}")
            wide = {"utf-16": "-le", "utf-32": "-le"} if self._order == "<" else {"utf-16": "-be", "utf-32": "-be"}
            return text_rows(bytes(data).decode(_TEXTS[kind] + wide.get(_TEXTS[kind], "")), self._shape)
        if kind not in _NUMBERS:
            raise ValueError(f"{self.name or 'a cell'} has numbers of unknown kind {kind}")
        return np.frombuffer(data, self._order + _NUMBERS[kind]).reshape(self._shape, order="F")

    def _cells(self) -> list[Any]:
        values = []
        while self._at < len(self._content):
            kind, data = self._element()
            if kind != _MATRIX:
                raise ValueError(f"{self.name} has a cell of kind {kind}")
            values.append(single(_Matrix(data, self._order).value(cells=False)) if len(data) else None)
        if len(values) != math.prod(self._shape):
            raise ValueError(f"{self.name} has {len(values):,} cells, but is of shape {self._shape}")
        return values

    def _element(self) -> tuple[int, memoryview]:
        """Return the kind and the data of the next element, and step over it."""
        first, size = _integers(self._content[self._at : self._at + 8], self._order)
        if first >> 16:  # of up to four bytes, which lie in the tag itself
            kind, size, start = first & 0xFFFF, first >> 16, self._at + 4
            self._at += 8
        else:
            kind, start = first, self._at + 8
            self._at = start + size + -size % 8
        if start + size > len(self._content) or (first >> 16 and size > 4):
            raise ValueError(f"{size:,} bytes are announced beyond the end of a variable")
        return kind, self._content[start : start + size]


def text_rows(text: str, shape: tuple[int, ...]) -> list[str]:
    """Return the rows of a matrix of characters, which are stored column by column, without their padding."""
    if len(shape) != 2 or len(text) != math.prod(shape):
        raise ValueError(f"{len(text):,} characters cannot be text of shape {shape}")
    return [text[row :: shape[0]].rstrip(" \0") for row in range(shape[0])]


def single(value: Variable) -> Any:
    """Return the only entry of a cell's content. Raises ValueError where it has several; None where it has none."""
    entries = value if isinstance(value, list) else value.ravel().tolist()
    if len(entries) > 1:
        raise ValueError(f"expected one name or number in each cell, found {len(entries):,}")
    return entries[0] if entries else None


def read_version_73(path: Path, names: Collection[str]) -> dict[str, Variable]:
    """Read the named variables of a version 7.3 file or of another HDF5 file, those that are there.

    MATLAB writes its arrays transposed, and marks them; others stay as they are. Raises MissingExtraError where h5py
    is not installed, ValueError, or what h5py raises, where the file is damaged or a variable of another kind.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtraError(f'{path} needs h5py to be read: pip install "partalign[data]"') from None
    size = Path(path).stat().st_size
    with h5py.File(path, "r", locking=False) as file:  # network file systems often have no locks
        links = {name: file.get(name, getlink=True) for name in names}
        if foreign := [name for name, link in links.items() if not isinstance(link, h5py.HardLink | None)]:
            raise ValueError(f"{', '.join(foreign)}: a link")
        return {name: _hdf5_value(file, file[name], size) for name, link in links.items() if link is not None}


def _hdf5_value(file: Any, dataset: Any, size: int) -> Variable:
    import h5py

    if isinstance(dataset, h5py.Dataset) and h5py.check_ref_dtype(dataset.dtype) is h5py.Reference:
        return [_hdf5_single(file, reference, size) for reference in _hdf5_array(dataset, "O", size).ravel()]
    array = _hdf5_array(dataset, "fiub", size)
    kind = dataset.attrs.get("MATLAB_class")
    if kind is None:
        return array
    if kind == b"char":
        text = array.astype("<u2").tobytes().decode("utf-16-le")
        return text_rows(text, dataset.shape[::-1])
    return array.T


def _hdf5_array(dataset: Any, kinds: str, size: int) -> np.ndarray:
    """Read an array of a file of `size` bytes, if that is plausible and it lies in that file."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in kinds or dataset.shape is None:
        raise ValueError(f"expected numbers or text, found {dataset!r}")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} lies in another file")
    # Chunks are unpacked as wholes, however small the array.
    require_plausible(max(dataset.nbytes, math.prod(dataset.chunks or ()) * dataset.dtype.itemsize), size)
    return dataset[()] if dataset.ndim else np.atleast_1d(dataset[()])


def _hdf5_single(file: Any, reference: Any, size: int) -> Any:
    target = file[reference]
    if target.dtype.kind == "O":
        raise ValueError("cells within cells are not read")
    return None if target.attrs.get("MATLAB_empty") else single(_hdf5_value(file, target, size))

"""MATLAB files of either kind, read without trust: version 5 here, version 7.3, which is HDF5, by h5py.

The size, kind and place of an array are looked at before it is read, so that no file makes a reader take gigabytes.
Nothing in them is run. HDF5 shows MATLAB's arrays transposed. Knows nothing of data sets.

Version 5 is a list of elements, each a type, a size and so many bytes ("MAT-File Format", The MathWorks). SciPy's
reader takes a type that does not exist as a place in memory, and ends the process.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partalign.errors import DatasetError, MissingExtraError

if TYPE_CHECKING:
    import h5py

_HDF5 = b"\x89HDF\r\n\x1a\n"
_SLACK = 65_536  # bytes that small arrays may be stored in beyond their size

# Types of elements, and classes of variables.
_MATRIX, _PACKED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_LETTERS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_CELL, _TEXT, _NUMERIC = 1, 4, range(6, 16)
_COMPLEX = 0x800

_Element = tuple[int, memoryview]


def read_tables(path: Path, names: Sequence[str], *, max_bytes: int = 16_000_000) -> dict[str, np.ndarray]:
    """Read variables of a version 5 file: arrays of numbers, and cell arrays of numbers and text (as objects).

    max_bytes: of the file, and of each variable when unpacked. Raises DatasetError where the file is of another kind,
    damaged or larger, or lacks a variable.
    """
    _require_version(path, "5")
    try:
        if path.stat().st_size > max_bytes:
            raise ValueError(f"more than {max_bytes:,} bytes")
        content = path.read_bytes()
        order = "<" if content[126:128] == b"IM" else ">"
        tables = dict(_variables(memoryview(content)[128:], order, names, max_bytes))
        if missing := [name for name in names if name not in tables]:
            raise ValueError(f"no {', '.join(missing)}")
    except (OSError, ValueError, KeyError, struct.error, zlib.error) as error:
        raise unreadable(path, error) from None
    return tables


def _variables(data: memoryview, order: str, names: Sequence[str], max_bytes: int) -> Iterator[tuple[str, np.ndarray]]:
    for kind, content in _elements(data, order):
        if kind == _PACKED:
            stream = zlib.decompressobj()
            unpacked = stream.decompress(content, max_bytes)
            if not stream.eof:
                raise ValueError(f"cut off, or more than {max_bytes:,} bytes unpacked")
            ((kind, content),) = _elements(memoryview(unpacked), order)
        name, flags, shape, parts = _header(kind, content, order)
        if name in names:
            yield name, np.asarray(_value(flags, shape, parts, order))


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield the type and content of one element after the other."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start, small = place + 8, kind >> 16
        if small:  # up to four bytes, in the place of the size
            kind, size, start = kind & 0xFFFF, min(small, 4), place + 4
        if start + size > len(data):
            raise ValueError("cut off")
        yield kind, data[start : start + size]
        # All but packed ones are filled up to eight bytes.
        place += 8 if small else 8 + (size if kind == _PACKED else (size + 7) // 8 * 8)


def _header(kind: int, data: memoryview, order: str) -> tuple[str, int, list[int], list[_Element]]:
    """Return the name, flags and shape of a variable, and the elements with its values."""
    if kind != _MATRIX:
        raise ValueError(f"element of type {kind} where a variable was expected")
    (_, flags), (_, shape), (_, name), *parts = _elements(data, order)
    sizes = np.frombuffer(shape, f"{order}i4")
    if len(sizes) < 2 or sizes.min() < 0:
        raise ValueError(f"variable of size {sizes.tolist()}")
    return bytes(name).decode(), struct.unpack_from(f"{order}I", flags)[0], sizes.tolist(), parts


def _value(flags: int, shape: list[int], parts: list[_Element], order: str) -> np.ndarray | str:
    kind = flags & 0xFF
    if kind == _CELL:
        entries = np.empty(len(parts), dtype=object)
        for place, part in enumerate(parts):
            _, inner, size, values = _header(*part, order)
            if inner & 0xFF == _CELL:
                raise ValueError("cells in cells")
            entries[place] = _value(inner, size, values, order)
        return entries.reshape(shape, order="F")
    if kind not in (_TEXT, *_NUMERIC) or flags & _COMPLEX:
        raise ValueError(f"variable of class {kind}, flags {flags:#x}")
    ((stored, data),) = parts
    if kind == _TEXT:
        codec = _LETTERS[stored]
        return bytes(data).decode(codec if codec != "utf-16" else "utf-16-le" if order == "<" else "utf-16-be")
    return np.frombuffer(data, order + _NUMBERS[stored]).reshape(shape, order="F")


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a version 7.3 file; whatever cannot be read in the `with` block becomes a DatasetError.

    Raises MissingExtraError without h5py.
    """
    _require_version(path, "7.3")
    try:
        import h5py
    except ImportError:
        raise MissingExtraError(f'{path} needs h5py to be read: pip install "partalign[data]"') from None
    try:
        # No lock: it is only read, and network file systems often have none.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise unreadable(path, error) from None


def read_array(dataset: Any, kind: str, max_bytes: int) -> np.ndarray:
    """Read an array of an open HDF5 file, transposed as it is there.

    kind: NumPy's letter, "u" or "f". Raises ValueError where it is none of that kind, too large, or in another file.
    """
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != kind:
        raise ValueError(f"expected an array of kind {kind}, found {dataset!r}")
    # Chunks are unpacked as wholes, however small the array.
    chunk = float(np.prod(dataset.chunks or (1,), dtype=float)) * dataset.dtype.itemsize
    if max(dataset.nbytes, chunk, dataset.id.get_storage_size()) > max_bytes + _SLACK:
        raise ValueError(f"an array too large, {dataset.shape} in chunks of {dataset.chunks}")
    if dataset.external or dataset.is_virtual:
        raise ValueError("an array that lies in another file")
    return dataset[()]


def read_cell(dataset: Any, max_entries: int) -> np.ndarray:
    """Read a cell array: references, transposed, for `file[reference]`. Raises ValueError as `read_array` does."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or h5py.check_ref_dtype(dataset.dtype) is not h5py.Reference:
        raise ValueError(f"expected a cell array, found {dataset!r}")
    return read_array(dataset, "O", 8 * max_entries)


def is_empty(dataset: Any) -> bool:
    """Whether an array is empty. MATLAB has no one-dimensional arrays: one in the file is the size of an empty one."""
    return getattr(dataset, "size", None) == 0 or getattr(dataset, "ndim", None) == 1


def unreadable(path: Path, error: Exception) -> DatasetError:
    """Return the error that a damaged file is reported by."""
    told = (str(error).splitlines() or [""])[0][:200]
    return DatasetError(f"{path}: damaged or of another content ({type(error).__name__}: {told}); download it again")


def _require_version(path: Path, version: str) -> None:
    if not path.is_file():
        raise DatasetError(f"{path}: expected this file, it is missing; download it")
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    found = _kind(head)
    if found != f"a MATLAB file of version {version}":
        raise DatasetError(f"{path}: expected a MATLAB file of version {version}, found {found}; download it again")


def _kind(head: bytes) -> str:
    if _HDF5 in (head[:8], head[512:520]):
        return "a MATLAB file of version 7.3"
    if head.startswith(b"MATLAB 5.0 MAT-file"):
        return "a MATLAB file of version 5"
    if not head:
        return "an empty file"
    if head.lstrip()[:1] == b"<":
        return "a web page"
    return "a zip file, to be unpacked" if head.startswith(b"PK") else "another kind of file"

"""MATLAB files, read without trust: version 5, which is what -v6 and -v7 save, and version 7.3, which is HDF5, by h5py.

The size, kind and place of an array are looked at before memory is taken, and nothing in a file is run. Version 5 is a
list of elements, each a type, a size and so many bytes ("MAT-File Format", The MathWorks). SciPy's reader takes a type
that does not exist as a place in memory, and follows nested cells until the stack ends: either ends the process.
Knows nothing of data sets and descriptors.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from partalign.errors import MatlabError, MissingExtraError, PartAlignError
from partalign.files import largest_plausible

if TYPE_CHECKING:
    import h5py

VERSION_5, VERSION_73 = "a MATLAB file of version 5", "a MATLAB file of version 7.3"

_SLACK = 65_536  # bytes that small arrays may be stored in beyond their size
_PIECE = 65_536  # bytes that are unpacked at a time

# Types of elements, and classes of variables.
_MATRIX, _PACKED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-{}", 16: "utf-8", 17: "utf-16-{}", 18: "utf-32-{}"}
_CELL, _CHAR, _NUMERIC, _COMPLEX = 1, 4, range(6, 16), 0x800


def read_variables(
    path: Path, names: Collection[str], *, missing_ok: bool = False, max_bytes: int | None = None
) -> dict[str, np.ndarray]:
    """Read variables of a file of either version: numbers, text, and cells that hold one number or one text each.

    Numbers are of MATLAB's shape, or as they lie in an HDF5 file that MATLAB has not written. Text is an array of its
    rows, padded as they are. Cells are an array of objects: numbers, str, or None where empty.
    missing_ok: leave out variables that are not there. max_bytes: of the file, and of each variable when unpacked;
    None: what a file of this size can plausibly hold. Raises MatlabError where the file is missing, of another kind,
    damaged or larger, or lacks a variable, MissingExtraError where it needs h5py, which is not installed.
    """
    with reading(path):
        version, size = _require_version(path, VERSION_5, VERSION_73), path.stat().st_size
        most = max_bytes or largest_plausible(size)
        if size > most:
            raise ValueError(f"more than {most:,} bytes")
        found = (_read_version_5 if version == VERSION_5 else _read_version_73)(path, names, most)
        if not missing_ok and (missing := [name for name in names if name not in found]):
            raise ValueError(f"no {', '.join(missing)}")
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong in the `with` block into one MatlabError that names the file; our own errors pass."""
    try:
        yield
    except PartAlignError:
        raise
    except Exception as error:  # zlib, NumPy and h5py raise a dozen kinds on damaged files
        if isinstance(error, OSError) and error.strerror:
            told = f"expected a MATLAB file, cannot read it ({error.strerror}); check the path and its rights"
        else:
            told = " ".join(f"{type(error).__name__}: {error}".split())[:250]
            told = f"damaged or of another content ({told}); save or download it again"
        raise MatlabError(f"{path}: {told}") from None


def kind_of_file(path: Path) -> str:
    """Say what a file is by its first bytes: `VERSION_5`, `VERSION_73`, or something else in a few words."""
    with path.open("rb") as file:
        head = file.read(520)
    if b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:]):
        return VERSION_73
    if head[124:128] in (b"\x00\x01IM", b"\x01\x00MI"):
        return VERSION_5
    if not head:
        return "an empty file"
    if head.lstrip()[:1] == b"<":
        return "a web page"
    return "a zip file, to be unpacked" if head.startswith(b"PK") else "another kind of file, or version 4"


def _require_version(path: Path, *versions: str) -> str:
    found = kind_of_file(path)
    if found not in versions:
        raise MatlabError(f"{path}: expected {' or '.join(versions)}, found {found}; save or download it again")
    return found


def _read_version_5(path: Path, names: Collection[str], most: int) -> dict[str, np.ndarray]:
    found, start, end = {}, 128, path.stat().st_size
    with path.open("rb") as file:
        order = "<" if file.read(start)[126:] == b"IM" else ">"
        while start < end:
            kind, size = struct.unpack(f"{order}II", file.read(8))
            start += 8 + size
            if start > end:
                raise ValueError(f"cut off: {start - end:,} of {size:,} bytes are missing")
            if kind == _PACKED:
                ((kind, content),) = _elements(memoryview(_unpacked(file, size, most)), order)
            else:
                content = memoryview(file.read(size))
            if kind != _MATRIX:
                raise ValueError(f"element of type {kind} where a variable was expected")
            name, value = _variable(content, order, names)
            if value is not None:
                found[name] = value
            file.seek(start)
    return found


def _unpacked(file: BinaryIO, size: int, most: int) -> bytearray:
    """Unpack `size` bytes, a piece at a time, so that a variable is never held both packed and unpacked."""
    unpacker, content = zlib.decompressobj(), bytearray()
    for start in range(0, size, _PIECE):
        content += unpacker.decompress(file.read(min(_PIECE, size - start)))
        if len(content) > most:
            raise ValueError(f"more than {most:,} bytes unpacked")
    if not unpacker.eof:
        raise ValueError("cut off")
    return content


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and content of one element after the other."""
    while data:
        kind, size = struct.unpack_from(f"{order}II", data)
        start, limit = 8, len(data)
        if kind >> 16:  # up to four bytes, in the place of the size
            kind, size, start, limit = kind & 0xFFFF, kind >> 16, 4, 8
        end = start + size
        if end > limit:
            raise ValueError(f"cut off: {size:,} bytes are announced, {limit - start:,} are left")
        yield kind, data[start:end]
        data = data[end + -end % 8 :]


def _variable(data: memoryview, order: str, names: Collection[str] | None = None) -> tuple[str, np.ndarray | None]:
    """Return the name and value of a variable; None where it is not among the names. A cell has none to be among."""
    elements = _elements(data, order)
    (_, flags), (_, sides), (_, name) = islice(elements, 3)
    name, flags = bytes(name).decode("latin-1"), struct.unpack_from(f"{order}I", flags)[0]
    if names is not None and name not in names:
        return name, None
    shape, kind = np.frombuffer(sides, f"{order}i4").tolist(), flags & 0xFF
    if min(shape, default=-1) < 0:
        raise ValueError(f"{name} is of shape {shape}")
    if kind == _CELL and names is None:
        raise ValueError("cells in cells")
    if kind == _CELL:
        cells = [_only(_variable(cell, order)[1]) if cell else None for _, cell in elements]
        return name, np.array(cells, dtype=object).reshape(shape, order="F")
    if kind not in (_CHAR, *_NUMERIC) or flags & _COMPLEX:
        raise ValueError(f"{name or 'a cell'} is neither numbers nor text: class {kind}, flags {flags:#x}")
    ((stored, content),) = elements
    if kind == _CHAR:
        return name, _rows(bytes(content).decode(_TEXTS[stored].format("le" if order == "<" else "be")), shape)
    return name, np.frombuffer(content, order + _NUMBERS[stored]).reshape(shape, order="F")


def _rows(text: str, shape: Sequence[int]) -> np.ndarray:
    """Return the rows of a matrix of characters, which are stored column by column."""
    if len(shape) != 2 or (shape[0] != 1 and len(text) != math.prod(shape)):
        raise ValueError(f"{len(text):,} characters cannot be text of shape {tuple(shape)}")
    return np.array([text[row :: shape[0]] for row in range(shape[0] if text else 0)], dtype=object)


def _only(value: np.ndarray | None) -> Any:
    """Return the only entry of a cell's value; None where it has none."""
    entries = () if value is None else value.flat[:2].tolist()
    if len(entries) > 1:
        raise ValueError("expected one number or text in each cell, found several")
    return entries[0] if entries else None


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a version 7.3 file; whatever cannot be read in the `with` block becomes a MatlabError.

    Raises MissingExtraError without h5py.
    """
    with reading(path):
        _require_version(path, VERSION_73)
        try:
            import h5py
        except ImportError:
            raise MissingExtraError(f'{path} needs h5py to be read: pip install "partalign[data]"') from None
        # No lock: it is only read, and network file systems often have none.
        with h5py.File(path, "r", locking=False) as file:
            yield file


def read_array(dataset: Any, kinds: str, max_bytes: int) -> np.ndarray:
    """Read an array of an open HDF5 file, transposed as MATLAB's are there.

    kinds: NumPy's letters; "O" is for cells, read as references for `file[reference]`. Raises ValueError where it is of
    another kind, too large, or in another file.
    """
    import h5py

    kind = dataset.dtype.kind if isinstance(dataset, h5py.Dataset) and dataset.shape is not None else ""
    if not kind or kind not in kinds or (kind == "O" and h5py.check_ref_dtype(dataset.dtype) is not h5py.Reference):
        raise ValueError(f"expected numbers, text or cells (kind {kinds}), found {dataset!r}")
    # Chunks are unpacked as wholes, however small the array.
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if max(dataset.nbytes, chunk, dataset.id.get_storage_size()) > max_bytes + _SLACK:
        raise ValueError(f"{dataset.name} is too large, {dataset.shape} in chunks of {dataset.chunks}")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} lies in another file")
    return np.atleast_1d(dataset[()])


def is_empty(dataset: Any) -> bool:
    """Whether an array is empty. MATLAB has no one-dimensional arrays: one in the file is the size of an empty one."""
    return getattr(dataset, "size", None) == 0 or getattr(dataset, "ndim", None) == 1


def _read_version_73(path: Path, names: Collection[str], most: int) -> dict[str, np.ndarray]:
    with open_hdf5(path) as file:
        import h5py

        links = {name: link for name in names if (link := file.get(name, getlink=True))}
        if foreign := [name for name, link in links.items() if not isinstance(link, h5py.HardLink)]:
            raise ValueError(f"{', '.join(foreign)}: a link")
        return {name: _hdf5_value(file, file[name], most, "fiubO") for name in links}


def _hdf5_value(file: h5py.File, dataset: Any, most: int, kinds: str) -> np.ndarray:
    array = read_array(dataset, kinds, most)
    if array.dtype.kind == "O":
        cells = [_only(_hdf5_value(file, file[reference], _SLACK, "fiub")) for reference in array.flat]
        return np.array(cells, dtype=object).reshape(array.shape).T
    kind = dataset.attrs.get("MATLAB_class")
    if kind is None:
        return array
    if is_empty(dataset):
        return np.empty((0, 0))
    if kind == b"char":
        return _rows(array.astype("<u2").tobytes().decode("utf-16-le"), array.shape[::-1])
    return array.T

"""MATLAB files of either kind, read without trust: version 5 by SciPy, version 7.3, which is HDF5, by h5py.

The size, kind and place of an array are looked at before it is read, so that no file makes a reader take gigabytes.
Nothing in them is run. HDF5 shows MATLAB's arrays transposed. Knows nothing of data sets.
"""

from __future__ import annotations

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


def read_tables(path: Path, names: Sequence[str], *, max_entries: int) -> dict[str, np.ndarray]:
    """Read the named variables of a version 5 file.

    Raises DatasetError where it is of another kind or damaged, lacks one of them, or they have more entries together.
    """
    _require_version(path, "5")
    import scipy.io

    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path) if name in names}
        if missing := [name for name in names if name not in shapes]:
            raise KeyError(f"no {', '.join(missing)}")
        if sum(float(np.prod(shape, dtype=float)) for shape in shapes.values()) > max_entries:
            raise ValueError(f"more than {max_entries:,} entries")
        # Packed to a thousandth at the most, which bounds what unpacking takes.
        if path.stat().st_size > 100 * max_entries:
            raise ValueError(f"more than {100 * max_entries:,} bytes")
        content = scipy.io.loadmat(path, variable_names=list(names))
        return {name: np.asarray(content[name]) for name in names}
    except Exception as error:  # SciPy raises a dozen kinds on damaged files
        raise unreadable(path, error) from None


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

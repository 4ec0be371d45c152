"""Files: written so that a crash or a full disk loses nothing, and arrays read without trust.

What a file claims to hold is compared with its size before memory is taken, and no pickle is ever loaded.
"""

import os
import secrets
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from partalign.errors import MissingExtraError, SaveError

_ALWAYS_ALLOWED = 64 * 2**20  # bytes that any file may claim to hold
_MOST_PACKED = 100  # above that, how many times its own size; descriptors pack to a half at the best
_ROWS_AT_A_TIME = 8192


class atomic_file:  # noqa: N801 - used as a function
    """Context manager: a binary file that takes its name only when it is complete; else the old one stays.

    sync: wait until it is on the disk, so that it also outlives a power cut; too slow for thousands of small files.
    Raises SaveError where the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path, *, sync: bool = True):
        self.path = Path(path)
        self._sync = sync
        # Not the process's number: containers on two machines that share a folder often have the same.
        self._partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")

    def __enter__(self):
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")
        except OSError as error:
            raise self._failure(error) from None
        return self._file

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self._file.flush()
                if self._sync:
                    os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                self._partial.replace(self.path)
                return
        except OSError as failure:
            with suppress(OSError):  # closing writes what is left, and fails again on a full disk
                self._file.close()
            self._partial.unlink(missing_ok=True)
            raise self._failure(failure) from None
        self._partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> SaveError:
        return SaveError(
            f"{self.path}: cannot be written ({error.strerror or error}); free space or choose another place"
        )


def check_ending(path: Path, *endings: str) -> Path:
    """Return the path of a file to write. Raises SaveError where its name has none of these endings (".npz").

    To be called before work that takes minutes: a file under a name that says something else is found by nobody.
    """
    path = Path(path)
    if path.suffix.lower() not in endings or path.is_dir():
        raise SaveError(f"{path}: expected a file's name that ends in {' or '.join(endings)}; choose another")
    return path


def largest_plausible(stored: int) -> int:
    """Return how many bytes a file, or a part of one, of `stored` bytes may at the most claim to hold unpacked."""
    return max(_ALWAYS_ALLOWED, _MOST_PACKED * stored)


def require_plausible(claimed: int, stored: int) -> None:
    """Raise ValueError where a file, or a part of one, of `stored` bytes claims to hold far more than that unpacked."""
    if claimed > largest_plausible(stored):
        raise ValueError(f"{stored:,} bytes claim to hold {claimed:,}")


def read_npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read the named arrays of a .npz file, those that are there.

    Raises ValueError where one is of Python objects or of another size than it says, and whatever `zipfile` and NumPy
    raise on damaged files.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        for name in names:
            if name in members:
                _check_npy(archive, members[name], Path(path).stat().st_size)
                with archive.open(members[name]) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _check_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> None:
    """Raise ValueError where a member of a .npz file is not numbers or text, of just the size that its header says."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} is of an unknown version {version}")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds pickled objects, which are never loaded")
        # Python's numbers: a product of NumPy's could overflow. Items of no size could be any number.
        count = 1
        for side in shape:
            count *= side
        if dtype.kind not in "fiubUS" or min(shape, default=0) < 0 or count * dtype.itemsize < count:
            raise ValueError(f"{member.filename} holds no numbers or text but {dtype}, {shape}")
        if count * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename} of {member.file_size:,} bytes claims to hold {shape} of {dtype}")
    require_plausible(member.file_size, size)


def write_parquet(
    path: Path,
    vectors: np.ndarray,
    columns: Mapping[str, Sequence[str | None] | np.ndarray],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a table, atomically: vectors, (N, D), row by row as column `vector`, and columns of text or of numbers.

    Numbers are a float array, in which NaN becomes an empty cell. notes: kept in the file's metadata. Raises
    SaveError, and MissingExtraError where pyarrow is not installed.
    """
    arrow, parquet = import_pyarrow(path)
    values = arrow.array(np.ascontiguousarray(vectors).reshape(-1))
    table = {"vector": arrow.FixedSizeListArray.from_arrays(values, max(1, vectors.shape[1]))}
    for name, column in columns.items():
        kind = arrow.float64() if isinstance(column, np.ndarray) else arrow.string()
        table[name] = arrow.array(column, kind, from_pandas=True)
    content = arrow.table(table).replace_schema_metadata(notes)
    with atomic_file(path) as file:
        parquet.write_table(
            content, file, row_group_size=_ROWS_AT_A_TIME, use_dictionary=list(columns), compression="none"
        )


def read_parquet(path: Path, names: Iterable[str]) -> tuple[np.ndarray, dict[str, list]]:
    """Read (vectors, other columns): (N, D) float32 from `vector` or `embedding`, and those of `names` that are there.

    Cells of the others are as pyarrow gives them, None where empty. Raises MissingExtraError where pyarrow is not
    installed, ValueError where vectors are missing, differ in length or are no numbers, or the file is implausibly
    small, and whatever pyarrow raises on damaged files.
    """
    _, parquet = import_pyarrow(path)
    size = Path(path).stat().st_size
    with parquet.ParquetFile(path) as file:
        metadata, present = file.metadata, file.schema_arrow.names
        vector = next((name for name in ("vector", "embedding") if name in present), None)
        if vector is None:
            raise ValueError(f"expected a column `vector`, found {', '.join(present)[:200] or 'none'}")
        require_plausible(sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)), size)
        if metadata.num_rows > size:
            raise ValueError(f"{size:,} bytes claim to hold {metadata.num_rows:,} rows")
        others = [name for name in names if name in present]
        vectors, cells, first = np.empty((0, 0), np.float32), {name: [] for name in others}, 0
        for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=[vector, *others]):
            rows = _matrix(batch.column(vector))
            if not first:
                require_plausible(4 * metadata.num_rows * rows.shape[1], size)
                vectors = np.empty((metadata.num_rows, rows.shape[1]), np.float32)
            vectors[first : first + len(rows)] = rows
            first += len(rows)
            for name in others:
                cells[name] += batch.column(name).to_pylist()
        return vectors[:first], cells


def _matrix(column: Any) -> np.ndarray:
    """Return a pyarrow array of equally long lists of numbers as rows."""
    kind = getattr(column.type, "value_type", None)
    values = column.flatten() if kind is not None else column
    if kind is None or values.null_count or column.null_count or not len(column):
        raise ValueError(f"expected a list of numbers in each row, found {column.type} with empty cells")
    numbers = values.to_numpy(zero_copy_only=False)
    width = len(numbers) // len(column)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "fiu" or not width or (lengths != width).any():
        raise ValueError(f"expected lists of numbers, all as long, found {column.type} of {lengths.min()} and more")
    return numbers.reshape(len(column), width)


def import_pyarrow(path: Path) -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet, which `path` needs. Raises MissingExtraError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(f'{path}: Parquet needs pyarrow: pip install "partalign[data]"') from None
    return pyarrow, pyarrow.parquet

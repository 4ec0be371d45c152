"""A gallery as one Parquet file, and back: records, descriptors, thumbnails, and which model made them.

Written and read some thousand records at a time, so that no more than these are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from partalign.errors import GalleryError, MissingExtraError, SaveError
from partalign.files import atomic_file, check_ending, require_plausible
from partalign.gallery.base import EVERYTHING, Gallery
from partalign.gallery.records import Added, Filter, ModelName, Record

FORMAT = 1

_AT_ONCE = 2048
_KEY = b"partalign"
_COLUMNS = tuple(field.name for field in fields(Record))


def export_gallery(gallery: Gallery, path: Path, where: Filter = EVERYTHING, *, who: str | None = None) -> int:
    """Write all records that pass to a Parquet file, atomically; returns how many. Raises GalleryError, SaveError.

    who: as of `Gallery`.
    """
    check_ending(path, ".parquet")
    arrow, parquet = _pyarrow(path)
    kinds = {name: arrow.string() for name in _COLUMNS}
    kinds |= {"time": arrow.float64(), "added": arrow.float64(), "tags": arrow.list_(arrow.string())}
    kinds |= {"box": arrow.list_(arrow.float64()), "thumbnail": arrow.binary()}
    kinds["vector"] = arrow.list_(arrow.float32(), gallery.model.dimension)
    model = gallery.model
    about = {"format": FORMAT, "model": model.name, "version": model.version, "dimension": model.dimension}
    schema = arrow.schema(list(kinds.items()), {_KEY: json.dumps(about)})
    count = 0
    with atomic_file(path) as file:
        with parquet.ParquetWriter(file, schema, write_page_checksum=True) as writer:
            for page in gallery.pages(where, _AT_ONCE):
                ids = [record.id for record in page]
                pictures = gallery.thumbnails(ids)
                table: dict[str, Any] = {name: [getattr(record, name) for record in page] for name in _COLUMNS}
                table["thumbnail"] = [pictures.get(name) for name in ids]
                values = arrow.array(gallery.vectors(ids).reshape(-1), arrow.float32())
                table["vector"] = arrow.FixedSizeListArray.from_arrays(values, model.dimension)
                writer.write_table(arrow.table(table, schema))
                count += len(page)
        gallery.log_reading("export", who, where, records=count)  # before the file is there: no export without a line
    return count


def read_model(path: Path) -> ModelName:
    """Return which model made the descriptors of an exported file. Raises GalleryError."""
    _, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path) as file:
            about = json.loads((file.schema_arrow.metadata or {})[_KEY])
            found = ModelName(str(about["model"]), str(about["version"]), int(about["dimension"]))
            version = int(about["format"])
    except Exception as error:  # pyarrow raises a dozen kinds on damaged files
        raise GalleryError(_unreadable(path, error)) from None
    if version > FORMAT:
        raise GalleryError(f"{path}: expected format {FORMAT}, found {version}: it was written by a newer partalign")
    return found


def import_gallery(gallery: Gallery, path: Path, *, who: str | None = None) -> Added:
    """Add everything of an exported file; records of the same id are replaced. Raises GalleryError.

    Some thousand at a time: where it stops in the middle, those before stay, and importing again goes on.
    """
    model, new, replaced = read_model(path), 0, 0
    if model != gallery.model:
        raise GalleryError(f"{path}: expected descriptors of {gallery.model}, found {model}: they cannot be compared")
    for records, vectors, pictures in _batches(path, model.dimension):
        done = gallery.add(records, vectors, pictures, who=who, action="import")
        new, replaced = new + done.new, replaced + done.replaced
    return Added(new, replaced)


def _batches(path: Path, dimension: int) -> Iterator[tuple[list[Record], np.ndarray, list[bytes | None]]]:
    _, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            require_plausible(sum(group.total_byte_size for group in groups), path.stat().st_size)
            for batch in file.iter_batches(_AT_ONCE):
                cells = {name: batch.column(name) for name in (*_COLUMNS, "thumbnail", "vector")}
                rows = cells.pop("vector").flatten().to_numpy(zero_copy_only=False).reshape(len(batch), dimension)
                pictures = cells.pop("thumbnail").to_pylist()
                columns = {name: column.to_pylist() for name, column in cells.items()}
                values = zip(*columns.values(), strict=True)
                yield [Record.from_dict(dict(zip(columns, row, strict=True))) for row in values], rows, pictures
    except (GalleryError, SaveError):
        raise
    except Exception as error:
        raise GalleryError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    told = " ".join(str(error).split())[:200]
    return f"{path}: expected a file of `partalign gallery export`, cannot read it: {told or type(error).__name__}"


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(f'{path}: Parquet needs pyarrow: pip install "partalign[gallery]"') from None
    return pyarrow, pyarrow.parquet

"""The table that says who is on which crop of one's own folder: `crops.csv` (UTF-8) or `crops.parquet`.

Columns: `path` (relative to the folder) and, as far as known, `person`, `camera`, `tracklet`, `time` (seconds) and
`left`, `top`, `width`, `height` (the box in the source frame, pixels). An empty cell is unknown, in Parquet a null or
NaN too. Numbers are read as text: a person 7 in a column of integers, or 7.0 as pandas writes integers beside nulls, is
"7".
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from partalign.crops import Crop
from partalign.datasets.listing import count, some
from partalign.errors import DatasetError, MissingExtraError
from partalign.files import atomic_file

CSV, PARQUET = "crops.csv", "crops.parquet"
BOX = ("left", "top", "width", "height")
COLUMNS = ("path", "person", "camera", "tracklet", "time", *BOX)

Cells = dict[str, str | None]


def find_table(folder: Path) -> Path | None:
    """Return the folder's table, None where it has none. Raises DatasetError where it has two."""
    found = [folder / name for name in (CSV, PARQUET) if os.path.isfile(folder / name)]  # noqa: PTH113 - never raises
    if len(found) > 1:
        raise DatasetError(f"{folder}: expected one table of crops, found {CSV} and {PARQUET}; remove one of them")
    return found[0] if found else None


def read_table(table: Path) -> dict[str, Crop]:
    """Read a table of crops; returns records by path relative to the folder, in the table's order.

    Raises DatasetError where the table cannot be read, has other columns, lists no crop, or one twice, outside the
    folder or missing; MissingExtraError where it is Parquet and pyarrow is not installed.
    """
    crops: dict[str, Crop] = {}
    for place, name, crop in walk_table(table):
        if name in crops:
            raise DatasetError(f"{table}, {place}: a second line for {name}; remove one")
        crops[name] = crop
    if not crops:
        raise DatasetError(f"{table}: expected one line for each crop, found only the header; add crops or remove it")
    if lost := [name for name, crop in crops.items() if not os.path.isfile(crop.path)]:  # noqa: PTH113
        raise DatasetError(f"{table}: {count(lost, 'listed file')} missing: {some(lost)}; correct `path`")
    return crops


def walk_table(table: Path) -> Iterator[tuple[str, str, Crop]]:
    """Yield where in a table each line stands, its path relative to the folder, and its crop; holds one at a time.

    Raises as `read_table`, but neither missing files nor lines for the same crop are noticed.
    """
    for place, cells in _parquet_rows(table) if table.suffix == ".parquet" else _csv_rows(table):
        yield place, *_crop(table, cells, f"{table}, {place}")


def write_table(folder: Path, crops: Iterable[Crop]) -> Path:
    """Write `crops.csv` of crops that lie in the folder, atomically; returns its path. Raises SaveError."""
    with atomic_file(folder / CSV) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        for crop in crops:
            name = crop.path.relative_to(folder).as_posix()
            rows.writerow((name, crop.person, crop.camera, crop.tracklet, crop.time, *(crop.box or (None,) * len(BOX))))
        text.detach()
    return folder / CSV


def _csv_rows(table: Path) -> Iterator[tuple[str, Cells]]:
    """Yield where in the table each row stands, and its cells."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            _check_header(table, list(rows.fieldnames or ()))
            for row in rows:
                if None in row or None in row.values():
                    told = "expected as many cells as columns; correct the line"
                    raise DatasetError(f"{table}, line {rows.line_num}: {told}")
                yield f"line {rows.line_num}", {column: text.strip() or None for column, text in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table}: expected a table of crops in UTF-8, cannot read it: {error}") from None


def _parquet_rows(table: Path) -> Iterator[tuple[str, Cells]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtraError(f'{table}: Parquet needs pyarrow: pip install "partalign[data]"') from None
    try:
        with ParquetFile(table) as file:
            _check_header(table, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    place = f"row {number}"
                    yield place, {column: _text(value, column, f"{table}, {place}") for column, value in row.items()}
    except (OSError, ValueError, ArrowException) as error:
        told = " ".join(str(error).split())
        raise DatasetError(f"{table}: expected a table of crops in Parquet, cannot read it: {told}") from None


def _check_header(table: Path, header: list[str]) -> None:
    if "path" not in header or not set(header) <= set(COLUMNS) or len(set(header)) < len(header):
        raise DatasetError(f"{table}: expected columns of {', '.join(COLUMNS)}, found {', '.join(header) or 'none'}")


def _text(value: object, column: str, place: str) -> str | None:
    """Write a typed cell as a CSV file would hold it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        found = type(value).__name__
        raise DatasetError(f"{place}: expected text or a number as `{column}`, found {found}; convert the column")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def _crop(table: Path, cells: Cells, place: str) -> tuple[str, Crop]:
    """Make a record of one row; returns it with its path relative to the folder."""
    name = PurePosixPath((cells["path"] or "").replace("\\", "/"))
    if not name.name or name.is_absolute() or ".." in name.parts:
        raise DatasetError(f"{place}: expected a path inside {table.parent}, found {str(name)!r}; move the crop there")
    numbers = {column: _number(cells.get(column), column, place) for column in ("time", *BOX)}
    left, top, width, height = (numbers[column] for column in BOX)
    box = None
    if left is not None and top is not None and width is not None and height is not None:
        box = (left, top, width, height)
    crop = Crop(table.parent / name, cells.get("person"), cells.get("camera"), cells.get("tracklet"))
    return str(name), replace(crop, time=numbers["time"], box=box)


def _number(text: str | None, column: str, place: str) -> float | None:
    try:
        number = None if text is None else float(text)
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        unit = "seconds" if column == "time" else "pixels"
        raise DatasetError(f"{place}: expected `{column}` in {unit}, found {text!r}; correct or clear it")
    return number

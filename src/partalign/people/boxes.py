"""Boxes that another program found: MOT text, or CSV with a header.

MOT: `frame, id, left, top, width, height[, confidence[, class, visibility | x, y, z]]` without a header; frames count
from 1, id -1 is unknown, confidence -1 too. Lines of nine numbers are MOT's ground truth: those whose confidence is 0
or whose class is not 1 (pedestrian) are left out.

CSV: columns `frame` (from 1) or `time` (seconds since the first frame); `left`, `top` and `width`, `height` or
`right`, `bottom`; as far as known `id` and `score`. Other columns are not read.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from partalign.errors import VideoError

NO_ID = ""
_SAME_TIME = 2e-3  # seconds within which a box belongs to a frame

Row = tuple[float, str, float, float, float, float, float]  # frame or time, id, left, top, width, height, score


@dataclass(frozen=True)
class Boxes:
    """Boxes by frame number, or by time. at: (N,), rising. values: (N, 5): left, top, width, height, score.

    ids: for each box the tracklet that it belongs to, or "" for all, where the file has none.
    """

    at: np.ndarray
    ids: tuple[str, ...]
    values: np.ndarray
    timed: bool
    fingerprint: str

    @property
    def named(self) -> bool:
        """Whether the boxes say which tracklet they belong to."""
        return bool(self.ids) and self.ids[0] != NO_ID

    def of(self, number: int, time: float) -> slice:
        """Return which rows are the boxes of the frame with this number and time."""
        low, high = (time - _SAME_TIME, time + _SAME_TIME) if self.timed else (number, number)
        return slice(int(np.searchsorted(self.at, low, "left")), int(np.searchsorted(self.at, high, "right")))


def read_boxes(path: Path) -> Boxes:
    """Read a file of boxes. Raises VideoError, with the line, where it cannot be read."""
    path = Path(path)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or "not UTF-8 text"
        raise VideoError(f"{path}: expected boxes as MOT text or CSV, cannot read it ({told}); check it") from None
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    try:
        first = next((line for line in lines if any(cell.strip() for cell in line)), None)
        if first is None:
            raise VideoError(f"{path}: expected boxes, found an empty file; give --boxes with lines in it")
        place = f"{path}, line"
        if _is_number(first[0]):
            timed, rows = False, _mot_rows(place, chain([(lines.line_num, first)], _numbered(lines)))
        else:
            names = [cell.strip().lower() for cell in first]
            timed, rows = "frame" not in names, _csv_rows(place, names, _numbered(lines))
        return _collect(path, list(rows), timed, hashlib.sha256(content).hexdigest()[:16])
    except csv.Error as error:
        raise VideoError(f"{path}, line {lines.line_num}: expected numbers and commas: {error}; correct it") from None


def _collect(path: Path, rows: list[Row], timed: bool, fingerprint: str) -> Boxes:
    if not rows:
        raise VideoError(f"{path}: expected boxes, found none of a pedestrian; check the classes and confidences")
    rows.sort(key=lambda row: row[0])  # stable: boxes of a frame stay in order
    at = np.array([row[0] for row in rows])
    ids = tuple(row[1] for row in rows)
    if len({name == NO_ID for name in ids}) > 1:
        raise VideoError(f"{path}: expected ids for all boxes or for none, found {ids.count(NO_ID):,} boxes without")
    return Boxes(at, ids, np.array([row[2:] for row in rows]), timed, fingerprint)


def _numbered(lines) -> Iterator[tuple[int, list[str]]]:  # csv's type of readers has no public name
    for line in lines:
        if any(cell.strip() for cell in line):
            yield lines.line_num, line


def _mot_rows(place: str, lines: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    for number, cells in lines:
        while cells and not cells[-1].strip():  # a comma at the end
            cells = cells[:-1]
        if not 6 <= len(cells) <= 10:
            told = "expected frame, id, left, top, width, height, confidence, ... (6 to 10 numbers)"
            raise VideoError(f"{place} {number}: {told}, found {len(cells)}; correct it")
        values = [_value(cell, f"{place} {number}", "a number") for cell in cells]
        frame, name, *box = values[:6]
        score = values[6] if len(values) > 6 else 1.0
        if len(values) == 9 and (score == 0 or values[7] != 1):
            continue
        tracklet = NO_ID if name == -1 else f"{name:g}" if name != int(name) else str(int(name))
        yield _row(f"{place} {number}", frame, False, tracklet, box, 1.0 if score == -1 else score)


def _csv_rows(place: str, names: list[str], lines: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    column = {name: position for position, name in enumerate(names)}
    sides = ["left", "top", "width", "height"] if "width" in column else ["left", "top", "right", "bottom"]
    at = "frame" if "frame" in column else "time"
    if missing := [name for name in (at, *sides) if name not in column]:
        told = "expected columns frame or time, left, top, width, height or right, bottom"
        raise VideoError(f"{place} 1: {told}; found no {', '.join(missing)}; name them so, or give MOT text")
    for number, cells in lines:
        where = f"{place} {number}"
        if len(cells) != len(names):
            raise VideoError(f"{where}: expected {len(names)} cells as in the header, found {len(cells)}; correct it")
        box = [_value(cells[column[name]], where, f"`{name}` in pixels") for name in sides]
        if "right" in sides:
            box[2:] = [box[2] - box[0], box[3] - box[1]]
        name = cells[column["id"]].strip() if "id" in column else NO_ID
        score = _value(cells[column["score"]] or "1", where, "`score`") if "score" in column else 1.0
        when = _value(cells[column[at]], where, f"`{at}` as a number")
        yield _row(where, when, at == "time", NO_ID if name == "-1" else name, box, score)


def _row(where: str, at: float, timed: bool, name: str, box: list[float], score: float) -> Row:
    if not timed and (at < 1 or at != int(at)):
        raise VideoError(
            f"{where}: expected a frame as a whole number from 1, found {at:g}; add 1 if yours count from 0"
        )
    if box[2] <= 0 or box[3] <= 0:
        raise VideoError(f"{where}: expected a box with area, found {box[2]:g} x {box[3]:g}; remove or correct it")
    return at, name, box[0], box[1], box[2], box[3], score


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _value(text: str, where: str, expected: str) -> float:
    value = float(text) if _is_number(text) else math.nan
    if not math.isfinite(value) or abs(value) > 1e9:
        raise VideoError(f"{where}: expected {expected}, found {text.strip()[:40]!r}; correct it")
    return value

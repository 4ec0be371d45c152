"""Ranked lists: a query and its best matches, right ones framed green with a tick, wrong ones red with a cross.

Takes a ranking and crops, returns a picture; knows no network and no protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from partalign.crops import JUNK, Crop
from partalign.errors import ShapeError
from partalign.images import read_picture
from partalign.pictures.theme import LIGHT, RIGHT, SCALE, WRONG, Theme, write

FRAME = 3 * SCALE
CELL = (64 * SCALE + 2 * FRAME, 128 * SCALE + 2 * FRAME)
"""Width and height of the place of one crop, frame included, in pixels."""

_GAP = 8 * SCALE
_TEXT = 32 * SCALE
_LABEL = 22 * SCALE


@dataclass(frozen=True)
class Shown:
    """One crop in a ranked list. `right` is None where nobody knows (and for the query itself)."""

    picture: Image.Image
    camera: str | None = None
    score: float | None = None
    right: bool | None = None


@dataclass(frozen=True)
class RankedRow:
    """A query and its matches, best first; `label` stands above the row (which model, which query)."""

    query: Shown
    matches: tuple[Shown, ...]
    label: str = ""


def rank_row(
    query: Crop, gallery: Sequence[Crop], rows: np.ndarray, scores: np.ndarray, *, label: str = ""
) -> RankedRow:
    """Return a query and its matches with their pictures read.

    rows: (K,) gallery rows, best first, as one row of `evaluation.evaluate.top_matches` gives them; scores: (K,).
    Places without a match (row -1) and junk are left out; what else a protocol ignores is not among `rows`.
    Raises ShapeError, PictureError.
    """
    if np.ndim(rows) != 1 or np.shape(scores) != np.shape(rows):
        raise ShapeError(f"expected one score for each row, found shapes {np.shape(rows)} and {np.shape(scores)}")
    ranked = [(gallery[int(row)], float(score)) for row, score in zip(rows, scores, strict=True) if row >= 0]
    matches = tuple(
        Shown(read_picture(crop.path), crop.camera, score, _is_right(query, crop))
        for crop, score in ranked
        if crop.person != JUNK
    )
    return RankedRow(Shown(read_picture(query.path), query.camera), matches, label)


def draw_ranked_list(rows: Sequence[RankedRow], *, theme: Theme = LIGHT) -> Image.Image:
    """Draw rows one under the other: the query in a grey frame, then its matches with score and camera under each."""
    if not rows:
        raise ShapeError("expected at least one row, found none")
    columns = max(len(row.matches) for row in rows)
    # The query stands apart from its matches by two extra gaps.
    width = (columns + 1) * (CELL[0] + _GAP) - _GAP + (2 * _GAP if columns else 0)
    heights = [_height(row) for row in rows]
    sheet = Image.new("RGB", (width, sum(heights)), theme.paper)
    draw, top = ImageDraw.Draw(sheet), 0
    for row, height in zip(rows, heights, strict=True):
        if row.label:
            write(draw, (0, top + 13 * SCALE), row.label, width, 13 * SCALE, theme.ink, "ls")
        line = top + (_LABEL if row.label else 0)
        _draw_shown(sheet, draw, (0, line), row.query, "query", theme)
        for column, match in enumerate(row.matches):
            score = "" if match.score is None else f"{match.score:.3f}"
            _draw_shown(sheet, draw, (cell_left(column), line), match, score, theme)
        top += height
    return sheet


def cell_left(column: int) -> int:
    """Return the left edge, in pixels, of the match of rank `column` + 1."""
    return (column + 1) * (CELL[0] + _GAP) + 2 * _GAP


def describe(row: RankedRow) -> str:
    """Say in words what a row shows, for readers who cannot see the picture."""
    ranks = [str(rank) for rank, match in enumerate(row.matches, start=1) if match.right]
    known = any(match.right is not None for match in row.matches)
    found = f"right at rank {', '.join(ranks)}" if ranks else "none of them right"
    name = f"{row.label}: " if row.label else ""
    count = f"{len(row.matches)} best match{'' if len(row.matches) == 1 else 'es'}"
    return f"{name}{count}" + (f", {found}" if known else "")


def _height(row: RankedRow) -> int:
    return CELL[1] + _TEXT + _GAP + (_LABEL if row.label else 0)


def _is_right(query: Crop, crop: Crop) -> bool | None:
    return None if query.person is None or crop.person is None else crop.person == query.person


def _draw_shown(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, place: tuple[int, int], shown: Shown, text: str, theme: Theme
) -> None:
    left, top = place
    colour = {None: theme.muted, True: RIGHT, False: WRONG}[shown.right]
    draw.rectangle((left, top, left + CELL[0] - 1, top + CELL[1] - 1), fill=theme.rule, outline=colour, width=FRAME)
    room = (CELL[0] - 2 * FRAME, CELL[1] - 2 * FRAME)
    # Fitted whole into the cell: a crop of another shape is not stretched.
    zoom = min(room[0] / shown.picture.width, room[1] / shown.picture.height)
    size = max(1, round(shown.picture.width * zoom)), max(1, round(shown.picture.height * zoom))
    picture = shown.picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    sheet.paste(picture, (left + (CELL[0] - size[0]) // 2, top + (CELL[1] - size[1]) // 2))
    if shown.right is not None:
        _draw_sign(draw, (left + CELL[0], top + CELL[1]), shown.right, colour)
    middle, below = left + CELL[0] // 2, top + CELL[1]
    room_for_text = CELL[0] + _GAP // 2
    write(draw, (middle, below + 13 * SCALE), text, room_for_text, 11 * SCALE, theme.ink, "ms")
    if shown.camera:
        write(draw, (middle, below + 26 * SCALE), f"cam {shown.camera}", room_for_text, 10 * SCALE, theme.muted, "ms")


def _draw_sign(draw: ImageDraw.ImageDraw, corner: tuple[int, int], right: bool, colour: str) -> None:
    """Draw a tick or a cross on a badge in the lower right corner of a frame."""
    side = 16 * SCALE
    left, top = corner[0] - side, corner[1] - side
    draw.rectangle((left, top, corner[0] - 1, corner[1] - 1), fill=colour)

    def stroke(*points: tuple[float, float]) -> None:
        places = [(left + x * side, top + y * side) for x, y in points]
        draw.line(places, fill="white", width=2 * SCALE, joint="curve")

    if right:
        stroke((0.22, 0.52), (0.43, 0.72), (0.78, 0.3))
    else:
        stroke((0.28, 0.28), (0.72, 0.72))
        stroke((0.72, 0.28), (0.28, 0.72))

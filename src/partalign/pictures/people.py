"""The people of videos on one sheet: one crop of each tracklet, with camera and time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from PIL import Image, ImageDraw

from partalign.crops import Crop
from partalign.errors import PictureError, ShapeError
from partalign.images import read_picture
from partalign.pictures.theme import LIGHT, SCALE, Theme, write

COLUMNS, MOST = 10, 200
"""Tracklets in a row, and on the sheet."""

_CELL = (64 * SCALE, 128 * SCALE)
_GAP, _TEXT = 8 * SCALE, 32 * SCALE
_DATES = 1e8  # seconds from which a time is one since 1970, not since the beginning of a video


def draw_tracklets(crops: Iterable[Crop], *, theme: Theme = LIGHT) -> Image.Image:
    """Draw the middle crop of each tracklet, by camera and time; of more than `MOST`, as many, evenly chosen.

    A crop that cannot be read leaves its place grey. Raises ShapeError where there are no crops, MissingExtraError
    without matplotlib, which brings the typeface.
    """
    tracklets: dict[tuple[str, str], list[Crop]] = {}
    for crop in crops:
        tracklets.setdefault((crop.camera or "", crop.tracklet or str(crop.path)), []).append(crop)
    if not tracklets:
        raise ShapeError("expected at least one crop, found none")
    shown = sorted((_middle(crops) for crops in tracklets.values()), key=lambda c: (c.camera or "", c.time or 0.0))
    shown = [shown[i * len(shown) // MOST] for i in range(MOST)] if len(shown) > MOST else shown
    columns = min(COLUMNS, len(shown))
    step = _CELL[0] + _GAP, _CELL[1] + _TEXT + _GAP
    sheet = Image.new("RGB", (columns * step[0] + _GAP, -(-len(shown) // columns) * step[1] + _GAP), theme.paper)
    draw = ImageDraw.Draw(sheet)
    for number, crop in enumerate(shown):
        _draw_crop(sheet, draw, _GAP + number % columns * step[0], _GAP + number // columns * step[1], crop, theme)
    return sheet


def _middle(crops: list[Crop]) -> Crop:
    return sorted(crops, key=lambda crop: (crop.time or 0.0, str(crop.path)))[len(crops) // 2]


def _draw_crop(sheet: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, crop: Crop, theme: Theme) -> None:
    draw.rectangle((left, top, left + _CELL[0] - 1, top + _CELL[1] - 1), fill=theme.rule)
    try:
        picture = read_picture(crop.path)
    except PictureError:
        pass
    else:
        zoom = min(_CELL[0] / picture.width, _CELL[1] / picture.height)
        picture = picture.resize((max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom))))
        sheet.paste(picture, (left + (_CELL[0] - picture.width) // 2, top + (_CELL[1] - picture.height) // 2))
    middle, below = left + _CELL[0] // 2, top + _CELL[1]
    room = _CELL[0] + _GAP // 2
    write(draw, (middle, below + 14 * SCALE), crop.camera or "", room, 10 * SCALE, theme.ink, "ms")
    write(draw, (middle, below + 27 * SCALE), _clock(crop.time), room, 10 * SCALE, theme.muted, "ms")


def _clock(time: float | None) -> str:
    """Write a time as a clock shows it; one since 1970 in UTC, without its date."""
    if time is None:
        return ""
    if time >= _DATES:
        return datetime.fromtimestamp(time, UTC).strftime("%H:%M:%S")
    hours, rest = divmod(int(time), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"

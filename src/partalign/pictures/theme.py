"""Colours and lettering that every picture of this room shares, for light and for dark pages.

Pictures are drawn at two pixels for each pixel of a page (`SCALE`), so that they stay sharp on dense screens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from partalign.errors import MissingExtraError

SCALE = 2
"""Pixels of a picture for each pixel of the page that shows it."""

RIGHT, WRONG = "#178a4c", "#d03a2b"
"""Frames of right and wrong matches; a tick or a cross says the same without colour."""


@dataclass(frozen=True)
class Theme:
    """Colours of one page; `series` are told apart by colour-blind readers too (after Okabe and Ito)."""

    paper: str
    ink: str
    muted: str
    rule: str
    series: tuple[str, ...]


LIGHT = Theme(
    paper="#ffffff",
    ink="#1b1f24",
    muted="#59616b",
    rule="#dde1e6",
    series=("#0067a8", "#c8500a", "#00805a", "#a8487f", "#6b5d00"),
)
DARK = Theme(
    paper="#16191d",
    ink="#e8eaed",
    muted="#a2abb5",
    rule="#353b43",
    series=("#62b5ea", "#f0894a", "#3fc296", "#de96bf", "#d9c84a"),
)

MARKERS = ("o", "s", "^", "D", "v")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
HATCHES = ("", "//", "..", "xx", "\\\\")
"""What goes with each of `Theme.series` so that lines and bars differ in grey as well."""


def missing_extra(what: str, library: str) -> MissingExtraError:
    """Return the error for a picture that needs an optional library."""
    return MissingExtraError(f'{what} needs {library}, which is not installed: pip install "partalign[plot]"')


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, the typeface that matplotlib brings along. Raises MissingExtraError without matplotlib."""
    try:
        from matplotlib import get_data_path
    except ImportError:
        raise missing_extra("text in pictures", "matplotlib") from None
    return ImageFont.truetype(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, size: int, ink: str, anchor: str = "mt"
) -> None:
    """Write one line of text at `place`, cut with an ellipsis where it is wider than `width` pixels."""
    line = "".join(c if c.isprintable() else " " for c in text)
    face = font(size)
    if face.getlength(line) > width:
        while line and face.getlength(line + "…") > width:
            line = line[:-1]
        line += "…"
    draw.text(place, line, font=face, fill=ink, anchor=anchor)


def enlarge(picture: Image.Image, height: int) -> Image.Image:
    """Return the picture as RGB, smoothly resized to `height` pixels, its aspect kept."""
    width = max(1, round(picture.width * height / picture.height))
    return picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)

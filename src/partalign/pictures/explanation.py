"""Why two crops match: heat over both, lines between the places that match most, a bar for each body part.

Takes pictures and plain arrays, returns a picture; knows no network and does no sums but those that it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from partalign.errors import ShapeError
from partalign.evaluation.calibration import in_words
from partalign.pictures.theme import LIGHT, SCALE, Theme, enlarge, font, write

HEIGHT = 216 * SCALE
"""Height of a drawn crop in pixels."""

FOR, AGAINST = (255, 138, 0), (38, 120, 255)
"""Colours of what makes two crops similar and of what makes them different; apart for colour-blind readers too."""

_GAP = 8 * SCALE
_MARGIN = 12 * SCALE
_BETWEEN = 72 * SCALE
_BARS = 250 * SCALE
_LINE = 19 * SCALE
_BAR_LINE = 26 * SCALE

Place = tuple[int, int]


def draw_explanation(
    pictures: tuple[Image.Image, Image.Image],
    maps: tuple[np.ndarray, np.ndarray],
    pairs: Sequence[tuple[Place, Place, float]],
    *,
    parts: Mapping[str, float] | None = None,
    sentence: str = "",
    probability: float | None = None,
    persons: int = 2,
    theme: Theme = LIGHT,
) -> Image.Image:
    """Draw what makes two crops similar.

    maps: what each place of either crop adds to their similarity, (h, w) and (h', w'), each summing to it.
    pairs: places (row, column) of the first and of the second crop, and what the two add: joined by lines. parts: body
    part -> what it adds; without them no bars are drawn. probability: that both show the same person, 0 to 1, where
    before they were compared it was one in so many persons; of 2, as likely as not.
    Raises ShapeError where maps are no maps or have different sums.
    """
    score = _check(maps)
    crops = [_fitted(picture) for picture in pictures]
    strongest = max(float(np.abs(places).max()) for places in maps)
    heats = [draw_signed_heat(crop, places, strongest) for crop, places in zip(crops, maps, strict=True)]
    row = [crops[0], heats[0], heats[1], crops[1]]
    lefts = np.cumsum([0, *(picture.width for picture in row[:-1])]) + np.array([0, 1, 1, 2]) * _GAP
    lefts[2:] += _BETWEEN
    width = int(lefts[3]) + crops[1].width + (0 if parts is None else 3 * _GAP + _BARS)
    head = _wrapped(sentence, width, 13 * SCALE)
    top = 40 * SCALE + len(head) * _LINE + _LINE
    sheet = Image.new("RGB", (width, top + HEIGHT + 2 * _LINE + _GAP), theme.paper)
    draw = ImageDraw.Draw(sheet)
    chance = "" if probability is None else f"   ·   same person: {in_words(probability, persons)}"
    _draw_head(draw, f"Similarity {_rounded(score)}{chance}", head, theme)
    for picture, left, name in zip(row, lefts.tolist(), ("A", "A: what matches", "B: what matches", "B"), strict=True):
        sheet.paste(picture, (left, top))
        middle = left + picture.width // 2
        write(draw, (middle, top - 6 * SCALE), name, picture.width + _GAP, 11 * SCALE, theme.muted, "ms")
    ends = [
        _Grid(int(left), top, heat.size, places.shape)
        for left, heat, places in zip(lefts[1:3], heats, maps, strict=True)
    ]
    _draw_pairs(draw, pairs, ends[0], ends[1], theme)
    _draw_legend(sheet, draw, top + HEIGHT + _GAP, strongest, bool(pairs), theme)
    if parts is not None:
        _draw_bars(draw, (width - _BARS, top), parts, score, theme)
    return ImageOps.expand(sheet, _MARGIN, fill=theme.paper)


def draw_signed_heat(crop: Image.Image, places: np.ndarray, strongest: float) -> Image.Image:
    """Lay a signed map (h, w) over a crop turned grey: `FOR` where positive, `AGAINST` where negative.

    strongest: the absolute value that is covered most. Returns RGB of the crop's size; the map is upsampled smoothly.
    """
    smooth = Image.fromarray(np.asarray(places, np.float32)).resize(crop.size, Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(smooth, np.float64) / max(strongest, 1e-12), -1, 1)[..., None]
    grey = np.asarray(crop.convert("L"), np.float64)[..., None] * 0.7 + 20
    colour = np.where(values > 0, FOR, AGAINST)
    return Image.fromarray(np.rint(_mixed(grey, colour, values)).astype(np.uint8))


def _mixed(ground: np.ndarray, colour: np.ndarray, values: np.ndarray) -> np.ndarray:
    # The root lifts weak values: most places add little.
    cover = 0.85 * np.abs(values) ** 0.75
    return ground * (1 - cover) + colour * cover


class _Grid:
    """Where the places of a map lie on the sheet."""

    def __init__(self, left: int, top: int, size: tuple[int, int], shape: tuple[int, ...]):
        self.left, self.top, self.size, self.shape = left, top, size, shape

    def centre(self, place: Place) -> tuple[float, float]:
        """Return about the middle of a place: rows slope a little, or lines along one row would hide each other."""
        y, x = ((i + 0.5) / n for i, n in zip(place, self.shape, strict=True))
        slope = (x - 0.5) * 0.8 / self.shape[0]
        return self.left + x * self.size[0], self.top + (y + slope) * self.size[1]


def _check(maps: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the sum of the maps."""
    for places in maps:
        if np.ndim(places) != 2 or not np.size(places) or not np.isfinite(places).all():
            raise ShapeError(f"expected finite maps (h, w) of two crops, found one of shape {np.shape(places)}")
    sums = [float(np.sum(places)) for places in maps]
    if abs(sums[0] - sums[1]) > 1e-3:
        raise ShapeError(f"expected two maps with the same sum, the similarity, found {sums[0]:.4f} and {sums[1]:.4f}")
    return sums[0]


def _fitted(picture: Image.Image) -> Image.Image:
    """Return the crop at the height of all crops; one wider than high is made square."""
    crop = enlarge(picture, HEIGHT) if picture.width <= picture.height else picture.convert("RGB")
    return crop if crop.height == HEIGHT else crop.resize((HEIGHT, HEIGHT), Image.Resampling.BICUBIC)


def _draw_head(draw: ImageDraw.ImageDraw, title: str, lines: list[str], theme: Theme) -> None:
    draw.text((0, 22 * SCALE), title, font=font(19 * SCALE), fill=theme.ink, anchor="ls")
    for number, line in enumerate(lines, start=1):
        draw.text((0, 25 * SCALE + number * _LINE), line, font=font(13 * SCALE), fill=theme.ink, anchor="ls")


def _rounded(value: float, sign: str = "-") -> str:
    """Two decimals with a real minus; adding zero turns -0.0 into 0.0."""
    return f"{round(value, 2) + 0.0:{sign}.2f}".replace("-", "−")


def _wrapped(text: str, width: int, size: int) -> list[str]:
    face, lines = font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines if lines[0] else []


def _draw_pairs(
    draw: ImageDraw.ImageDraw, pairs: Sequence[tuple[Place, Place, float]], a: _Grid, b: _Grid, theme: Theme
) -> None:
    """Draw a line for each pair, the strongest last and thickest; a dark rim makes it stand out on any crop."""
    if not pairs:
        return
    most = max(contribution for _, _, contribution in pairs)
    for number, (first, second, contribution) in sorted(enumerate(pairs), key=lambda item: item[1][2]):
        ends = (a.centre(first), b.centre(second))
        thick = max(1.0, 4 * contribution / most) * SCALE
        colour = theme.series[number % len(theme.series)]
        for rim, ink in ((SCALE, "#101010"), (0, colour)):
            draw.line((*ends[0], *ends[1]), fill=ink, width=round(thick + rim))
            for end in ends:
                draw.circle(end, thick / 2 + 1.5 * SCALE + rim / 2, fill=ink)


def _draw_legend(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, strongest: float, lines: bool, theme: Theme
) -> None:
    """Draw the heat's colours, from against to for, say how much the strongest is, and what a line is."""
    bar = (64 * SCALE, 10 * SCALE)
    values = np.linspace(-1, 1, bar[0])[None, :, None]
    ramp = _mixed(np.full((1, bar[0], 3), 110.0), np.where(values > 0, FOR, AGAINST), values)
    size = 11 * SCALE
    before, after = "speaks against a match", f"speaks for it (a place at most {strongest:.3f})"
    left = round(font(size).getlength(before)) + _GAP
    sheet.paste(Image.fromarray(np.rint(ramp).astype(np.uint8)).resize(bar), (left, top))
    said = [(0, top + bar[1], before), (left + bar[0] + _GAP, top + bar[1], after)]
    if lines:
        said.append((0, top + bar[1] + _LINE, "Lines join the places that match most; the thicker, the more."))
    for x, y, text in said:
        write(draw, (x, y), text, sheet.width - x, size, theme.muted, "ls")


def _draw_bars(draw: ImageDraw.ImageDraw, place: Place, parts: Mapping[str, float], score: float, theme: Theme) -> None:
    """Draw what each body part adds, left of zero where it takes away, and the sum below."""
    left, top = place
    draw.text((left, top + 6 * SCALE), "What each body part adds", font=font(13 * SCALE), fill=theme.ink, anchor="ls")
    name_width, value_width = 82 * SCALE, 84 * SCALE
    for_it = sum(value for value in parts.values() if value > 0)
    low, high = min([0.0, *parts.values()]), max([0.0, *parts.values()])
    unit = (_BARS - name_width - value_width) / max(high - low, 1e-12)
    zero = left + name_width - low * unit
    line = top + _LINE
    for name, value in parts.items():
        text = line + 14 * SCALE
        write(draw, (left, text), name, name_width - _GAP // 2, 12 * SCALE, theme.ink, "ls")
        start, end = sorted((zero, zero + value * unit))
        draw.rectangle((start, line + 3 * SCALE, end, line + 17 * SCALE), fill=FOR if value > 0 else AGAINST)
        share = f" ({value / for_it:.0%})" if value > 0 else ""
        right = left + _BARS
        write(draw, (right, text), f"{_rounded(value, '+')}{share}", value_width, 12 * SCALE, theme.ink, "rs")
        line += _BAR_LINE
    draw.line((zero, top + _LINE, zero, line), fill=theme.muted, width=SCALE)
    draw.line((left, line + 3 * SCALE, left + _BARS, line + 3 * SCALE), fill=theme.rule, width=SCALE)
    write(draw, (left, line + 19 * SCALE), "together", name_width, 12 * SCALE, theme.ink, "ls")
    write(draw, (left + _BARS, line + 19 * SCALE), _rounded(score, "+"), value_width, 12 * SCALE, theme.ink, "rs")

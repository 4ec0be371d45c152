"""The figure of local descriptors in the plane: patches of the pictures, or points coloured by label (Fig. 3).

Plain arrays in, pictures out; knows no network and no t-SNE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from partalign.errors import ShapeError
from partalign.pictures.theme import LIGHT, SCALE, Theme, font, write
from partalign.pictures.tsne import agreement

SIDE = 420 * SCALE
"""Width and height of a plane in pixels."""

_GAP, _HEAD, _FOOT, _MARGIN = 20 * SCALE, 26 * SCALE, 22 * SCALE, 0.03
# From head to feet in the order of the rainbow: neighbours on the body have near colours. For light and dark pages.
_RAINBOW = {
    False: ("#b3242b", "#e8801a", "#d4bb00", "#2a8a3e", "#1876b8", "#6a3fa0"),
    True: ("#ff6b6b", "#ffa24a", "#f2d43d", "#62cf7a", "#5bb8ff", "#b690f2"),
}
_MORE = ("#c2418a", "#4c8c8c", "#8a5a2b", "#7d8a1c", "#5560c8", "#a0522d", "#2f9e77", "#b0578d")


@dataclass(frozen=True)
class Labels:
    """What points are coloured by: a number for each, an index into `names`, or -1 for none of them."""

    title: str
    numbers: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Panel:
    """Points of one kind of descriptor in the plane, (M, 2) in 0..1, with the descriptors they stand for, (M, C)."""

    title: str
    plane: np.ndarray
    descriptors: np.ndarray


def grid_places(plane: np.ndarray, cells: int) -> dict[tuple[int, int], int]:
    """Return which point each cell of a grid of cells x cells shows: the one nearest to the cell's middle.

    plane: (M, 2) in 0..1. Cells (column, row) that no point lies in are missing.
    """
    scaled = np.clip(plane * cells, 0, cells - 1e-9)
    distance = ((scaled - np.floor(scaled) - 0.5) ** 2).sum(axis=1)
    shown: dict[tuple[int, int], int] = {}
    for point in np.argsort(-distance, kind="stable").tolist():
        column, row = np.floor(scaled[point]).astype(int).tolist()
        shown[column, row] = point
    return shown


def draw_patches(plane: np.ndarray, patches: np.ndarray, *, side: int = SIDE, theme: Theme = LIGHT) -> Image.Image:
    """Draw each patch at its point, on a grid so that none hides another; where several meet, one stands for them.

    plane: (M, 2) in 0..1; patches: (M, s, s, 3) uint8. Returns RGB of `side` x `side`. Raises ShapeError.
    """
    if len(plane) != len(patches) or np.ndim(patches) != 4:
        raise ShapeError(f"expected one patch (s, s, 3) for each of {len(plane)} points, found {np.shape(patches)}")
    size = patches.shape[1]
    cells = max(1, side // size)
    sheet = Image.new("RGB", (side, side), theme.paper)
    margin = (side - cells * size) // 2
    for (column, row), point in grid_places(plane, cells).items():
        sheet.paste(Image.fromarray(patches[point]), (margin + column * size, margin + row * size))
    return sheet


def draw_points(plane: np.ndarray, labels: Labels, *, side: int = SIDE, theme: Theme = LIGHT) -> Image.Image:
    """Draw each point in the colour of its label, points without one pale and below the others.

    plane: (M, 2) in 0..1. Returns RGB of `side` x `side`. Raises ShapeError.
    """
    if len(plane) != len(labels.numbers):
        raise ShapeError(f"expected one label for each of {len(plane)} points, found {len(labels.numbers)}")
    fine = 2  # drawn larger and shrunk: round edges
    sheet = Image.new("RGB", (side * fine, side * fine), theme.paper)
    draw, radius = ImageDraw.Draw(sheet), side * fine / 170
    colours = label_colours(len(labels.names), theme)
    room = side * fine * (1 - 2 * _MARGIN)
    # Points of different labels are mixed: the last label would else lie on top of the others.
    order = np.random.default_rng(0).permutation(len(plane))
    for point in order[np.argsort(labels.numbers[order] >= 0, kind="stable")].tolist():
        number = int(labels.numbers[point])
        x, y = side * fine * _MARGIN + plane[point] * room
        draw.circle((x, y), radius, fill=colours[number] if number >= 0 else theme.rule)
    return sheet.resize((side, side), Image.Resampling.LANCZOS)


def label_colours(count: int, theme: Theme = LIGHT) -> tuple[str, ...]:
    """Return colours for labels, in order; with more labels than colours they repeat."""
    colours = _RAINBOW[theme.paper != LIGHT.paper]
    return tuple((colours + _MORE)[number % len(colours + _MORE)] for number in range(count))


def draw_tsne(
    panels: Sequence[Panel],
    places: np.ndarray,
    patches: np.ndarray | None,
    labels: Sequence[Labels] = (),
    *,
    side: int = SIDE,
    theme: Theme = LIGHT,
) -> Image.Image:
    """Put the planes of several kinds of descriptors side by side, once as patches, and once for each way to colour.

    panels: all of the same places, (M, 3); patches: (M, s, s, 3), or None for no row of patches. Under coloured points
    stands how often the nearest descriptors of other pictures agree (`agreement`). Raises ShapeError.
    """
    if not panels or (patches is None and not labels):
        raise ShapeError("expected at least one panel, and patches or labels to draw, found none")
    rows: list[tuple[Labels | None, list[Image.Image]]] = []
    if patches is not None:
        rows.append((None, [draw_patches(panel.plane, patches, side=side, theme=theme) for panel in panels]))
    rows += [(each, [draw_points(panel.plane, each, side=side, theme=theme) for panel in panels]) for each in labels]
    heights = [side + (2 * _FOOT if each else 0) for each, _ in rows]
    size = (len(panels) * (side + _GAP) - _GAP, _HEAD + sum(heights) + _GAP * (len(rows) - 1))
    sheet, top = Image.new("RGB", size, theme.paper), _HEAD
    draw = ImageDraw.Draw(sheet)
    for column, panel in enumerate(panels):
        left = column * (side + _GAP)
        write(draw, (left + side // 2, _HEAD - 10 * SCALE), panel.title, side, 14 * SCALE, theme.ink, "ms")
    for (each, pictures), height in zip(rows, heights, strict=True):
        for column, (panel, picture) in enumerate(zip(panels, pictures, strict=True)):
            left = column * (side + _GAP)
            sheet.paste(picture, (left, top))
            draw.rectangle((left, top, left + side - 1, top + side - 1), outline=theme.rule, width=SCALE)
            if each:
                said = _agreement_in_words(panel, each, places)
                write(draw, (left + side // 2, top + side + 15 * SCALE), said, side, 11 * SCALE, theme.muted, "ms")
        if each:
            _legend(draw, each, (0, top + side + _FOOT), size[0], theme)
        top += height + _GAP
    return sheet


def _agreement_in_words(panel: Panel, labels: Labels, places: np.ndarray) -> str:
    share = agreement(panel.descriptors, labels.numbers, places[:, 0])
    if np.isnan(share):
        return f"coloured by {labels.title}"
    return f"neighbours of the same {labels.title}: {share:.0%}"


def _legend(draw: ImageDraw.ImageDraw, labels: Labels, corner: tuple[int, int], width: int, theme: Theme) -> None:
    """Write the names, each after a dot of its colour, in the middle below a row of panels."""
    entries: Mapping[str, str] = dict(zip(labels.names, label_colours(len(labels.names), theme), strict=True))
    if (labels.numbers < 0).any():
        entries = {**entries, "none": theme.rule}
    size, dot, gap = 12 * SCALE, 9 * SCALE, 16 * SCALE
    widths = [dot + 5 * SCALE + font(size).getlength(name) for name in entries]
    while size > 1 and sum(widths) + gap * (len(widths) - 1) > width:
        size, gap = size - 1, max(SCALE, gap - 1)
        widths = [dot + 5 * SCALE + font(size).getlength(name) for name in entries]
    left = corner[0] + (width - sum(widths) - gap * (len(widths) - 1)) / 2
    middle = corner[1] + _FOOT // 2
    for (name, colour), wide in zip(entries.items(), widths, strict=True):
        draw.ellipse((left, middle - dot / 2, left + dot, middle + dot / 2), fill=colour)
        draw.text((left + dot + 5 * SCALE, middle), name, font=font(size), fill=theme.ink, anchor="lm")
        left += wide + gap

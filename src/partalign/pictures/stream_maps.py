"""Appearance maps and part maps of several people, one set of colours for all (Figs. 4, 5 and 7).

Takes pictures and plain arrays, returns a picture; knows no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from partalign.errors import ShapeError
from partalign.pictures.part_maps import fit_map_colours
from partalign.pictures.theme import LIGHT, SCALE, Theme, enlarge, font, write

HEIGHT = 128 * SCALE
"""Height of a drawn crop in pixels."""

_GAP, _BETWEEN, _HEAD, _LABEL = 3 * SCALE, 16 * SCALE, 22 * SCALE, 20 * SCALE


def draw_stream_maps(
    pictures: Sequence[Image.Image],
    columns: Mapping[str, np.ndarray],
    *,
    labels: Sequence[str] = (),
    across: int = 3,
    height: int = HEIGHT,
    theme: Theme = LIGHT,
) -> Image.Image:
    """Draw each picture with its maps beside it; a colour means the same in all pictures of a column.

    columns: name -> maps (N, C, H, W); C, H and W may differ from column to column. To each column one projection to
    RGB is fitted, from all N maps; N may be more than there are pictures, which are the first. labels: one for each
    picture; those of a kind stand in one line. across: how many pictures stand in a line at the most.
    Raises ShapeError.
    """
    _check(pictures, columns, labels)
    labels = list(labels) or [""] * len(pictures)
    crops = [enlarge(picture, height) for picture in pictures]
    painted = []
    for maps in columns.values():
        colours = fit_map_colours([maps])
        painted.append([colours.paint(maps[i : i + 1], crop.size)[0] for i, crop in enumerate(crops)])
    sets = [[crop, *(column[i] for column in painted)] for i, crop in enumerate(crops)]
    lines = _lines(labels, across)
    wide = max(crop.width for crop in crops)
    width_of_set = (wide + _GAP) * (1 + len(columns)) - _GAP
    longest = max(map(len, lines))
    label = _LABEL if any(labels) else 0
    size = (longest * (width_of_set + _BETWEEN) - _BETWEEN, _HEAD + len(lines) * (height + label + _GAP) - _GAP)
    sheet = Image.new("RGB", size, theme.paper)
    draw = ImageDraw.Draw(sheet)
    # As large as the longest name allows.
    size_of_name = 11 * SCALE
    while size_of_name > 1 and max(map(font(size_of_name).getlength, columns)) > wide + _GAP:
        size_of_name -= 1
    for place in range(longest):
        for column, name in enumerate(("picture", *columns)):
            middle = place * (width_of_set + _BETWEEN) + column * (wide + _GAP) + wide // 2
            write(draw, (middle, _HEAD - 7 * SCALE), name, wide + _GAP, size_of_name, theme.muted, "ms")
    for number, line in enumerate(lines):
        top = _HEAD + number * (height + label + _GAP)
        if label:
            write(draw, (0, top + label - 6 * SCALE), labels[line[0]], size[0], 12 * SCALE, theme.ink, "ls")
        for place, i in enumerate(line):
            left = place * (width_of_set + _BETWEEN)
            for column, picture in enumerate(sets[i]):
                shift = (wide - picture.width) // 2
                sheet.paste(picture, (left + column * (wide + _GAP) + shift, top + label))
    return sheet


def _check(pictures: Sequence[Image.Image], columns: Mapping[str, np.ndarray], labels: Sequence[str]) -> None:
    if not pictures or not columns:
        raise ShapeError(f"expected pictures and maps, found {len(pictures)} pictures and {len(columns)} kinds of maps")
    if labels and len(labels) != len(pictures):
        raise ShapeError(f"expected one label for each of {len(pictures)} pictures, found {len(labels)}")
    for name, maps in columns.items():
        if np.ndim(maps) != 4 or len(maps) < len(pictures):
            raise ShapeError(f"expected {name} maps (N, C, H, W) of {len(pictures)} pictures, found {np.shape(maps)}")


def _lines(labels: Sequence[str], across: int) -> list[list[int]]:
    """Put pictures into lines: a new one where the label changes or `across` are reached."""
    lines: list[list[int]] = []
    for i, label in enumerate(labels):
        if not lines or len(lines[-1]) >= across or labels[lines[-1][0]] != label:
            lines.append([])
        lines[-1].append(i)
    return lines

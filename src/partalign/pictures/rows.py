"""Rows of one measure, with every run to be seen: means as bars, one standard deviation each way, a dot for each run.

Takes plain numbers, returns pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from partalign.errors import ShapeError
from partalign.pictures.curves import new_figure, plain_names, to_picture
from partalign.pictures.theme import HATCHES, LIGHT, MARKERS, Theme

_GAP = 0.7  # of a row, between groups


def draw_rows(
    groups: Mapping[str, Mapping[str, Sequence[float]]], *, label: str = "", theme: Theme = LIGHT
) -> Image.Image:
    """Draw a row for each name, below the title of its group: e.g. network -> variant -> mAP of each world, in percent.

    The first value of every row is of the same world, and so on: it has the same marker. A name has one colour in all
    groups. A group's title may be empty. Raises ShapeError, MissingExtraError.
    """
    names = list(dict.fromkeys(name for rows in groups.values() for name in rows))
    if not names or not all(len(values) for rows in groups.values() for values in rows.values()):
        raise ShapeError("expected at least one row, and in each at least one number, found none")
    height = sum(len(rows) + (_GAP if title else 0) for title, rows in groups.items())
    figure, (axes,) = new_figure(1, (6.4, 0.34 * height + 0.75), theme)
    ticks, titles, top = [], {}, 0.0
    for title, rows in groups.items():
        if title:
            titles[top] = title
            top += _GAP
        for name, values in rows.items():
            _draw_row(axes, top, np.asarray(values, float), names.index(name), theme)
            ticks.append((top, name))
            top += 1
    axes.set_yticks([place for place, _ in ticks], plain_names(name for _, name in ticks))
    for text in axes.get_yticklabels():
        text.set(color=theme.ink, fontsize=9)
        text.set_parse_math(False)
    for place, title in titles.items():
        axes.annotate(
            plain_names([title])[0],
            (0, place - 0.12),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold",
            color=theme.ink,
            parse_math=False,
        )
    axes.set_ylim(top - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max(_end(values) for rows in groups.values() for values in rows.values()))
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    return to_picture(figure)


def _draw_row(axes: Any, place: float, values: np.ndarray, number: int, theme: Theme) -> None:
    """Draw one bar, its spread, its dots, and the mean in figures."""
    mean = float(values.mean())
    # Pale, so that the dots are seen.
    axes.barh(place, mean, 0.62, facecolor=theme.series[number % 5], alpha=0.45, linewidth=0)
    axes.barh(place, mean, 0.62, facecolor="none", hatch=HATCHES[number % 5], edgecolor=theme.paper, linewidth=0)
    if len(values) > 1:
        spread = values.std(ddof=1)
        axes.errorbar(mean, place, xerr=spread, color=theme.ink, capsize=3, linewidth=1.2)
        for i, value in enumerate(values):
            axes.plot(
                value,
                place,
                MARKERS[i % 5],
                color=theme.series[number % 5],
                markeredgecolor=theme.paper,
                markersize=5.5,
            )
    axes.annotate(
        f"{mean:.1f}",
        (_end(values), place),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=theme.ink,
    )


def _end(values: Sequence[float] | np.ndarray) -> float:
    """How far a row's bar, spread and dots reach."""
    array = np.asarray(values, float)
    return float(max(array.max(), array.mean() + (array.std(ddof=1) if len(array) > 1 else 0)))

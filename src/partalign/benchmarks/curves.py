"""Curves of growth, from the lines of `growth` as a file of results holds them: time and memory over size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from partalign.pictures.curves import new_figure, to_picture
from partalign.pictures.saving import save_picture
from partalign.pictures.theme import DARK, DASHES, LIGHT, MARKERS, Theme

Line = Mapping[str, Any]


def save(lines: Sequence[Line], folder: Path) -> list[Path]:
    """Draw every curve for light and for dark pages; return the files. Raises SaveError, MissingExtraError."""
    paths = []
    for what, part in by_curve(lines).items():
        for ending, theme in (("", LIGHT), ("-dark", DARK)):
            paths.append(folder / f"{file_name(what)}{ending}.png")
            save_picture(draw(part, theme), paths[-1], colours=64)
    return paths


def by_curve(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Put the lines of one curve together: those that differ in size alone."""
    curves: dict[str, list[Line]] = {}
    for line in lines:
        if line["axis"] is not None:
            curves.setdefault(line["what"].rpartition(", ")[0], []).append(line)
    return curves


def file_name(what: str) -> str:
    """Return a curve's name in lower case, with hyphens."""
    return re.sub(r"\W+", "-", what.lower())


def draw(lines: Sequence[Line], theme: Theme = LIGHT) -> Image.Image:
    """Draw one curve: time and memory of ours and of the reference, both axes logarithmic."""
    figure, panels = new_figure(2, (6.8, 2.9), theme)
    from matplotlib.ticker import LogLocator  # it is there, or the figure would not be

    against, axis = lines[0]["against"], lines[0]["axis"]
    for panel, (label, unit) in zip(panels, (("Time (ms)", 1e3), ("Memory (MiB)", 1 / 2**20)), strict=True):
        for number, (form, name) in enumerate((("ours", "partalign"), ("reference", against))):
            points = [(line["size"], _value(line, form, label) * unit) for line in lines if line[form] is not None]
            # No pages touched, or a system that cannot say: nothing to show on a logarithmic axis.
            known = [(size, value) for size, value in points if value > 0] or [(lines[0]["size"], 1.0)]
            panel.plot(
                *zip(*known, strict=True),
                color=theme.series[number],
                linestyle=DASHES[number],
                marker=MARKERS[number],
                linewidth=1.8,
                markersize=5,
                label=name,
            )
        panel.set_xscale("log")
        panel.set_yscale("log")
        low, high = panel.get_ylim()
        if high < 100 * low:
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:,g}")
        panel.yaxis.set_major_formatter("{x:,g}")
        panel.minorticks_off()
        panel.set_xlabel(axis[0].upper() + axis[1:])
        panel.set_ylabel(label)
    legend = panels[0].legend(frameon=False, fontsize=9, labelcolor=theme.ink)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return to_picture(figure)


def _value(line: Line, form: str, label: str) -> float:
    cost = line[form]
    if label.startswith("Memory"):
        return cost["peak"] or 0
    return cost["cpu" if line["threads"] == 1 else "wall"]

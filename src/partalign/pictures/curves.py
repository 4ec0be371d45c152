"""Charts: CMC curves of several models, training curves from a run's log, bars.

Takes plain numbers, returns pictures. Works on matplotlib's Figure alone: no pyplot, no global state, safe in a server.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from partalign.errors import ShapeError, TrainingError
from partalign.pictures.theme import DASHES, HATCHES, LIGHT, MARKERS, SCALE, Theme, missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {"loss": "Loss", "violating": "Violating triplets (%)", "mAP": "mAP (%)", "rank-1": "Rank-1 (%)"}
"""Quantities of a training log and the names of their axes; those in percent are fractions in the log."""

_DPI = 96 * SCALE


def draw_cmc(curves: Mapping[str, np.ndarray], *, ranks: int = 20, theme: Theme = LIGHT) -> Image.Image:
    """Draw CMC curves: how often a right match is among the first k.

    curves: model name -> (R,) fractions, entry 0 is rank-1. Raises ShapeError, MissingExtraError.
    """
    _check_curves(curves)
    figure, (axes,) = new_figure(1, (5.3, 3.7), theme)
    ends = [float(curve[:ranks].min()) for curve in curves.values()]
    handles = []
    for i, curve in enumerate(curves.values()):
        shown = 100 * np.asarray(curve, np.float64)[:ranks]
        marked = [k for k in (0, 4, 9, 14, 19) if k < len(shown)]
        (line,) = axes.plot(
            np.arange(1, len(shown) + 1), shown, marker=MARKERS[i % 5], markevery=marked, **_line_style(i, theme)
        )
        handles.append(line)
    axes.set_xlabel("Rank k")
    axes.set_ylabel("Right match among the first k (%)")
    axes.set_xticks([k for k in (1, 5, 10, 15, 20) if k <= ranks])
    axes.set_ylim(max(0, 10 * np.floor(10 * min(ends) - 0.01)), 100.5)
    axes.yaxis.set_major_formatter("{x:g}")
    _legend(axes, handles, [f"{name}   {100 * c[0]:.1f} at rank 1" for name, c in curves.items()], theme)
    return to_picture(figure)


class Run(NamedTuple):
    """Files of a training run."""

    model: Path
    log: Path


def find_runs(places: Sequence[Path]) -> dict[str, Run]:
    """Find runs by their folders or by the model files in them; each is named by its folder, as far as that tells.

    Raises TrainingError where nothing is named, or a place does not exist.
    """
    if not places:
        raise TrainingError("expected at least one run's folder or model file, found none: name one")
    folders = [Path(place) if Path(place).is_dir() else Path(place).parent for place in places]
    if missing := [place for place in places if not Path(place).exists()]:
        raise TrainingError(f"{missing[0]}: expected a run's folder or a model file, no such file; check the path")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(place) for place in places]
    models = [Path(p) / "model.safetensors" if Path(p).is_dir() else Path(p) for p in places]
    runs = zip(names, models, folders, strict=True)
    return {name: Run(model, folder / "log.jsonl") for name, model, folder in runs}


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Read a training log: one JSON object with `iteration` in each line.

    Returns each number's column, NaN where a line lacks it (mAP is measured now and then only). A last line that a
    crash cut short is left out. Raises TrainingError.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: expected a training log (JSON lines), cannot read it: {error}") from None
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            float(entry["iteration"])
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise TrainingError(
                f"{path}: line {number}: expected a JSON object with `iteration`: {line[:60]}"
            ) from None
        entries.append(entry)
    if not entries:
        raise TrainingError(f"{path}: expected a training log with at least one line, found none")
    names = dict.fromkeys(name for entry in entries for name, value in entry.items() if _is_number(value))
    return {name: np.array([_number(entry.get(name)) for entry in entries]) for name in names}


def draw_training(
    logs: Mapping[str, Mapping[str, np.ndarray]],
    *,
    quantities: Sequence[str] = ("loss", "violating", "mAP"),
    theme: Theme = LIGHT,
) -> Image.Image:
    """Draw quantities over iterations, one panel each, one line for each run.

    logs: run name -> columns as `read_log` returns them. A quantity that no log holds gets no panel.
    Raises TrainingError where none is left, MissingExtraError.
    """
    held = [q for q in quantities if any(np.isfinite(log.get(q, np.nan)).any() for log in logs.values())]
    if not held:
        raise TrainingError(f"expected a log with one of {', '.join(quantities)}, found none: train for longer")
    figure, panels = new_figure(len(held), (3 * len(held), 2.7), theme)
    for quantity, axes in zip(held, panels, strict=True):
        label, handles = AXES.get(quantity, quantity), []
        for i, log in enumerate(logs.values()):
            values = np.asarray(log.get(quantity, np.full(len(log["iteration"]), np.nan)), np.float64)
            known = np.isfinite(values)
            times, values = log["iteration"][known], values[known] * (100 if label.endswith("(%)") else 1)
            handles.append(_draw_run(axes, times, values, i, theme))
        axes.set_xlabel("Iteration")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        if len(logs) > 1 and axes is panels[0]:
            _legend(axes, handles, list(logs), theme)
    return to_picture(figure)


def draw_bars(
    groups: Mapping[str, Mapping[str, float]],
    *,
    spread: Mapping[str, Mapping[str, float]] | None = None,
    label: str = "",
    theme: Theme = LIGHT,
) -> Image.Image:
    """Draw groups of bars with the value above each: e.g. data set -> model -> percent.

    spread: the same keys -> half the length of an error bar (several seeds or worlds).
    Raises ShapeError, MissingExtraError.
    """
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    if not names:
        raise ShapeError("expected at least one bar, found none")
    figure, (axes,) = new_figure(1, (max(4.2, 0.55 * (len(names) + 1) * len(groups) + 1), 3.6), theme)
    width = 0.8 / len(names)
    handles = []
    for i, name in enumerate(names):
        style: dict[str, Any] = {"facecolor": theme.series[i % 5], "hatch": HATCHES[i % 5], "edgecolor": theme.paper}
        held = [(g, group) for g, group in enumerate(groups) if name in groups[group]]
        places = [g + (i - (len(names) - 1) / 2) * width for g, _ in held]
        handles.append(axes.bar(places, [groups[group][name] for _, group in held], width * 0.88, **style))
        for place, (_, group) in zip(places, held, strict=True):
            value, half = groups[group][name], (spread or {}).get(group, {}).get(name, 0.0)
            if half:
                axes.errorbar(place, value, half, color=theme.ink, capsize=3, linewidth=1.2)
            top = (place, max(value, 0) + half)
            axes.annotate(
                f"{value:.1f}", top, (0, 3), textcoords="offset points", ha="center", fontsize=8, color=theme.ink
            )
    axes.set_xticks(range(len(groups)), plain_names(groups))
    for tick in axes.get_xticklabels():
        tick.set_parse_math(False)
    axes.set_ylabel(label)
    axes.margins(y=0.12)
    axes.grid(visible=False, axis="x")
    if len(names) > 1:
        _legend(axes, handles, names, theme, outside=True)
    return to_picture(figure)


def _check_curves(curves: Mapping[str, np.ndarray]) -> None:
    if not curves:
        raise ShapeError("expected at least one CMC curve, found none")
    for name, curve in curves.items():
        curve = np.asarray(curve)
        if curve.ndim != 1 or not len(curve) or not ((curve >= 0) & (curve <= 1)).all():
            raise ShapeError(f"expected the CMC curve of {name} as (R,) fractions in 0..1, found shape {curve.shape}")


def _draw_run(axes: Axes, times: np.ndarray, values: np.ndarray, number: int, theme: Theme):
    """Draw one run; long noisy ones as a running mean over the pale raw line. Returns the line for the legend."""
    style = _line_style(number, theme)
    reach = len(values) // 50
    if reach >= 2:
        axes.plot(times, values, color=style["color"], alpha=0.25, linewidth=0.8)
        window = 2 * reach + 1
        times, values = times[reach:-reach], np.convolve(values, np.full(window, 1 / window), mode="valid")
    (line,) = axes.plot(times, values, marker=MARKERS[number % 5] if len(values) <= 12 else "", **style)
    return line


def _line_style(number: int, theme: Theme) -> dict[str, Any]:
    return {"color": theme.series[number % 5], "linestyle": DASHES[number % 5], "linewidth": 1.8, "markersize": 5}


def new_figure(panels: int, size: tuple[float, float], theme: Theme) -> tuple[Figure, list[Axes]]:
    """Start a figure of panels side by side, in the theme's colours; size in inches. Raises MissingExtraError."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("a chart", "matplotlib") from None
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor=theme.paper)
    row = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    for axes in row:
        axes.set_facecolor(theme.paper)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(theme.rule)
        axes.tick_params(colors=theme.muted, length=0, labelsize=9)
        axes.grid(color=theme.rule, linewidth=0.7)
        axes.set_axisbelow(True)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=theme.muted, fontsize=9)
            label.set_parse_math(False)
    return figure, row


def _legend(axes: Axes, handles: Sequence, names: Sequence[str], theme: Theme, *, outside: bool = False) -> None:
    where: dict[str, Any] = {"loc": "best"}
    if outside:
        where = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": min(len(names), 4)}
    # Names are filled in afterwards: matplotlib leaves out those with a leading underscore and reads $ as mathematics.
    legend = axes.legend(handles, ["."] * len(names), frameon=False, fontsize=9, labelcolor=theme.ink, **where)
    for text, name in zip(legend.get_texts(), plain_names(names), strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def plain_names(names: Iterable[str]) -> list[str]:
    """Make names fit for a chart: one line, not longer than a chart is wide."""
    lines = ["".join(c if c.isprintable() else " " for c in name) for name in names]
    return [line if len(line) <= 48 else line[:47] + "…" for line in lines]


def to_picture(figure: Figure) -> Image.Image:
    """Draw a figure as an RGB picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan

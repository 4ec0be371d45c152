"""One HTML file that says, in plain words and pictures, what was compared and how well it went.

The file opens offline: pictures are inside it, it asks for nothing and runs no script.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from partalign.errors import ShapeError
from partalign.files import atomic_file
from partalign.pictures.theme import DARK, LIGHT, RIGHT, SCALE, WRONG, missing_extra

# Charts have fewer colours than this; photographs have more, and would be many times larger without loss.
_CHART_COLOURS = 4096


@dataclass(frozen=True)
class Picture:
    """A picture of the report. `alt` says what it shows to those who cannot see it; `dark` is for dark pages."""

    image: Image.Image
    alt: str
    caption: str = ""
    dark: Image.Image | None = None


@dataclass(frozen=True)
class ModelScores:
    """One line of the table of models: fractions in 0..1, seconds as measured; None where not measured."""

    name: str
    rank1: float
    rank5: float | None = None
    rank10: float | None = None
    mAP: float | None = None  # noqa: N815 - the field's standard term
    mINP: float | None = None  # noqa: N815
    seconds: float | None = None


@dataclass(frozen=True)
class Report:
    """The sections of a report, in the order of the page; an empty one is left out.

    summary: the result in one or two sentences. shown: paragraphs on what was compared, on which pictures.
    seconds: what the models' `seconds` are seconds of. limits: what the report does not show (never empty).
    panels: what the pictures of `parts` show, from left to right.
    settings: name -> value, in a part of the page that opens on demand.
    """

    title: str
    summary: str
    shown: tuple[str, ...]
    limits: tuple[str, ...]
    models: tuple[ModelScores, ...] = ()
    seconds: str = "Training time on this machine."
    cmc: tuple[Picture, ...] = ()
    training: tuple[Picture, ...] = ()
    ranked: tuple[Picture, ...] = ()
    parts: tuple[Picture, ...] = ()
    panels: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        if not self.limits:
            raise ShapeError("expected at least one sentence on what the report does not show, found none")


def write_report(path: Path, report: Report) -> None:
    """Write the report to one HTML file, atomically. Raises SaveError, MissingExtraError."""
    template = _template()
    page = template.render(
        report=report, table=_table(report.models), picture=_inline, light=LIGHT, dark=DARK, signs=(RIGHT, WRONG)
    )
    with atomic_file(path) as file:
        file.write(page.encode("utf-8"))


def _template():
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise missing_extra("a report", "jinja2") from None
    environment = Environment(
        loader=PackageLoader("partalign.pictures", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


@dataclass(frozen=True)
class _Cell:
    text: str
    best: bool = False


_COLUMNS = {"rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mAP": "mAP", "mINP": "mINP"}


def _table(models: tuple[ModelScores, ...]) -> dict:
    """Return the table's head and rows as text, columns that no model fills left out, the best score of each marked."""
    held = [c for c in _COLUMNS if any(getattr(m, c) is not None for m in models)]
    timed = any(m.seconds is not None for m in models)
    best = {c: max(getattr(m, c) for m in models if getattr(m, c) is not None) for c in held}
    rows = []
    for model in models:
        scores = {c: getattr(model, c) for c in held}
        cells = [_Cell(_percent(v), len(models) > 1 and v == best[c]) for c, v in scores.items()]
        rows.append((model.name, cells + ([_Cell(_seconds(model.seconds))] if timed else [])))
    return {"head": [_COLUMNS[c] for c in held] + (["Seconds"] if timed else []), "rows": rows}


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _inline(image: Image.Image) -> dict:
    """Return the picture as a data URI with the size at which the page shows it: WebP, charts without loss."""
    image = image.convert("RGB")
    chart = image.getcolors(_CHART_COLOURS) is not None
    buffer = io.BytesIO()
    image.save(buffer, "webp", method=2, lossless=chart, quality=50 if chart else 88)
    data = buffer.getvalue()
    return {
        "uri": f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}",
        "width": max(1, image.width // SCALE),
        "height": max(1, image.height // SCALE),
    }

"""What a study found, as a table on screen, Markdown, a plot and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from rich.box import SIMPLE
from rich.table import Table

from partalign.evaluation.published import Setting, published_results
from partalign.files import atomic_file
from partalign.pictures.rows import draw_rows
from partalign.pictures.saving import save_picture
from partalign.pictures.theme import DARK, LIGHT, Theme
from partalign.studies.claims import VARIANTS
from partalign.studies.run import Finding

COLUMNS = ("variant", "rank-1", "mAP", "mAP to reference", "paper")


def rows(finding: Finding) -> list[tuple[str, ...]]:
    """Return the table's cells, in per cent: mean and standard deviation, paired difference, the paper's figures."""
    reference = finding.study.reference
    found = []
    for name in finding.measured:
        spread = [_mean_and_deviation(finding.column(name, measure)) for measure in ("rank-1", "mAP")]
        to = "reference" if name == reference else str(finding.against_reference(name))
        found.append((VARIANTS[name].label, *spread, to, _published(name)))
    return found


def table(finding: Finding) -> Table:
    """Return the table for a screen."""
    result = Table(title=f"{finding.title} ({finding.study.source})", box=SIMPLE, caption=_caption(finding))
    for column in COLUMNS:
        result.add_column(column, justify="left" if column == "variant" else "right", no_wrap=column != "variant")
    for cells in rows(finding):
        result.add_row(*cells)
    return result


def markdown(finding: Finding, *, heading: str = "#", picture: str = "") -> str:
    """Return a page, or a part of one: claim, verdict, picture, table, and what was expected with what was found."""
    study = finding.study
    lines = [f"{heading} {finding.title}", "", f"*{study.source}.* {study.claim}", "", f"**{finding.verdict}**", ""]
    lines += [picture, ""] if picture else []
    lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows(finding)]
    lines += ["", _caption(finding)]
    lines += ["", study.note] if study.note else []
    lines += [f"\nLeft out: {VARIANTS[name].label} ({why})." for name, why in finding.left_out.items()]
    return "\n".join(lines) + "\n"


def plot(finding: Finding, theme: Theme = LIGHT) -> Image.Image:
    """Draw the mAP of every variant: mean, one standard deviation each way, each run. Raises MissingExtraError."""
    panels = finding.study.panels or {"": {VARIANTS[name].label: name for name in finding.measured}}
    groups = {
        title: {
            bar: [100 * value for value in finding.column(name).values()]
            for bar, name in bars.items()
            if name in finding.measured
        }
        for title, bars in panels.items()
    }
    return draw_rows({title: rows for title, rows in groups.items() if rows}, label="mAP (%)", theme=theme)


def write(finding: Finding, folder: Path) -> None:
    """Write `results.json`, `table.md`, `plot.png` and `plot-dark.png`. Raises SaveError, MissingExtraError."""
    picture = "![mean and standard deviation](plot.png)"
    for name, text in (
        ("results.json", json.dumps(finding.as_dict(), indent=2) + "\n"),
        ("table.md", markdown(finding, picture=picture)),
    ):
        with atomic_file(folder / name) as file:
            file.write(text.encode())
    save_picture(plot(finding), folder / "plot.png", colours=64)
    save_picture(plot(finding, DARK), folder / "plot-dark.png", colours=64)


def _deviation(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _mean_and_deviation(column: Mapping[int, float]) -> str:
    values = [100 * value for value in column.values()]
    return f"{np.mean(values):.1f}" + (f" +- {_deviation(values):.1f}" if len(values) > 1 else "")


def _published(name: str) -> str:
    variant = VARIANTS[name]
    recipe = variant.published or (VARIANTS[variant.of].published if variant.of else None)
    if name == "reranked":
        recipe = "market1501-openpose-dilated"  # the only one that the paper re-ranks
    for result in published_results():
        if result.recipe == recipe and result.setting == Setting(rerank=variant.rerank):
            return f"{result.figures['rank-1']}, {result.figures.get('mAP', '-')}"
    return "-"


def _caption(finding: Finding) -> str:
    counts = sorted({len(finding.column(name)) for name in finding.measured})
    many = " to ".join(str(count) for count in (counts if len(counts) < 2 else (counts[0], counts[-1])))
    text = (
        f"On {finding.where}, {many} {finding.each}{'' if counts == [1] else 's'}: mean and standard deviation in per "
        "cent; differences are paired, with the 90% interval of their mean. Paper: rank-1, mAP on Market-1501."
    )
    own, other = ([share for pose, share in finding.pck.items() if pose.count("-") == dashes] for dashes in (1, 2))
    if own:
        text += f" The pose networks find {np.mean(own):.0%} of the joints"
        text += f" (of another domain: {np.mean(other):.0%} of theirs)." if other else "."
    return text

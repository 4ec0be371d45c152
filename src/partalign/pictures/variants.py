"""Tables of variants as bars: rank-1 and mAP, with the spread over seeds (Fig. 6).

Takes scores or the files that `partalign evaluate --json` writes, returns pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from partalign.errors import EvaluationError, ShapeError
from partalign.pictures.curves import draw_bars
from partalign.pictures.theme import LIGHT, Theme


@dataclass(frozen=True)
class Variant:
    """One row of a table: fractions in 0..1, one of each for each seed. Raises ShapeError for others."""

    name: str
    rank1: tuple[float, ...]
    mAP: tuple[float, ...]  # noqa: N815 - the field's standard term

    def __post_init__(self):
        values = (*self.rank1, *self.mAP)
        if len(self.rank1) != len(self.mAP) or not values or not all(0 <= value <= 1 for value in values):
            raise ShapeError(
                f"{self.name}: expected rank-1 and mAP of each seed, fractions in 0..1, found {self.rank1}, {self.mAP}"
            )


def read_variants(named: Sequence[str]) -> tuple[Variant, ...]:
    """Read the figures of `NAME=FILE`s, FILE as `partalign evaluate --json` writes it.

    The files of one name are its seeds. Raises EvaluationError for anything else.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for word in named:
        name, equals, file = word.partition("=")
        if not (name and equals and file):
            raise EvaluationError(f"expected NAME=FILE, such as baseline=scores.json, found {word!r}")
        try:
            scores = json.loads(Path(file).read_bytes())
            values = float(scores["rank-1"]), float(scores["mAP"])
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"rank-1 {values[0]}, mAP {values[1]}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvaluationError(
                f"{file}: expected figures that `partalign evaluate --json` wrote, with rank-1 and mAP as fractions, "
                f"found another file ({error}); score the model again"
            ) from None
        found.setdefault(name, []).append(values)
    return tuple(Variant(name, *map(tuple, zip(*values, strict=True))) for name, values in found.items())


def draw_variants(variants: Sequence[Variant], *, theme: Theme = LIGHT) -> Image.Image:
    """Draw the variants' rank-1 and mAP in per cent, means over seeds; the lines are one standard deviation each way.

    Raises ShapeError, MissingExtraError.
    """
    if len({variant.name for variant in variants}) != len(variants):
        raise ShapeError("expected a name of its own for each variant, found one twice")
    columns = {"Rank-1": "rank1", "mAP": "mAP"}
    values = {
        label: {_title(variant): 100 * np.array(getattr(variant, field)) for variant in variants}
        for label, field in columns.items()
    }
    means = {label: {name: float(v.mean()) for name, v in row.items()} for label, row in values.items()}
    # Of one seed there is no spread; of several, the spread that another run would have.
    spread = {
        label: {name: float(v.std(ddof=1)) if len(v) > 1 else 0.0 for name, v in row.items()}
        for label, row in values.items()
    }
    return draw_bars(means, spread=spread, label="Per cent", theme=theme)


def _title(variant: Variant) -> str:
    seeds = len(variant.rank1)
    return f"{variant.name} ({seeds} seeds)" if seeds > 1 else variant.name

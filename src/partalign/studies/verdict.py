"""Whether figures bear a claim out, by a rule that is stated before they are known.

Variants are compared within a world (or seed), as worlds differ from each other more than variants do. Of the paired
differences' mean the 90% interval by Student's t is taken. Above 0: held; below: did not hold; with 0 inside: not
decided. Two variants are level where the whole interval lies within 3 points, and not where it lies outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from partalign.studies.claims import LEVEL, Expectation

Answer = Literal["held", "did not hold", "not decided"]

CONFIDENCE = 0.9

RULE = (
    "Rule, set beforehand: figures are compared within each world or seed; a claim held where the 90% interval of the "
    "mean difference in mAP (Student's t) lies above 0, did not hold where it lies below, and is not decided else; two "
    "variants are level where it lies within 3 points. One comparison in twenty would pass by chance."
)


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and its 90% interval; with one pair, the interval is not known."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there are pairs enough for an interval."""
        return len(self.values) > 1

    def __str__(self) -> str:
        """In points: the mean and, in brackets, the interval."""
        if not self.values:
            return "-"
        interval = f" [{100 * self.low:+.1f}, {100 * self.high:+.1f}]" if self.known else ""
        return f"{100 * self.mean:+.1f}{interval}"


@dataclass(frozen=True)
class Answered:
    """An expectation, the differences found, and the answer."""

    text: str
    difference: Difference
    answer: Answer


def difference(values: Sequence[float]) -> Difference:
    """Return the mean of paired differences with its interval."""
    if not values:
        return Difference((), np.nan, -np.inf, np.inf)
    array = np.asarray(values, float)
    mean, half = float(array.mean()), np.inf
    if len(array) > 1:
        error = array.std(ddof=1) / len(array) ** 0.5
        half = float(t.ppf((1 + CONFIDENCE) / 2, len(array) - 1) * error)
    return Difference(tuple(array.tolist()), mean, mean - half, mean + half)


def answer(expectation: Expectation, figures: Mapping[str, Mapping[int, float]]) -> Answered:
    """Weigh the variants' figures (variant -> seed -> mAP) over the seeds that all of them have."""
    variants = expectation.weights
    seeds = sorted(set.intersection(*(set(figures.get(name, ())) for name in variants)))
    found = difference([sum(w * figures[name][seed] for name, w in variants.items()) for seed in seeds])
    margin = LEVEL if expectation.level else 0.0
    verdict: Answer = "not decided"
    if found.known:
        if expectation.level:
            inside = -margin <= found.low and found.high <= margin
            outside = found.low > margin or found.high < -margin
            verdict = "held" if inside else "did not hold" if outside else "not decided"
        else:
            verdict = "held" if found.low > 0 else "did not hold" if found.high < 0 else "not decided"
    return Answered(expectation.text, found, verdict)


def sentence(answers: Sequence[Answered], each: str) -> str:
    """Say whether the claim held, point by point. each: what the pairs are, "world" or "seed"."""
    most = max((len(a.difference.values) for a in answers), default=0)
    told = [f"With {_count(most, each)}."]
    for kind in ("held", "did not hold", "not decided"):
        points = []
        for a in answers:
            if a.answer == kind:
                pairs = len(a.difference.values)
                fewer = "" if pairs == most else f", {_count(pairs, each)}"
                points.append(f"{a.text} ({a.difference} points{fewer})")
        if points:
            told.append(f"{kind.capitalize()}: {'; '.join(points)}.")
    return " ".join(told)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

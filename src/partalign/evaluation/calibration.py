"""How probable is it that two pictures are of the same person, given their similarity? Platt's calibration.

Knows similarities only: no descriptor, no crop.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from partalign.errors import EvaluationError
from partalign.evaluation.verification import PairScores, similarity_of_steps

_ITERATIONS = 100
_CELLS = 15  # of equal width, over which the calibration error is taken


@dataclass(frozen=True)
class Calibration:
    """`P(same person | similarity) = 1 / (1 + exp(-(slope * similarity + offset)))`, where both are as likely before.

    matches, non_matches: numbers of pairs it was fitted to. log_loss (in nats, 0.693 for a coin) and
    calibration_error: on those pairs, each kind of the same total weight; `quality` gives both for other pairs.
    Raises EvaluationError where a number is not finite, or `slope` not positive.
    """

    slope: float
    offset: float
    matches: int
    non_matches: int
    log_loss: float
    calibration_error: float

    def __post_init__(self):
        if not all(abs(value) < 1e300 for value in asdict(self).values()) or self.slope <= 0:
            raise EvaluationError(f"expected a calibration of finite numbers and positive slope, found {self!s:.200}")

    def probability(self, similarity: ArrayLike, prior: float = 0.5) -> Any:
        """Return the probability of the same person, of the shape of `similarity` (a float for a single number).

        prior: how probable it is before the pictures are looked at, 0 to 1 exclusive. Pairs were weighted so that it
        was 0.5; another prior adds its log odds. Of a gallery of N persons, one of them the one looked for, it is
        1 / N. Raises EvaluationError where it is out of range.
        """
        log_odds = self.slope * np.asarray(similarity, dtype=np.float64) + (self.offset + _log_odds(prior, "prior"))
        result = np.exp(-np.logaddexp(0, -log_odds))
        return result if result.ndim else float(result)

    def threshold(self, probability: float, prior: float = 0.5) -> float:
        """Return the similarity at which `probability` is reached; it may be above 1, where none can reach it.

        Raises EvaluationError where `probability` or `prior` is not between 0 and 1.
        """
        wanted = _log_odds(probability, "probability") - _log_odds(prior, "prior")
        return (wanted - self.offset) / self.slope

    def quality(self, pairs: PairScores) -> tuple[float, float]:
        """Return log loss and expected calibration error on `pairs`, matches and non-matches of equal total weight.

        The second is the mean difference between the predicted probability and the share that is the same person,
        over 15 cells of probability (Naeini et al. 2015).
        """
        return _quality(self.slope, self.offset, *_weighted(pairs))

    def as_dict(self) -> dict[str, float]:
        """Return the fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Build from what `as_dict` returned. Raises EvaluationError where a field is missing, unknown or no number."""
        names = {f.name for f in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise EvaluationError(f"expected a calibration with {', '.join(sorted(names))}, found {values!r:.80}")
        bad = [name for name, value in values.items() if isinstance(value, bool) or not isinstance(value, int | float)]
        if bad:
            raise EvaluationError(f"expected numbers in a calibration, found {bad[0]} = {values[bad[0]]!r:.80}")
        return cls(**values)


def percent(probability: float) -> str:
    """Say a probability in whole per cents; never 0% or 100%, which no calibration can promise."""
    if not 0.01 <= probability <= 0.99:
        return "<1%" if probability < 0.5 else ">99%"
    return f"{probability:.0%}"


def in_words(probability: float, persons: int = 2) -> str:
    """Say a probability together with what it rests on: how many persons it may have been before looking."""
    return f"{percent(probability)}, {'if as likely as not' if persons == 2 else f'if one of {persons:,} persons'}"


def calibrate(pairs: PairScores) -> Calibration:
    """Fit a calibration: logistic regression of same or different on the similarity (Platt 1999).

    Both kinds of pairs get the same total weight, so that the result does not hang on how many persons a gallery has.
    Targets are Platt's, (M + 1) / (M + 2) and 1 / (N + 2) for M matches and N non-matches, which keeps the slope
    finite where the kinds do not overlap. Newton's method with step halving (Lin, Lin and Weng 2007).

    Raises EvaluationError where matches are not more similar than non-matches: no threshold would tell them apart.
    """
    similarity, weight, same = _weighted(pairs)
    target = np.where(same, (pairs.match_count + 1) / (pairs.match_count + 2), 1 / (pairs.non_match_count + 2))
    # Similarities may all lie within a thousandth; the method wants them around 0 and of width 1.
    centre = float(weight @ similarity)
    width = math.sqrt(weight @ (similarity - centre) ** 2)
    slope, offset = _newton((similarity - centre) / width, weight, target) if width > 1e-9 else (0.0, 0.0)
    if slope < 1e-6:
        raise EvaluationError(
            "matching pairs are not more similar than others, so no probability can be told from a similarity: "
            "train the model further, or check the persons' names"
        )
    slope, offset = slope / width, offset - slope * centre / width
    quality = _quality(slope, offset, similarity, weight, same)
    return Calibration(slope, offset, pairs.match_count, pairs.non_match_count, *quality)


def read_calibration(path: Path) -> Calibration:
    """Read what `partalign evaluate --verification --json FILE` wrote. Raises EvaluationError naming the file."""
    try:
        content = json.loads(Path(path).read_bytes())
        return Calibration.from_dict(content["calibration"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError, EvaluationError) as error:
        told = " ".join(str(error).split())[:200]
        raise EvaluationError(
            f"{path}: expected figures with a calibration (`partalign evaluate ... --verification --json FILE`), "
            f"cannot read it: {told}"
        ) from None


def _newton(x: np.ndarray, weight: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return (slope, offset) of least weighted log loss against `target`. Weights sum to 1."""
    inputs, at = np.stack([x, np.ones_like(x)]), np.zeros(2)

    def loss(at: np.ndarray) -> float:
        log_odds = at @ inputs
        return float(weight @ (np.logaddexp(0, log_odds) - target * log_odds))

    now = loss(at)
    for _ in range(_ITERATIONS):
        probability = np.exp(-np.logaddexp(0, -(at @ inputs)))
        gradient = inputs @ (weight * (probability - target))
        curvature = (inputs * (weight * probability * (1 - probability))) @ inputs.T
        step = -np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        if -gradient @ step < 1e-14:  # twice what is left to gain
            return float(at[0]), float(at[1])
        size = 1.0
        while (then := loss(at + size * step)) > now + 1e-4 * size * (gradient @ step) and size > 1e-8:
            size /= 2
        at, now = at + size * step, then
    raise EvaluationError(f"the calibration has not settled after {_ITERATIONS} steps: are all similarities alike?")


def _weighted(pairs: PairScores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return similarities, their weights (a half in all for each kind), and which are of the same person."""
    used = np.flatnonzero(pairs.non_matches)
    similarity = np.concatenate([pairs.matches.astype(np.float64), similarity_of_steps()[used]])
    of_matches = np.full(pairs.match_count, 0.5 / pairs.match_count)
    weight = np.concatenate([of_matches, pairs.non_matches[used] * (0.5 / pairs.non_match_count)])
    return similarity, weight, np.arange(len(similarity)) < pairs.match_count


def _quality(
    slope: float, offset: float, similarity: np.ndarray, weight: np.ndarray, same: np.ndarray
) -> tuple[float, float]:
    log_odds = slope * similarity + offset
    log_loss = weight @ np.logaddexp(0, np.where(same, -log_odds, log_odds))
    probability = np.exp(-np.logaddexp(0, -log_odds))
    cell = np.minimum((probability * _CELLS).astype(np.intp), _CELLS - 1)
    error = np.abs(np.bincount(cell, weight * (probability - same), minlength=_CELLS)).sum()
    return float(log_loss), float(error)


def _log_odds(probability: float, name: str) -> float:
    if not 0 < probability < 1:
        raise EvaluationError(f"expected a {name} between 0 and 1, both exclusive, found {probability}")
    return math.log(probability) - math.log1p(-probability)

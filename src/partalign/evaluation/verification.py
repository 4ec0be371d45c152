"""Are two pictures of the same person? Error rates over the query x gallery pairs that ranking uses.

Every pair of a query and a gallery row is either a match (the same person), left out (junk, or ignored by the
protocol), or a non-match. Matches are few and kept as they are; of non-matches, a billion or two with distractors,
only how many fall into each step of similarity, 1/65,536 wide. A rate at such a step is therefore exact, up to the
rounding of float32, and nothing is said of thresholds in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from partalign.crops import Embeddings
from partalign.errors import EvaluationError, ShapeError
from partalign.evaluation.metrics import BLOCK_BYTES, score_blocks
from partalign.evaluation.protocols import Relevance

RESOLUTION = 2.0**-16
"""Width of a step of similarity."""

REPORTED_FALSE_ACCEPTS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

FEWEST_ERRORS = 30
"""So many false accepts must be expected at a rate before it is reported: 30 errors put the true rate within 30 per
cent of the measured one with 90 per cent confidence (the rule of 30, Doddington et al. 2000)."""

_SCALE = 2**16  # steps per unit of similarity
_LOWEST = -(_SCALE + _SCALE // 64)  # where pairs that are left out are put: below any cosine, rounded or not
_STEPS = 2 * -_LOWEST + 1
_STRIP = 2**18  # similarities that are counted at a time, so that they are still in the cache


@dataclass(frozen=True, eq=False)
class PairScores:
    """Similarities of matching pairs, and how those of the other pairs are distributed.

    matches: (M,) float32, ascending. non_matches: how many pairs fall into each step; `similarity_of_steps` says
    which those are. A pair is accepted at a threshold where its similarity is not below. Raises EvaluationError
    where either kind is empty.
    """

    matches: np.ndarray = field(repr=False)
    non_matches: np.ndarray = field(repr=False)

    def __post_init__(self):
        if not len(self.matches) or not self.non_matches.any():
            found = "no matching" if not len(self.matches) else "no other"
            raise EvaluationError(
                f"expected pairs of the same person and of different ones, found {found} pairs: check the persons' "
                "names and the protocol"
            )

    @cached_property
    def match_count(self) -> int:
        """Number of pairs of the same person."""
        return len(self.matches)

    @cached_property
    def non_match_count(self) -> int:
        """Number of pairs of different persons."""
        return int(self.non_matches.sum())

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the false and the true accept rates, ascending from (0, 0) to (1, 1), one point for each step in use.

        Two (K,) float64 arrays. The points where a plot bends are all there; steps without pairs are not.
        """
        false, true = self._accepted
        used = np.flatnonzero(np.diff(false, prepend=-1) + np.diff(true, prepend=-1))
        return false[used] / self.non_match_count, true[used] / self.match_count

    def threshold_at(self, false_accept: float) -> float:
        """Return the lowest similarity (a whole step) at which no more than this share of non-matches is accepted.

        NaN where too few non-matches were seen to tell: `FEWEST_ERRORS` false accepts must be expected. Raises
        EvaluationError where `false_accept` is not above 0 and at most 1.
        """
        steps = self._steps_accepted_at(false_accept)
        return float("nan") if steps is None else (_STEPS - steps + _LOWEST) * RESOLUTION

    def true_accept_at(self, false_accept: float) -> float:
        """Return the share of matches that are accepted at `threshold_at(false_accept)`; NaN and errors as there."""
        steps = self._steps_accepted_at(false_accept)
        return float("nan") if steps is None else float(self._accepted[1][steps] / self.match_count)

    @cached_property
    def auc(self) -> float:
        """Area under the ROC curve: how often a match is more similar than a non-match, a tie counting half."""
        false, true = self.roc()
        return float(np.trapezoid(true, false))

    @cached_property
    def equal_error_rate(self) -> float:
        """The rate at which as many matches are rejected as non-matches are accepted, between two steps if need be."""
        false, true = self.roc()
        excess = false + true - 1  # of false accepts over false rejects: from -1 up to 1
        after = int(np.argmax(excess >= 0))
        share = excess[after] / (excess[after] - excess[after - 1])
        return float(false[after] - share * (false[after] - false[after - 1]))

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON; a rate that cannot be told from so few pairs is None."""
        rates = {f"{rate:.0e}": self.true_accept_at(rate) for rate in REPORTED_FALSE_ACCEPTS}
        return {
            "matches": self.match_count,
            "non_matches": self.non_match_count,
            "auc": self.auc,
            "equal_error_rate": self.equal_error_rate,
            "true_accept_at_false_accept": {k: None if np.isnan(rate) else rate for k, rate in rates.items()},
        }

    @cached_property
    def _accepted(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of non-matches and of matches that are accepted in the upper 0, 1, ... all steps."""
        matches = np.bincount(_steps(self.matches * np.float32(_SCALE)), minlength=_STEPS)
        upper = [np.concatenate(([0], np.cumsum(counts[::-1]))) for counts in (self.non_matches, matches)]
        return upper[0], upper[1]

    def _steps_accepted_at(self, false_accept: float) -> int | None:
        if not 0 < false_accept <= 1:
            raise EvaluationError(f"expected a share of false accepts above 0 and at most 1, found {false_accept}")
        allowed = false_accept * self.non_match_count * (1 + 1e-12)  # 0.29 * 100 is less than 29
        if allowed < FEWEST_ERRORS:
            return None
        return int(self._accepted[0].searchsorted(allowed, "right")) - 1


def similarity_of_steps() -> np.ndarray:
    """Return the similarity in the middle of each step of `PairScores.non_matches`, ascending, float64."""
    return (np.arange(_STEPS) + (_LOWEST + 0.5)) * RESOLUTION


def pair_scores(
    query: Embeddings,
    gallery: Embeddings,
    relevance: Relevance,
    *,
    block_bytes: int = BLOCK_BYTES,
    advance: Callable[[int], object] | None = None,
) -> PairScores:
    """Compare every query with every gallery row by the cosine, and sort the pairs as `relevance` says.

    relevance: what `protocol.relevance(query.crops, gallery.crops)` returns; pairs that it ignores, and junk, count
    as nothing. Queries without a match count too: they are different from everyone. Descriptors of any length will
    do. Holds one block of similarities, like `score`. advance: called with the number of queries done.

    Raises EvaluationError where there are no pairs of either kind, or a match is ignored too; ShapeError where the
    numbers of rows or dimensions do not fit.
    """
    if len(relevance.matches) != len(query) or len(relevance.ignored) != len(query):
        raise ShapeError(f"expected the relevance of {len(query)} queries, found that of {len(relevance.matches)}")
    # Scaled by a power of two, similarities come out of the product in steps, and not a bit is lost.
    inverse, scaled = 1 / _lengths(gallery.vectors), query.vectors * (_SCALE / _lengths(query.vectors))[:, None]
    counts, matches = np.zeros(_STEPS, dtype=np.int64), []
    for first, block in score_blocks(scaled, gallery.vectors, block_bytes):
        for i, row in enumerate(block, start=first):
            row *= inverse
            row[relevance.junk] = _LOWEST
            row[relevance.ignored[i]] = _LOWEST
            matches.append(row[relevance.matches[i]])
            row[relevance.matches[i]] = _LOWEST
        _count(block, counts)
        if advance is not None:
            advance(len(block))
    found = np.sort(np.concatenate(matches)) * np.float32(RESOLUTION)
    if len(found) and found[0] <= _LOWEST * RESOLUTION:
        raise EvaluationError("a gallery row is given as a match and as ignored or junk: give it as one of them")
    return PairScores(found, counts)


def _count(block: np.ndarray, counts: np.ndarray) -> None:
    """Add the numbers of similarities in each step to `counts`; those at the lowest are not counted."""
    height = max(1, _STRIP // block.shape[1])
    for top in range(0, len(block), height):
        counts += np.bincount(_steps(block[top : top + height]).reshape(-1), minlength=_STEPS)
    counts[0] = 0


def _steps(scaled: np.ndarray) -> np.ndarray:
    """Return the number of each similarity's step. scaled: similarities in steps, float32."""
    steps = np.empty(scaled.shape, dtype=np.intp)
    return np.add(scaled, np.float32(-_LOWEST), out=steps, casting="unsafe")


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))

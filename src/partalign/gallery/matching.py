"""From ranked rows to matches: several pictures as one query, re-ranking, groups, pages, probabilities.

Takes what a store ranked; knows no store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from partalign.errors import GalleryError
from partalign.gallery.records import Match, Record

Probability = Callable[[np.ndarray], np.ndarray]
"""Similarities -> probabilities of the same person, such as `Calibration.probability`."""

Rerank = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Queries (Q, D), the best rows for them (K, D) -> (K,) new scores, larger is better."""

Hits = tuple[list[Record], np.ndarray]
"""Records and similarities, best first; of equal similarities the smaller id first."""

MOST = 10**9
"""Largest rank that can be asked for; no gallery holds as many."""

Ranked = list[tuple[Record, float]]
"""Records with similarities, in order."""


@dataclass(frozen=True)
class Options:
    """How a search is done and what of it is shown: matches of rank offset + 1 to offset + limit.

    combine: search by the mean of several pictures' descriptors, or count for each record its best similarity to any.
    group: one match for each tracklet (of a camera), its best crop; a crop without a tracklet is one of its own.
    rerank: reorders the best `rerank_top`; similarities stay those of the descriptors. probability: fills in
    `Match.probability`. exact: if not, search by the gallery's approximate index, which must be there. peek: return one
    match more than `limit`, which tells whether there are further ones. Raises GalleryError.
    """

    limit: int = 20
    offset: int = 0
    combine: Literal["mean", "max"] = "mean"
    group: bool = False
    rerank: Rerank | None = None
    rerank_top: int = 100
    probability: Probability | None = None
    exact: bool = True
    peek: bool = False

    def __post_init__(self):
        for name, least in (("limit", 1), ("offset", 0), ("rerank_top", 1)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= MOST:
                raise GalleryError(f"expected {name} from {least} to {MOST:,}, found {value!r:.80}")
        if self.combine not in ("mean", "max"):
            raise GalleryError(f"expected pictures combined by mean or max, found {self.combine!r:.80}")

    @property
    def last(self) -> int:
        """Rank of the last match that is returned."""
        return self.offset + self.limit + self.peek

    @property
    def depth(self) -> int:
        """How many records must be ranked for that."""
        return max(self.last, self.rerank_top if self.rerank else 0)


def best_of_any(hits: Sequence[Hits], count: int) -> Ranked:
    """Join the rankings of several queries: a record counts by its best similarity."""
    if len(hits) == 1:
        return list(zip(hits[0][0], hits[0][1].tolist(), strict=True))
    best: dict[str, tuple[Record, float]] = {}
    for records, scores in hits:
        for record, score in zip(records, scores.tolist(), strict=True):
            if record.id not in best or score > best[record.id][1]:
                best[record.id] = record, score
    return sorted(best.values(), key=lambda hit: (-hit[1], hit[0].id))[:count]


def reordered(ranked: Ranked, scores: np.ndarray) -> Ranked:
    """Put the first records in the order of new scores (K,), the others behind them."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return [ranked[i] for i in order] + ranked[len(order) :]


def grouped(ranked: Ranked) -> tuple[Ranked, list[int]]:
    """Keep the first record of each tracklet; returns these, and how many more of it there were."""
    place: dict[tuple[str | None, ...], int] = {}
    firsts: Ranked = []
    more: list[int] = []
    for record, score in ranked:
        key = (record.id,) if record.tracklet is None else (record.camera, record.tracklet)
        if key in place:
            more[place[key]] += 1
        else:
            place[key] = len(firsts)
            firsts.append((record, score))
            more.append(0)
    return firsts, more


def matches(ranked: Ranked, options: Options, more: Sequence[int] | None = None) -> list[Match]:
    """Return the page that is shown."""
    page = slice(options.offset, options.last)
    chosen, further = ranked[page], (more or [0] * len(ranked))[page]
    probability = [None] * len(chosen)
    if options.probability is not None and chosen:
        probability = np.asarray(options.probability(np.array([score for _, score in chosen]))).tolist()
    return [
        Match(options.offset + i + 1, record, float(score), probability[i], further[i])
        for i, (record, score) in enumerate(chosen)
    ]

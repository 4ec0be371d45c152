"""Score descriptors of queries against those of a gallery under a protocol; pick both from saved descriptors.

Knows descriptors and records only: no network, no picture.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from partalign.crops import DISTRACTOR, Crop, Embeddings, Split
from partalign.errors import EvaluationError
from partalign.evaluation.metrics import (
    APKind,
    Ties,
    average_precision,
    cmc,
    inverse_negative_penalty,
    ranks_of_matches,
    require_one_of,
    score_blocks,
)
from partalign.evaluation.protocols import MARKET1501, Protocol, Relevance
from partalign.progress import bar

REPORTED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Counts:
    """What was scored: `without_match` queries are left out of every mean, `junk` gallery rows of every ranking."""

    queries: int
    scored: int
    without_match: int
    gallery: int
    junk: int
    distractors: int


@dataclass(frozen=True, eq=False)
class Scores:
    """Results of one evaluation; every figure is a fraction, and means are over the scored queries.

    ranks: for each query the ascending ranks, from 1, of its matches, empty where it has none.
    cmc: (N,) float64, at [k-1] the share of queries with a match among the first k; N is the size of the gallery.
    ap: which definition `mAP` has; `mean_ap` gives either. seeds: of the random draws, empty where nothing is drawn.
    """

    ranks: tuple[np.ndarray, ...]
    cmc: np.ndarray
    counts: Counts
    protocol: str
    ap: APKind = "rectangular"
    ties: Ties = "pessimistic"
    seeds: tuple[int, ...] = ()

    def rank(self, k: int) -> float:
        """Return rank-k: the share of queries with a match among the first k (k >= 1)."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    @cached_property
    def first_ranks(self) -> np.ndarray:
        """(Q,) rank of each query's first match, 0 where it has none."""
        return np.array([r[0] if len(r) else 0 for r in self.ranks], dtype=np.intp)

    def query_ap(self, kind: APKind | None = None) -> np.ndarray:
        """Return (Q,) each query's average precision, of `ap`'s kind unless told otherwise; NaN without a match."""
        return np.array([average_precision(r, kind or self.ap) for r in self.ranks])

    def mean_ap(self, kind: APKind) -> float:
        """Return the mean average precision of the given kind."""
        return float(np.nanmean(self.query_ap(kind)))

    @cached_property
    def mAP(self) -> float:
        """Mean average precision of the kind that `ap` names."""
        return self.mean_ap(self.ap)

    @cached_property
    def mINP(self) -> float:
        """Mean inverse negative penalty."""
        return float(np.nanmean([inverse_negative_penalty(r) for r in self.ranks]))

    def as_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes."""
        figures = {f"rank-{k}": self.rank(k) for k in REPORTED_RANKS} | {"mAP": self.mAP, "mINP": self.mINP}
        source = {"ap": self.ap, "ties": self.ties, "protocol": self.protocol, "seeds": list(self.seeds)}
        return figures | source | {"counts": asdict(self.counts)}

    def to_json(self) -> str:
        """Return rank-1, rank-5, rank-10, rank-20, mAP and mINP as fractions, and how they came about."""
        return json.dumps(self.as_dict(), indent=2)

    def table(self) -> str:
        """Return the figures in per cent, as text of a few lines."""
        figures = {f"rank-{k}": self.rank(k) for k in REPORTED_RANKS}
        figures |= {f"mAP ({self.ap})": self.mAP, "mINP": self.mINP}
        c = self.counts
        without = f", {c.without_match:,} without a match and left out" if c.without_match else ""
        lines = [
            "  ".join(figures),
            "  ".join(f"{100 * value:.1f}".rjust(len(name)) for name, value in figures.items()),
            f"protocol {self.protocol}: {c.scored:,} of {c.queries:,} queries scored{without}; "
            f"gallery of {c.gallery:,}, of which {c.junk:,} junk and {c.distractors:,} distractors",
        ]
        if self.seeds:
            lines.append(f"mean over {len(self.seeds)} draws")
        return "\n".join(lines)


def score(
    query: Embeddings,
    gallery: Embeddings,
    protocol: Protocol = MARKET1501,
    ap: APKind = "rectangular",
    *,
    ties: Ties = "pessimistic",
) -> Scores:
    """Rank the gallery for every query by inner product and score the rankings under `protocol`.

    Gallery descriptors must have unit length; a query's length has no effect. Holds one block of similarities
    (64 MB, or 192 rows where that is more), never the whole matrix. Raises EvaluationError where either side is
    empty, not of unit length, lacks persons or cameras, or no query has a match; ShapeError where the descriptors
    differ in dimension.
    """
    require_one_of(ap, APKind, "ap")
    _check(query, gallery)
    relevance = protocol.relevance(query.crops, gallery.crops)
    scored = sum(len(rows) > 0 for rows in relevance.matches)
    if not scored:
        raise EvaluationError(_nothing_to_score(relevance, protocol))
    with bar("Ranking", total=len(query)) as advance:
        ranks = ranks_of_matches(
            query.vectors,
            gallery.vectors,
            relevance.matches,
            relevance.ignored,
            relevance.junk,
            ties=ties,
            advance=advance,
        )
    counts = Counts(
        queries=len(query),
        scored=scored,
        without_match=len(query) - scored,
        gallery=len(gallery),
        junk=len(relevance.junk),
        distractors=sum(crop.person == DISTRACTOR for crop in gallery.crops),
    )
    return Scores(tuple(ranks), cmc(ranks, len(gallery)), counts, protocol.name, ap, ties)


def top_matches(
    query: Embeddings, gallery: Embeddings, protocol: Protocol = MARKET1501, count: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `count` gallery rows of each query's ranking, and their similarities, best first.

    Junk, and what the protocol ignores for the query, is left out; of equal similarities the lower row comes first.
    (Q, count) int and float32, `count` cut to the gallery's size; where a ranking is shorter, its last places hold
    row -1 and similarity -inf. Raises like `score`, except that a query needs no match.
    """
    _check(query, gallery)
    relevance = protocol.relevance(query.crops, gallery.crops)
    count = min(count, len(gallery))
    rows = np.full((len(query), count), -1, dtype=np.intp)
    similarities = np.full((len(query), count), -np.inf, dtype=np.float32)
    for first, block in score_blocks(query.vectors, gallery.vectors):
        block[:, relevance.junk] = -np.inf
        for i, row in enumerate(block, start=first):
            row[relevance.ignored[i]] = -np.inf
            best = _best(row, count)
            rows[i, : len(best)], similarities[i, : len(best)] = best, row[best]
    return rows, similarities


def _best(row: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of the `count` largest entries, best first, the lower of equal ones first; none at -inf."""
    last = np.partition(row, len(row) - count)[len(row) - count]
    candidates = np.flatnonzero((row >= last) & (row > -np.inf))
    return candidates[np.argsort(-row[candidates], kind="stable")][:count]


def match_saved(saved: Embeddings | Path, split: Split) -> tuple[Embeddings, Embeddings]:
    """Pick the query and gallery rows of `split` from saved descriptors; returns (query, gallery).

    A crop is found by its path, or where the data set lies elsewhere now, by `Crop.key` (folder/name). The records,
    and so persons and cameras, are the split's. Raises EvaluationError, with counts and the first names, where crops
    are absent or a key names several files.
    """
    name = "the embeddings" if isinstance(saved, Embeddings) else str(saved)
    embeddings = saved if isinstance(saved, Embeddings) else Embeddings.load(saved)
    by_path = {crop.path: row for row, crop in enumerate(embeddings.crops)}
    by_key = {crop.key: row for row, crop in enumerate(embeddings.crops)}
    wanted = [*split.query, *split.gallery]
    missing = [c for c in wanted if c.path not in by_path and c.key not in by_key]
    if missing:
        names = ", ".join(c.key for c in missing[:3])
        raise EvaluationError(
            f"{name}: {len(missing)} of {len(wanted)} query and gallery crops of {split.name} are not among the "
            f"{len(embeddings)} saved ones, the first are {names}: embed the query and the gallery folders"
        )
    _refuse_ambiguous({c.key for c in wanted if c.path not in by_path}, wanted, embeddings.crops, name)

    def pick(crops: Sequence[Crop]) -> Embeddings:
        rows = np.array([by_path.get(c.path, by_key.get(c.key)) for c in crops], dtype=np.intp)
        return Embeddings(embeddings.vectors[rows], tuple(crops))

    return pick(split.query), pick(split.gallery)


def _refuse_ambiguous(keys: set[str], wanted: Sequence[Crop], saved: Sequence[Crop], name: str) -> None:
    """Raise where one of `keys`, by which crops are to be found, is of several files, wanted or saved."""
    wanted_paths = {c.path for c in wanted}
    copies = Counter(Crop(path).key for path in wanted_paths), Counter(crop.key for crop in saved)
    shared = sorted(key for key in keys if copies[0][key] > 1 or copies[1][key] > 1)
    if shared:
        raise EvaluationError(
            f"{name}: {len(shared)} crops cannot be told apart by folder and file name, the first is {shared[0]}: "
            "embed the data set where it lies now, or give the files names of their own"
        )


def _check(query: Embeddings, gallery: Embeddings) -> None:
    for side, embeddings in (("query", query), ("gallery", gallery)):
        if not len(embeddings):
            raise EvaluationError(f"expected {side} descriptors, found none: is the {side} folder empty?")
    lengths = np.sqrt(np.einsum("nd,nd->n", gallery.vectors, gallery.vectors))
    if abs(lengths - 1).max() > 5e-3:  # wide enough for vectors that were kept in half precision
        raise EvaluationError(
            f"expected gallery descriptors of unit length, found lengths from {lengths.min():.4g} to "
            f"{lengths.max():.4g}: divide each descriptor by its length"
        )


def _nothing_to_score(relevance: Relevance, protocol: Protocol) -> str:
    queries = len(relevance.matches)
    if protocol.same_camera == "keep":
        return f"none of {queries} queries has another picture of its person in the gallery: check the persons' names"
    seen = sum(len(rows) > 0 for rows in relevance.ignored)
    if not seen:
        return f"the persons of all {queries} queries are absent from the gallery: check the persons' names"
    return (
        f"all {queries} queries have no match from another camera ({seen} have one from their own camera only); "
        f"protocol {protocol.name} ignores those: use same_camera=keep for single-camera data"
    )

"""Score descriptors of queries against those of a gallery under a protocol; pick both from saved descriptors.

Knows descriptors and records only: no network, no picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from partalign.crops import DISTRACTOR, JUNK, Crop, Embeddings, Split
from partalign.errors import EvaluationError
from partalign.evaluation.centering import centered
from partalign.evaluation.expansion import expanded
from partalign.evaluation.metrics import APKind, Search, Ties, cmc, ranks_of_matches, require_one_of, score_blocks
from partalign.evaluation.pooling import pool_queries, pool_tracklets
from partalign.evaluation.protocols import MARKET1501, Protocol, Relevance
from partalign.evaluation.scores import Counts, Scores
from partalign.progress import bar


class Descriptors(NamedTuple):
    """What one test is scored from; pool: the crops that multi-query averages, None for single query."""

    query: Embeddings
    gallery: Embeddings
    pool: Embeddings | None = None

    def centered(self) -> Descriptors:
        """Return them without what each camera makes of everybody. Raises EvaluationError where a camera is unknown."""
        return Descriptors(*centered(*(part for part in self if part is not None)))


def score(
    query: Embeddings,
    gallery: Embeddings,
    protocol: Protocol = MARKET1501,
    ap: APKind = "rectangular",
    *,
    test_sets: Sequence[frozenset[str]] = (),
    ties: Ties = "pessimistic",
    search: Search = score_blocks,
    methods: Sequence[str] = (),
) -> Scores:
    """Rank the gallery for every query by inner product, or by `search`, and score the rankings under `protocol`.

    Gallery descriptors must have unit length; a query's length has no effect. Holds one block of similarities
    (64 MB, or 192 rows where that is more), never the whole matrix. test_sets: as `Split` has them. search: as
    `metrics.score_blocks`; `reranking.reranked_blocks` re-ranks. methods: said in the results, change nothing.

    Raises EvaluationError where either side is empty, not of unit length, lacks persons or cameras, or no query has a
    match; ShapeError where the descriptors differ in dimension.
    """
    require_one_of(ap, APKind, "ap")
    query, gallery = pooled(Descriptors(query, gallery), protocol)
    _check(query, gallery)
    trials = list(protocol.trials(query.crops, gallery.crops, test_sets))
    ranks, junk, distractors = [], 0, 0
    whole = not protocol.draws and not test_sets
    with bar("Ranking", total=sum(len(rows) for rows, _ in trials)) as advance:
        for rows, columns in trials:
            part, rest = (query, gallery) if whole else (query.select(rows), gallery.select(columns))
            relevance = protocol.relevance(part.crops, rest.crops)
            if not any(map(len, relevance.matches)):
                raise EvaluationError(_nothing_to_score(relevance, len(rest), protocol))
            ranks += ranks_of_matches(
                part.vectors,
                rest.vectors,
                relevance.matches,
                relevance.ignored,
                relevance.junk,
                ties=ties,
                search=search,
                advance=advance,
            )
            junk = max(junk, len(relevance.junk))
            distractors = max(distractors, sum(crop.person == DISTRACTOR for crop in rest.crops))
    size, scored = max(len(columns) for _, columns in trials), sum(map(bool, map(len, ranks)))
    counts = Counts(len(ranks), scored, len(ranks) - scored, size, junk, distractors)
    curve = cmc(ranks, size, protocol.cmc)
    sizes = tuple(len(rows) for rows, _ in trials)
    return Scores(tuple(ranks), curve, counts, protocol, ap, ties, sizes, tuple(methods))


def pooled(descriptors: Descriptors, protocol: Protocol) -> tuple[Embeddings, Embeddings]:
    """Return query and gallery as they are compared: the pool averaged, tracklets as one descriptor each.

    Raises as `pool_queries` and `pool_tracklets`.
    """
    query, gallery, pool = descriptors
    if pool is not None:
        query = pool_queries(query, pool)
    if protocol.tracklets:
        query = pool_tracklets(query, protocol.tracklets, "query crops")
        gallery = pool_tracklets(gallery, protocol.tracklets, "gallery crops")
    return query, gallery


def score_descriptors(
    descriptors: Descriptors,
    protocol: Protocol = MARKET1501,
    ap: APKind = "rectangular",
    *,
    test_sets: Sequence[frozenset[str]] = (),
    rerank: bool = False,
    expand: int = 0,
    center: bool = False,
) -> Scores:
    """Score one test; multi-query where there is a pool.

    center: take the mean descriptor of each camera off first. expand: replace every query by the mean of itself and so
    many of its best gallery rows (AQE). rerank: by k-reciprocal neighbours. Raises as `score`, `centered`,
    `pool_queries` and `reranked_blocks`.
    """
    query, gallery = pooled(descriptors.centered() if center else descriptors, protocol)
    methods = [] if descriptors.pool is None else ["multi-query"]
    if center:
        methods.append("cameras centred")
    search: Search = _reranked_blocks() if rerank else score_blocks
    if expand:
        plain, search = search, lambda q, g, **memory: plain(expanded(q, g, count=expand), g, **memory)
        methods.append(f"queries expanded by {expand}")
    if rerank:
        methods.append("re-ranked")
    return score(query, gallery, protocol, ap, test_sets=test_sets, search=search, methods=methods)


def score_series(descriptors: Descriptors, sizes: Sequence[int], *options: Any, **more: Any) -> list[Scores]:
    """Score against the first rows of the gallery, as many as each of `sizes` says: a series of growing distractors.

    options, more: as `score_descriptors`.
    """
    query, gallery, pool = descriptors
    galleries = [Embeddings(gallery.vectors[:size], gallery.crops[:size]) for size in sizes]
    return [score_descriptors(Descriptors(query, part, pool), *options, **more) for part in galleries]


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


def similar_pairs(embeddings: Embeddings, count: int = 10) -> list[tuple[int, int, float]]:
    """Return the `count` most similar pairs of different rows, (i, j, similarity) with i < j, best first."""
    found: list[tuple[float, int, int]] = []
    for first, block in score_blocks(embeddings.vectors, embeddings.vectors):
        block[np.tri(len(block), block.shape[1], first, dtype=bool)] = -np.inf
        flat = block.reshape(-1)
        for place in _best(flat, min(count, flat.size)):
            i, j = divmod(int(place), block.shape[1])
            found.append((-float(flat[place]), first + i, j))
        found = sorted(found)[:count]
    return [(i, j, -negative) for negative, i, j in found]


def _best(row: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of the `count` largest entries, best first, the lower of equal ones first; none at -inf."""
    last = np.partition(row, len(row) - count)[len(row) - count]
    candidates = np.flatnonzero((row >= last) & (row > -np.inf))
    return candidates[np.argsort(-row[candidates], kind="stable")][:count]


def match_saved(saved: Embeddings | Path, split: Split, multi_query: bool = False) -> Descriptors:
    """Pick the query, gallery and, for multi-query, pool rows of `split` from saved descriptors.

    A crop is found by its path, or where the data set lies elsewhere now, by `Crop.key` (folder/name). The records,
    and so persons and cameras, are the split's. Raises EvaluationError, with counts and the first names, where crops
    are absent or a key names several files.
    """
    name = "the embeddings" if isinstance(saved, Embeddings) else str(saved)
    embeddings = saved if isinstance(saved, Embeddings) else Embeddings.load(saved)
    by_path = {crop.path: row for row, crop in enumerate(embeddings.crops)}
    by_key = {crop.key: row for row, crop in enumerate(embeddings.crops)}
    wanted = [*split.query, *split.gallery, *(split.pool if multi_query else ())]
    missing = [c for c in wanted if c.path not in by_path and c.key not in by_key]
    if missing:
        names = ", ".join(c.key for c in missing[:3])
        raise EvaluationError(
            f"{name}: {len(missing)} of {len(wanted)} query and gallery crops of {split.name} are not among the "
            f"{len(embeddings)} saved ones, the first are {names}: embed the query and the gallery folders"
        )
    _refuse_ambiguous({c.key for c in wanted if c.path not in by_path}, wanted, embeddings.crops, name)
    _refuse_contradictions(embeddings, {c.path for c in wanted}, by_path, name)

    def pick(crops: Sequence[Crop]) -> Embeddings:
        rows = np.array([by_path.get(c.path, by_key.get(c.key)) for c in crops], dtype=np.intp)
        return Embeddings(embeddings.vectors[rows], tuple(crops))

    return Descriptors(pick(split.query), pick(split.gallery), pick(split.pool) if multi_query else None)


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


def _refuse_contradictions(saved: Embeddings, wanted: set[Path], rows: dict[Path, int], name: str) -> None:
    """Raise where one of the files `wanted` was saved twice, with different descriptors."""
    twice = [(row, rows[crop.path]) for row, crop in enumerate(saved.crops) if rows[crop.path] != row]
    odd = [row for row, other in twice if saved.crops[row].path in wanted and not _alike(saved.vectors[[row, other]])]
    if odd:
        raise EvaluationError(
            f"{name}: {len(odd)} crops are there twice with different descriptors, the first is "
            f"{saved.crops[odd[0]].path}: embed them again"
        )


def _alike(pair: np.ndarray) -> bool:
    return bool(abs(pair[0] - pair[1]).max() <= 1e-3 * abs(pair).max())


def _check(query: Embeddings, gallery: Embeddings) -> None:
    for side, embeddings in (("query", query), ("gallery", gallery)):
        if not len(embeddings):
            raise EvaluationError(f"expected {side} descriptors, found none: is the {side} folder empty?")
    require_unit_length(gallery.vectors)


def require_unit_length(vectors: np.ndarray) -> None:
    """Raise EvaluationError where one of the gallery descriptors (N, D) is not of unit length."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    if abs(lengths - 1).max() > 5e-3:  # wide enough for vectors that were kept in half precision
        raise EvaluationError(
            f"expected gallery descriptors of unit length, found lengths from {lengths.min():.4g} to "
            f"{lengths.max():.4g}: divide each descriptor by its length"
        )


def _nothing_to_score(relevance: Relevance, gallery: int, protocol: Protocol) -> str:
    queries = len(relevance.matches)
    if protocol.same_camera == "keep":
        return f"none of {queries} queries has another picture of its person in the gallery: check the persons' names"
    seen = sum(len(rows) > 0 for rows in relevance.ignored)
    if len(relevance.junk) == gallery:
        return f"all {gallery} gallery crops are junk (person {JUNK}): nothing is left to rank"
    if not seen:
        return f"the persons of all {queries} queries are absent from the gallery: check the persons' names"
    return (
        f"all {queries} queries have no match from another camera ({seen} have one from their own camera only); "
        f"protocol {protocol.name} ignores those: use same_camera=keep or tracklet for single-camera data"
    )


def _reranked_blocks() -> Search:
    from partalign.evaluation.reranking import reranked_blocks  # needs scipy, which scoring alone does not

    return reranked_blocks

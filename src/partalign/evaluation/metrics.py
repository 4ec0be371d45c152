"""Ranks of the matches, and CMC, average precision and inverse negative penalty from them.

Neither the query x gallery matrix is held nor a gallery sorted: the rank of a match is one more than the number of
gallery rows that score higher, so similarities are made block by block and counted against the matches' own.
Knows nothing of persons, cameras or files: `protocols` says which rows match and which are left out.

What is guaranteed of ties. A match and the rows it is compared with come from the same product, never from a second
one that could differ in the last bit. Each product is of 192 queries, padded with zeros, and one of two numbers of
gallery rows that depend on the gallery's size only: so the memory given to a block cannot change a bit of any result.
That equal gallery rows get equal similarities wherever they stand is a property of the matrix product in use; it holds
for those that sum each element in one order (the tests check it for the one installed), and not for a product of a
single row, which is why none is made. Another number of threads may change last bits, and so part or join near ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from partalign.errors import EvaluationError, ShapeError

Ties = Literal["pessimistic", "optimistic"]
"""Where a match stands among non-matches of exactly its similarity: after all of them, or before."""

APKind = Literal["rectangular", "trapezoidal"]
"""How the area under the precision-recall curve is taken; see `average_precision`."""

CMCKind = Literal["first-match", "all-matches"]
"""What a cumulative match characteristic counts of each query; see `cmc`."""

BLOCK_BYTES = 64 * 2**20
"""Memory for one block of similarities; a block has 192 rows at least (400 MB for 519,732 gallery rows)."""

Search = Callable[..., Iterator[tuple[int, np.ndarray]]]
"""What makes similarities of (query, gallery, block_bytes=...), block by block: `score_blocks`, `reranked_blocks`."""

_TILE = (192, 256)  # queries per product; gallery rows of the last product, and what those of the first divide by
_PADDING = 16  # columns: a row length that is a multiple of 4 KiB makes all rows compete for the same cache lines
_SORTED_PER_MATCH = 128  # above so many rivals per match, counting them once per match is faster than sorting them
_NO_ROWS = np.empty(0, dtype=np.intp)


def ranks_of_matches(
    query: ArrayLike,
    gallery: ArrayLike,
    matches: Sequence[ArrayLike],
    ignored: Sequence[ArrayLike] | None = None,
    junk: ArrayLike = _NO_ROWS,
    *,
    ties: Ties = "pessimistic",
    search: Search | None = None,
    block_bytes: int = BLOCK_BYTES,
    advance: Callable[[int], object] | None = None,
) -> list[np.ndarray]:
    """Rank the gallery by inner product for each query and return the ranks, from 1, of the query's matches.

    query: (Q, D), gallery: (N, D) float32, of one length (unit vectors; the query's own length does not matter).
    matches, ignored: for each query the gallery rows that show its person, and those that are left out of its
    ranking; junk: gallery rows left out of every ranking. No row may be in two of them.
    ties: see `Ties`; under "pessimistic", the default, descriptors that are all alike score worst and not best.
    search: what makes the similarities, `score_blocks` by default. block_bytes: memory for them.
    advance: called with the number of queries done, for a progress bar.

    Returns Q ascending arrays, empty where a query has no match. Raises ShapeError where sizes do not fit,
    EvaluationError where a number is not finite, a match is ignored too, or `ties` is unknown.

    >>> gallery = [[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]]
    >>> ranks_of_matches([[1.0, 0.0]], gallery, matches=[[1, 3]])
    [array([2, 4])]
    >>> ranks_of_matches([[1.0, 0.0]], gallery, matches=[[1, 3]], ignored=[[0]], junk=[2])
    [array([1, 2])]
    """
    if len(matches) != len(np.asarray(query)) or (ignored is not None and len(ignored) != len(matches)):
        raise ShapeError(
            f"expected rows of matches (and ignored rows) for each of {len(np.asarray(query))} queries, "
            f"found {len(matches)}" + ("" if ignored is None else f" and {len(ignored)}")
        )
    require_one_of(ties, Ties, "ties")
    junk = np.asarray(junk, dtype=np.intp)
    ranks = []
    for first, block in (search or score_blocks)(query, gallery, block_bytes=block_bytes):
        block[:, junk] = -np.inf
        for i, row in enumerate(block, start=first):
            if ignored is not None:
                row[np.asarray(ignored[i], dtype=np.intp)] = -np.inf
            ranks.append(_ranks_in_row(row, np.asarray(matches[i], dtype=np.intp), ties))
        if advance is not None:
            advance(len(block))
    return ranks


def _ranks_in_row(row: np.ndarray, matches: np.ndarray, ties: Ties) -> np.ndarray:
    """Return the ascending ranks of `matches` in one row of similarities (which is overwritten)."""
    if not len(matches):
        return _NO_ROWS
    own = np.sort(row[matches])
    if own[0] == -np.inf:
        raise EvaluationError("a gallery row is given as a match and as ignored or junk: give it as one of them")
    row[matches] = -np.inf
    return _above(row, own, ties)[::-1] + np.arange(1, len(own) + 1)


def _above(row: np.ndarray, own: np.ndarray, ties: Ties) -> np.ndarray:
    """Return how many entries of `row` stand before each of the ascending similarities `own`."""
    beats, side = (np.greater_equal, "left") if ties == "pessimistic" else (np.greater, "right")
    rivals = row[np.flatnonzero(beats(row, own[0]))]
    if len(rivals) > _SORTED_PER_MATCH * len(own):
        return np.array([np.count_nonzero(beats(rivals, score)) for score in own])
    rivals.sort()
    return len(rivals) - rivals.searchsorted(own, side)


def similarities_of_matches(query: ArrayLike, gallery: ArrayLike, matches: Sequence[ArrayLike]) -> list[np.ndarray]:
    """Return the similarities of each query's matches, best first, as `ranks_of_matches` orders their ranks.

    query: (Q, D), gallery: (N, D) float32; matches: for each query the gallery rows. Raises as `score_blocks`.
    """
    return [
        np.sort(row[np.asarray(matches[i], dtype=np.intp)])[::-1].copy()
        for first, block in score_blocks(query, gallery)
        for i, row in enumerate(block, start=first)
    ]


def count_rivals(
    query: ArrayLike, others: ArrayLike, own: Sequence[np.ndarray], ties: Ties = "pessimistic"
) -> np.ndarray:
    """Count the rows of `others`, none of them a match, that rank before each match.

    query: (Q, D), others: (N, D) float32. own: `similarities_of_matches`. The ranks in a part of a gallery, and the
    counts of all other parts, add up to the ranks in the whole; of ties, what is said above holds for the parts too.
    Returns (matches of all queries,) int64, in the order of `own`. Raises as `score_blocks`.

    >>> own = similarities_of_matches([[1.0, 0.0]], [[0.8, 0.6], [0.0, 1.0]], [[0, 1]])
    >>> count_rivals([[1.0, 0.0]], [[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]], own).tolist()
    [2, 3]
    """
    counts = [np.empty(0, np.int64)]
    for first, block in score_blocks(query, others):
        for row, best in zip(block, own[first : first + len(block)], strict=True):
            if len(best):
                counts.append(_above(row, best[::-1], ties)[::-1])
    return np.concatenate(counts).astype(np.int64, copy=False)


def score_blocks(
    query: ArrayLike, gallery: ArrayLike, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the inner products of query and gallery rows as (number of the first query, block of rows x N).

    query: (Q, D), gallery: (N, D) float32. The block may be written to and is valid until the next one is asked for.
    Raises ShapeError, or EvaluationError where a number is not finite.
    """
    query, gallery = checked_pair(query, gallery)
    height, width = _TILE
    main = len(gallery) // width * width
    rest = np.zeros((width, query.shape[1]), dtype=np.float32)
    rest[: len(gallery) - main] = gallery[main:]
    row_length = main + width + _PADDING
    tiles = min(block_bytes // (4 * row_length * height), -(-len(query) // height))
    block = np.empty((max(1, tiles) * height, row_length), dtype=np.float32)
    queries = np.zeros((len(block), query.shape[1]), dtype=np.float32)
    for first in range(0, len(query), len(block)):
        count = min(len(block), len(query) - first)
        queries[:count] = query[first : first + count]
        for top in range(0, count, height):
            tile = slice(top, top + height)
            np.matmul(queries[tile], gallery[:main].T, out=block[tile, :main])
            np.matmul(queries[tile], rest.T, out=block[tile, main : main + width])
        yield first, block[:count, : len(gallery)]


def checked_pair(query: ArrayLike, gallery: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return query (Q, D) and gallery (N, D) as contiguous float32 matrices, without a copy of one that is so already.

    Raises ShapeError, or EvaluationError where a number is not finite.
    """
    query, gallery = _checked(query, "query"), _checked(gallery, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise ShapeError(
            f"query descriptors have {query.shape[1]} dimensions, gallery descriptors {gallery.shape[1]}: "
            "embed both with the same model"
        )
    return query, gallery


def _checked(vectors: ArrayLike, name: str) -> np.ndarray:
    """Return `vectors` as a contiguous float32 matrix, without a copy where it is one."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ShapeError(f"expected {name} descriptors of shape (rows, dimensions), none empty, found {vectors.shape}")
    bad = 0
    for first in range(0, len(vectors), 4096):  # by parts: np.isfinite makes an array of its own
        bad += np.count_nonzero(~np.isfinite(vectors[first : first + 4096]).all(axis=1))
    if bad:
        raise EvaluationError(f"{bad} of {len(vectors)} {name} descriptors hold numbers that are not finite")
    return vectors


def cmc(ranks: Sequence[ArrayLike], top: int, kind: CMCKind = "first-match") -> np.ndarray:
    """Return the cumulative match characteristic: at [k-1] the share of queries with a match among the first k.

    ranks: for each query the ascending ranks of its matches; queries without any are left out. kind: "first-match", of
    Market-1501, counts a query once, by its best match. "all-matches" counts each of its K matches as 1 / K of a query,
    at the rank that it has among the non-matches. (top,) float64. Raises EvaluationError where no query has a match, or
    `kind` is neither.

    >>> cmc([[1, 7], [3], []], top=4).tolist()
    [0.5, 0.5, 1.0, 1.0]
    >>> cmc([[1, 7], [3], []], top=4, kind="all-matches").tolist()
    [0.25, 0.25, 0.75, 0.75]
    """
    require_one_of(kind, CMCKind, "kind of CMC")
    matched = [found for found in map(np.asarray, ranks) if len(found)]
    if not matched:
        raise EvaluationError(f"none of {len(ranks)} queries has a match in the gallery: there is nothing to average")
    if kind == "first-match":
        matched = [found[:1] for found in matched]
    places = np.concatenate([found - np.arange(len(found)) for found in matched])
    weights = np.concatenate([np.full(len(found), 1 / len(found)) for found in matched])
    counted = np.bincount(np.minimum(places, top + 1), weights, minlength=top + 2)[1 : top + 1]
    return np.cumsum(counted) / len(matched)


def average_precision(ranks: ArrayLike, kind: APKind = "rectangular") -> float:
    """Return the area under one query's precision-recall curve, in (0, 1]; NaN without matches.

    ranks: ascending ranks, from 1, of all its K matches. "rectangular", of most libraries and scikit-learn, is the mean
    of the precision k / r_k at each match. "trapezoidal", of the data set's own MATLAB code for Market-1501 and MARS,
    takes at each match the mean of that and the precision one rank before it, which counts as 1 before rank 1.
    The two differ in the third digit: a figure without its kind cannot be compared. Raises EvaluationError where
    `kind` is neither.

    >>> average_precision([1, 3])
    0.8333333333333333
    >>> average_precision([1, 3], "trapezoidal")
    0.7916666666666666
    """
    require_one_of(kind, APKind, "kind of average precision")
    ranks = np.asarray(ranks, dtype=np.float64)
    if not len(ranks):
        return float("nan")
    found = np.arange(1, len(ranks) + 1)
    precision = found / ranks
    if kind == "trapezoidal":
        before = np.where(ranks > 1, (found - 1) / np.maximum(ranks - 1, 1), 1.0)
        precision = (before + precision) / 2
    return float(precision.mean())


def inverse_negative_penalty(ranks: ArrayLike) -> float:
    """Return K / r_K: how few gallery rows must be looked at to find all K matches (Ye et al. 2021); NaN without.

    ranks: ascending ranks, from 1, of all matches of one query.

    >>> inverse_negative_penalty([1, 4])
    0.5
    """
    ranks = np.asarray(ranks)
    return len(ranks) / float(ranks[-1]) if len(ranks) else float("nan")


def require_one_of(value: str, choices: object, name: str) -> None:
    """Raise EvaluationError where `value` is not among the words of the Literal `choices`."""
    if value not in get_args(choices):
        raise EvaluationError(f"expected {name} to be one of {', '.join(get_args(choices))}, found {value!r}")

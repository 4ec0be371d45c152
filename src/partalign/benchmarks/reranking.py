"""k-reciprocal re-ranking against the dense form of the published code, at two sizes, and against its products alone.

The dense form holds several matrices of all rows x all rows and goes over them row by row. The descriptors are those of
`ranking`, rounded so that float32 holds their products exactly: both forms then see the same neighbours, and what is
compared is the re-ranking and not the order in which two libraries of linear algebra sum.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from partalign.benchmarks import ranking
from partalign.benchmarks.measure import Bar, Comparison, compare
from partalign.evaluation.reranking import reranked_blocks

Case = tuple[int, int, tuple[int, int, int], int, float]
"""Queries, persons, gallery as in `ranking.data`, rounds, and the speed-up to reach."""

CASES: tuple[Case, ...] = ((500, 110, (2500, 500, 0), 3, 8), (3368, 750, (13115, 2798, 0), 1, 12))
"""A small size, and Market-1501's without junk: 3,368 + 15,913."""

DENSE, PRODUCTS = "dense", "products alone"
_HEAD = 64  # places of a ranking within which ties are put in order
_PANEL = 1024


def run(
    cases: tuple[Case, ...] = CASES, dimension: int = 512, rounds: int | None = None, threads: int = 1
) -> list[Comparison]:
    """Re-rank at these sizes, with each case's rounds unless `rounds` is given. Raises BenchmarkError."""
    lines = []
    for queries, persons, gallery, own_rounds, speed in cases:
        query, rows = features(queries, persons, gallery, dimension)
        measure = partial(
            compare,
            f"re-rank {len(query):,} + {len(rows):,}",
            ours=partial(reranked, query, rows),
            rounds=rounds or own_rounds,
            threads=threads,
        )
        reference = partial(dense, query, rows)
        lines.append(measure(DENSE, reference=reference, tolerance=2e-6, bar=Bar(speed=speed, saving=10)))
        lines.append(measure(PRODUCTS, reference=partial(products, query, rows), tolerance=None))
    return lines


def features(
    queries: int, persons: int, gallery: tuple[int, int, int], dimension: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of `ranking.data` in multiples of 2^-11: of sums up to 2 in absolute value none is rounded."""
    sides = ranking.data(queries, persons, gallery, dimension)
    query, rows = (np.round(side.vectors * 2**11) / np.float32(2**11) for side in sides)
    return query, rows


def reranked(query: np.ndarray, gallery: np.ndarray) -> tuple[ArrayLike]:
    """Return the (Q, N) distances that the product makes block by block."""
    distances = np.empty((len(query), len(gallery)), dtype=np.float32)
    for first, block in reranked_blocks(query, gallery, block_bytes=0):  # the result is held: blocks may be small
        np.negative(block, out=distances[first : first + len(block)])
    return (distances,)


def products(query: np.ndarray, gallery: np.ndarray) -> tuple[ArrayLike, ...]:
    """Make what every exact form has to: the products of all pairs of rows, and those of queries and gallery."""
    rows = np.concatenate((query, gallery))
    buffer = np.empty((_PANEL, len(rows)), dtype=np.float32)
    for top in range(0, len(rows), _PANEL):
        panel = rows[top : top + _PANEL]
        np.matmul(panel, rows[top:].T, out=buffer[: len(panel), top:])
    for top in range(0, len(query), _PANEL):
        panel = query[top : top + _PANEL]
        np.matmul(panel, gallery.T, out=buffer[: len(panel), : len(gallery)])
    return ()


def dense(query: np.ndarray, gallery: np.ndarray, k1: int = 20, k2: int = 6, weight: float = 0.3) -> tuple[ArrayLike]:
    """Return the (Q, N) distances of Zhong et al. 2017, from dense float32 matrices as in the published code.

    As there, the distances between and within the two sides are given as three matrices, which are joined.
    """
    between, within_query, within_gallery = (
        squared_distances(*sides) for sides in ((query, gallery), (query, query), (gallery, gallery))
    )
    distances = np.block([[within_query, between], [between.T, within_gallery]])
    order = ranked(distances)
    distances /= distances.max(axis=1, keepdims=True)
    encodings = np.zeros_like(distances)
    for i in range(len(order)):
        chosen = extended(order, i, k1)
        decayed = np.exp(-distances[i, chosen])
        encodings[i, chosen] = decayed / decayed.sum()
    distances = distances[: len(query), len(query) :].copy()
    if k2 > 1:
        averaged = np.empty_like(encodings)
        for i in range(len(order)):
            averaged[i] = encodings[order[i, :k2]].mean(axis=0)
        encodings = averaged
        del averaged
    del order
    return (weight * distances + (1 - weight) * jaccard(encodings, len(query)),)


def squared_distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distances of all pairs of rows of the two sides."""
    distances = rows @ columns.T
    distances *= -2
    distances += (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)
    return distances


def ranked(distances: np.ndarray) -> np.ndarray:
    """(M, M) int32: for each row the rows in order of distance, equal ones of the first 64 by their number."""
    order = np.argsort(distances, axis=1).astype(np.int32)
    head = order[:, :_HEAD]
    again = np.lexsort((head, np.take_along_axis(distances, head, axis=1)), axis=1)
    order[:, :_HEAD] = np.take_along_axis(head, again, axis=1)
    return order


def reciprocal(order: np.ndarray, row: int, k: int) -> np.ndarray:
    """Return those of the row and its k nearest that have the row among their k nearest."""
    nearest = order[row, : k + 1]
    return nearest[(order[nearest, : k + 1] == row).any(axis=1)]


def extended(order: np.ndarray, row: int, k1: int) -> np.ndarray:
    """Return the k1-reciprocal neighbours of a row, and the halves of theirs of which two thirds are among them."""
    own = reciprocal(order, row, k1)
    sets = [own]
    for candidate in own:
        half = reciprocal(order, candidate, int(np.around(k1 / 2)))
        if len(np.intersect1d(half, own)) > 2 / 3 * len(half):
            sets.append(half)
    return np.unique(np.concatenate(sets))


def jaccard(encodings: np.ndarray, queries: int) -> np.ndarray:
    """(Q, N) Jaccard distances of the first rows to the others, by an inverted index, as the published code."""
    holders = [np.flatnonzero(column) for column in encodings.T]
    distances = np.empty((queries, len(encodings) - queries), dtype=np.float32)
    for i in range(queries):
        minima = np.zeros(len(encodings), dtype=np.float32)
        for column in np.flatnonzero(encodings[i]):
            rows = holders[column]
            minima[rows] += np.minimum(encodings[i, column], encodings[rows, column])
        distances[i] = 1 - minima[queries:] / (2 - minima[queries:])
    return distances

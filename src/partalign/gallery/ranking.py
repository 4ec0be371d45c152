"""The best rows of a matrix for queries, exactly: products in blocks, and a threshold in place of a selection.

After the first block a row must reach the k-th best similarity so far to be looked at again, and few do; so that beside
the product almost nothing is left to do, and no matrix of queries x rows is held. Knows rows only, no records.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_SCORES = 2**22  # similarities held at a time, 16 MB
_FIRST = 2**11  # rows of the first block
_ROWS = 2**15  # of a block, at the most
_SPARSE = 0.4  # share of a block's rows below which they are copied out before the product
_FEW = 8  # queries
_LOWEST = -2.0  # below any cosine


def best_rows(
    matrix: np.ndarray, queries: np.ndarray, count: int, mask: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each query the rows of the `count` largest inner products, best first, and these.

    matrix: (N, D) and queries: (Q, D), float32, of unit length. mask: (N,) bool, which rows count; None for all. All
    rows that are equal to the last one are returned, too, so that there may be more than `count`; of equal ones the
    lower row comes first.
    """
    limits = np.full(len(queries), _LOWEST, dtype=np.float32)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    transposed = np.ascontiguousarray(queries.T)
    largest = min(max(_SCORES // max(len(queries), 1), _FIRST), _ROWS)
    new = first = 0
    step = min(_FIRST, largest)
    while first < len(matrix):
        scores, rows = _scores(matrix, transposed, slice(first, min(first + step, len(matrix))), mask)
        if not first and len(scores) > count:  # else everything of the first block would be kept and sorted
            limits = np.maximum(limits, -np.partition(-scores.T, count - 1, axis=1)[:, count - 1])
        place, query = np.divmod(np.flatnonzero(scores >= limits), len(queries))
        if len(place):
            found.append((query, place + first if rows is None else rows[place], scores[place, query]))
            new += len(place)
        if new > count * len(queries):
            found, new = [_kept(found, count, limits)], 0
        # Of as many rows as were seen before about as many pass as are kept; for few queries that is soon sorted.
        first, step = first + step, min((2 if len(queries) > _FEW else 16) * step, largest)
    query, rows_found, values = _kept(found, count, limits)
    cuts = np.searchsorted(query, np.arange(len(queries) + 1))
    return [(rows_found[a:b], values[a:b]) for a, b in pairwise(cuts)]


def _scores(
    matrix: np.ndarray, queries: np.ndarray, block: slice, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the products (B, Q) of a block, and of which rows they are; None for all of the block."""
    if mask is None or (number := np.count_nonzero(mask[block])) == block.stop - block.start:
        return matrix[block] @ queries, None
    if not number:
        return np.empty((0, queries.shape[1]), np.float32), np.empty(0, np.intp)
    if number < _SPARSE * (block.stop - block.start):
        rows = np.flatnonzero(mask[block]) + block.start
        return matrix[rows] @ queries, rows
    scores = matrix[block] @ queries
    scores[~mask[block]] = 2 * _LOWEST
    return scores, None


def _kept(
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]], count: int, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep each query's `count` best and their equals, sorted by query; raises `limits` to the last of them."""
    if not found:
        nothing = np.empty(0, np.intp)
        return nothing, nothing, np.empty(0, np.float32)
    query, rows, values = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((rows, -values, query))
    query, rows, values = query[order], rows[order], values[order]
    starts = np.searchsorted(query, np.arange(len(limits)))
    last = starts + count - 1
    full = np.flatnonzero((last < len(query)) & (query[np.minimum(last, len(query) - 1)] == np.arange(len(limits))))
    limits[full] = values[last[full]]
    keep = values >= limits[query]
    return query[keep], rows[keep], values[keep]

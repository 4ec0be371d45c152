"""k-reciprocal re-ranking (Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017).

Two rows that are among each other's nearest neighbours are likely of one person: each row, query or gallery, is
described by its k-reciprocal neighbours, and rows are compared by how far these sets overlap. The definition is that
of the paper's published code, which holds several matrices of all rows x all rows; here the sets are sparse matrices,
the neighbours come from `neighbours`, and what remains to be done for a query is a product and a few thousand sums.
Knows nothing of persons, cameras or files.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from partalign.errors import EvaluationError
from partalign.evaluation.metrics import BLOCK_BYTES, checked_pair, score_blocks
from partalign.evaluation.neighbours import Neighbours, nearest, padded, squared_lengths

_PART = 512  # rows, or pairs of rows, that are gathered at a time
_SUMS = 2**16  # sums of minima made at a time


def reranked_blocks(
    query: ArrayLike,
    gallery: ArrayLike,
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the re-ranked similarities as (number of the first query, block of rows x N), like `score_blocks`.

    query: (Q, D), gallery: (N, D) float32, best of unit length. k1: neighbours of which the reciprocal ones are taken;
    k2: rows, with itself, over which a row's description is averaged (1: not at all). Both are cut to Q + N rows.
    A similarity is -((1 - weight) J + weight d), where J is the Jaccard distance of the two rows' descriptions
    (eq. 10 of the paper) and d their squared Euclidean distance, divided by the query's largest to any row.

    A row comes first among its own neighbours, and of equal distances the lower row does, queries before the gallery.
    The same bits come out for any `block_bytes`. All but the last step is done when the first block is asked for; it
    holds a copy of the descriptors and, for each row, some hundreds of numbers, never a matrix of rows x rows.
    Raises ShapeError, or EvaluationError where a number is not finite or a parameter out of range.
    """
    if min(k1, k2) < 1 or not 0 <= weight <= 1:
        raise EvaluationError(
            f"expected k1 and k2 of at least 1 and a weight from 0 to 1, found k1={k1}, k2={k2}, weight={weight}"
        )
    query, gallery = checked_pair(query, gallery)
    queries = len(query)
    encodings, lengths, farthest = _encodings(query, gallery, k1, k2)
    described, holders = csr_array(encodings[:queries]), csr_array(encodings[queries:].T)
    del encodings
    # -weight d - (1 - weight) is linear in the inner products; the Jaccard similarity is added to it.
    slope = (2 * weight / farthest[:queries])[:, None]
    offset = (weight * lengths[:queries] / farthest[:queries] + (1 - weight))[:, None]
    halves = lengths[queries:] / 2
    at_once = max(1, _SUMS // len(gallery))
    for first, block in score_blocks(query, gallery, block_bytes):
        these = slice(first, first + len(block))
        block -= halves
        block *= slope[these]
        block -= offset[these]
        if weight < 1:
            for top in range(0, len(block), at_once):
                part = block[top : top + at_once]
                part += (1 - weight) * _jaccard(described[first + top : first + top + len(part)], holders)
        yield first, block


def _jaccard(described: csr_array, holders: csr_array) -> np.ndarray:
    """Return (rows, N) Jaccard similarities, sum of minima by sum of maxima, of descriptions with those of the gallery.

    described: (rows, M). holders: (M, N), the gallery's descriptions by column. All descriptions have the sum 1.
    """
    rows, size = described.shape[0], holders.shape[1]  # type: ignore[index]
    chosen = csr_array(holders[described.indices])
    repeats = np.diff(chosen.indptr)
    places = np.repeat(np.arange(rows) * size, np.diff(described.indptr))
    minima = np.minimum(np.repeat(described.data, repeats), chosen.data)
    shared = np.bincount(np.repeat(places, repeats) + chosen.indices, minima, minlength=rows * size)
    shared = shared.astype(np.float32).reshape(rows, size)
    shared /= 2 - shared
    return shared


def _encodings(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int) -> tuple[csr_array, np.ndarray, np.ndarray]:
    """Return the descriptions (M, M) of all M = Q + N rows, their squared lengths and their largest distances (M,)."""
    rows = len(query) + len(gallery)
    vectors = padded(query, gallery)
    lengths = squared_lengths(vectors)
    found = nearest(vectors, lengths, rows, min(max(k1 + 1, k2), rows))
    farthest = np.where(found.farthest > 0, found.farthest, np.float32(np.inf))  # all rows equal: all distances 0
    # Weights of eq. 7, and of rows that are not neighbours of a row but of its neighbours. In all, each row sums to 1.
    near, added = _reciprocal(found, k1)
    near.data = np.exp(near.data / -farthest[_row_numbers(near)])
    added.data = np.exp(_squared_distances(vectors, lengths, added) / -farthest[_row_numbers(added)])
    encodings: csr_array = near + added  # type: ignore[operator]
    encodings.data /= encodings.sum(axis=1)[_row_numbers(encodings)]
    if k2 > 1:  # local query expansion, eq. 11
        nearby = found.rows[:, :k2]
        encodings = _sparse(nearby, np.full(nearby.shape, 1 / nearby.shape[1], dtype=np.float32)) @ encodings
    return encodings, lengths[:rows], farthest


def _reciprocal(found: Neighbours, k1: int) -> tuple[csr_array, csr_array]:
    """Return the k1-reciprocal neighbours with their distances, and the pattern of those added to them (eq. 3 to 5).

    Added are the k1/2-reciprocal neighbours of a k1-reciprocal neighbour if more than two thirds of them are
    k1-reciprocal neighbours already.
    """
    wide, narrow = found.rows[:, : k1 + 1], found.rows[:, : round(k1 / 2) + 1]
    mutual = _mutual(wide)
    near = _sparse(wide, found.distances[:, : k1 + 1], mutual)
    pattern = csr_array((np.ones_like(near.data), near.indices, near.indptr), near.shape)
    half = _sparse(narrow, np.ones(narrow.shape, dtype=np.float32), _mutual(narrow))
    overlap = csr_array(pattern.multiply(csr_array(pattern @ half.T)))
    sizes = np.diff(half.indptr)
    overlap.data = (3 * overlap.data > 2 * sizes[overlap.indices]).astype(np.float32)
    overlap.eliminate_zeros()
    all_added = csr_array(overlap @ half)
    return near, csr_array(all_added - all_added.multiply(pattern))


def _mutual(rows: np.ndarray) -> np.ndarray:
    """(M, K) bool: whether row i is among the neighbours (M, K) of each of its own neighbours."""
    mutual = np.empty(rows.shape, dtype=bool)
    for top in range(0, len(rows), _PART):
        part = rows[top : top + _PART]
        mutual[top : top + _PART] = (rows[part] == np.arange(top, top + len(part))[:, None, None]).any(axis=2)
    return mutual


def _sparse(columns: np.ndarray, values: np.ndarray, chosen: np.ndarray | None = None) -> csr_array:
    """Return the (M, M) matrix with `values` (M, K) at `columns` (M, K), or those of them that are `chosen`."""
    chosen = np.ones(columns.shape, dtype=bool) if chosen is None else chosen
    starts = np.concatenate(([0], np.cumsum(chosen.sum(axis=1)))).astype(np.int32)  # with int64 all indices would be
    matrix = csr_array((values[chosen], columns[chosen], starts), shape=(len(columns), len(columns)))
    matrix.sort_indices()
    return matrix


def _squared_distances(vectors: np.ndarray, lengths: np.ndarray, pairs: csr_array) -> np.ndarray:
    """Return the squared distances of the pairs of rows that a sparse matrix holds, in its order."""
    rows, columns = _row_numbers(pairs), pairs.indices
    products = np.empty(len(rows), dtype=np.float32)
    for top in range(0, len(rows), _PART):
        part = slice(top, top + _PART)
        products[part] = np.einsum("nd,nd->n", vectors[rows[part]], vectors[columns[part]])
    return np.maximum(lengths[rows] + lengths[columns] - 2 * products, 0)


def _row_numbers(matrix: csr_array) -> np.ndarray:
    return np.repeat(np.arange(len(matrix.indptr) - 1, dtype=np.int32), np.diff(matrix.indptr))

"""The nearest neighbours of every row among all rows, exactly, at little more than the cost of the products.

The matrix of distances is symmetric and never held: only the tiles on and above its diagonal are made, one at a time,
and each serves the rows of both its sides. From a tile only the distances below a row's limit, the largest it keeps
so far, are looked at; after a few tiles these are one in hundreds.
Knows nothing of queries and galleries.

A neighbour is kept as one 64-bit number, the bits of its distance above its row: bits of distances sort like the
distances, so that sorting these numbers sorts by distance and, where it is equal, by row. Each product is of the same
shape, which depends on the number of rows only, and padded with zeros: see `metrics` on what that does for ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import sgemm  # type: ignore[attr-defined]

from partalign.errors import EvaluationError
from partalign.progress import bar

TILE = 1024
"""Rows of a tile at most: 4 MB of distances, which the processor's cache holds until all are looked at."""

_ROUNDING = 128  # rows of a tile are a multiple of this
_INFINITY = np.float32(np.inf)
_ITSELF = np.int64(-1) << 32  # before every distance
_NOBODY = np.int64(_INFINITY.view(np.int32)) << 32 | 0xFFFFFFFF  # after every distance


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For each of N rows its K nearest, itself first, then by distance, of equal distances the lower row first.

    rows: (N, K) int32. distances: (N, K) float32, squared Euclidean.
    farthest: (N,) float32, the largest squared distance of the row to any other.
    """

    rows: np.ndarray
    distances: np.ndarray
    farthest: np.ndarray


def padded(*parts: np.ndarray) -> np.ndarray:
    """Return the parts' rows in one float32 matrix, with rows of zeros after them up to a whole number of tiles."""
    count = sum(len(part) for part in parts)
    height = tile_height(count)
    rows = np.zeros((-(-count // height) * height, parts[0].shape[1]), dtype=np.float32)
    np.concatenate(parts, out=rows[:count])
    return rows


def tile_height(count: int) -> int:
    """Return the number of rows of a tile, for that many rows in all."""
    tiles = -(-count // TILE)
    return -(-count // (tiles * _ROUNDING)) * _ROUNDING


def squared_lengths(vectors: np.ndarray) -> np.ndarray:
    """(N,) float32 squared lengths of the rows. Raises EvaluationError where distances would exceed float32."""
    lengths = np.einsum("nd,nd->n", vectors, vectors)
    if not lengths.max() < np.finfo(np.float32).max / 4:
        raise EvaluationError(
            f"expected descriptors shorter than 9e18, found squared lengths up to {lengths.max():.3g}: "
            "divide each descriptor by its length"
        )
    return lengths


def nearest(vectors: np.ndarray, lengths: np.ndarray, rows: int, count: int) -> Neighbours:
    """Find the `count` nearest among the first `rows` rows of each of them, itself included (2 <= count <= rows).

    vectors: (M, D), from `padded`; lengths: (M,) their `squared_lengths`.
    """
    height = tile_height(rows)
    tiles = [slice(top, min(top + height, rows)) for top in range(0, rows, height)]
    # Row j meets the tiles in ascending order of the other side's rows: an equal distance never displaces a kept one.
    keys = np.full((rows, count), _NOBODY)
    keys[:, 0] = _ITSELF + np.arange(rows)
    limits = np.full(rows, _INFINITY)
    farthest = np.zeros(rows, dtype=np.float32)
    tile = np.empty((height, height), dtype=np.float32)
    with bar("Comparing all pairs", total=len(tiles) * (len(tiles) + 1) // 2) as advance:
        for number, upper in enumerate(tiles):
            for right in tiles[number:]:
                _fill(tile, vectors, lengths, upper.start, right.start)
                distances = tile[: upper.stop - upper.start, : right.stop - right.start]
                np.maximum(farthest[upper], distances.max(axis=1), out=farthest[upper])
                if upper is right:
                    np.fill_diagonal(distances, _INFINITY)
                else:
                    np.maximum(farthest[right], distances.max(axis=0), out=farthest[right])
                    _keep_nearest(keys[right], limits[right], distances.T, upper.start)
                _keep_nearest(keys[upper], limits[upper], distances, right.start)
                advance()
    distances = _distances(keys)
    distances[:, 0] = 0
    return Neighbours((keys & 0xFFFFFFFF).astype(np.int32), distances, farthest)


def _fill(tile: np.ndarray, vectors: np.ndarray, lengths: np.ndarray, top: int, left: int) -> None:
    """Write the squared distances of the rows from `top` on to those from `left` on."""
    down, across = (slice(start, start + len(tile)) for start in (top, left))
    # BLAS adds the product to the sum of the lengths in place: no pass of its own, and d(i, j) = d(j, i) to the bit.
    # It counts by columns, so all is given to it transposed.
    np.add.outer(lengths[down], lengths[across], out=tile)
    sgemm(-2.0, vectors[across].T, vectors[down].T, beta=1.0, c=tile.T, trans_a=True, overwrite_c=True)


def _keep_nearest(keys: np.ndarray, limits: np.ndarray, distances: np.ndarray, first: int) -> None:
    """Take into `keys` (R, K), sorted, and `limits` (R,) what is nearer in `distances` (R, C) to rows `first` + 0..C-1.

    distances: by rows or, for the other side of a tile, by columns.
    """
    count = keys.shape[1]
    if limits[0] == _INFINITY:
        _set_limits(limits, distances, count - 1)
    row, column = _where_below(distances, limits)
    found = distances[row, column]
    # Rounding makes some distances of equal rows negative, whose bits would sort wrongly.
    found = np.where(found > 0, found, np.float32(0)).view(np.int32).astype(np.int64) << 32 | (column + first)
    per_row = np.bincount(row, minlength=len(keys))
    changed = np.flatnonzero(per_row)
    if not len(changed):
        return
    # What was found is written behind what was kept, in rows as long as the longest, and each row is sorted.
    per_row = per_row[changed]
    both = np.full((len(changed), count + per_row.max()), _NOBODY)
    both[:, :count] = keys[changed]
    gap = np.arange(len(changed)) * both.shape[1] + count - (np.cumsum(per_row) - per_row)
    both.reshape(-1)[np.repeat(gap, per_row) + np.arange(len(found))] = found
    both.sort(axis=1)
    keys[changed] = both[:, :count]
    largest = _distances(both[:, count - 1])
    limits[changed] = np.where(largest > 0, largest, -_INFINITY)  # nothing is nearer than 0, whatever rounding says


def _set_limits(limits: np.ndarray, distances: np.ndarray, count: int) -> None:
    """Set limits below which each row of `distances` has at least `count` numbers, and few more, if it has so many.

    They are the `count`-th smallest of the minima of groups: much quicker to find than the `count`-th of all.
    """
    depth = max(1, distances.shape[1] // (3 * count))
    groups = distances.shape[1] // depth
    if groups < count:
        return
    minima = distances[:, : depth * groups].reshape(len(distances), depth, groups).min(axis=1)
    limits[:] = np.nextafter(np.partition(minima, count - 1, axis=1)[:, count - 1], _INFINITY)


def _where_below(distances: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, columns) of the numbers below their row's limit, by rows."""
    below = distances < limits[:, None]  # lies in memory as the distances do
    if below.flags.c_contiguous:
        return np.divmod(np.flatnonzero(below), below.shape[1])
    column, row = np.divmod(np.flatnonzero(below.T), len(below))
    order = np.argsort(row.astype(np.int16), kind="stable")
    return row[order], column[order]


def _distances(keys: np.ndarray) -> np.ndarray:
    return (keys >> 32).astype(np.int32).view(np.float32)

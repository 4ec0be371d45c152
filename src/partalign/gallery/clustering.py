"""Descriptors -> groups that are alike: average linkage (scikit-learn's), in parts that cannot have a group in common.

Two groups are joined while the mean similarity of their pairs is at least a limit. Then some pair reaches that limit,
so that what is not connected by such pairs is never joined, and each connected part can be done on its own.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from partalign.errors import GalleryError, MissingExtraError

LARGEST = 20_000
"""Rows of a connected part; its distances take 1.6 GB."""

_BLOCK = 2**22  # similarities at a time


def cluster(vectors: np.ndarray, similarity: float) -> np.ndarray:
    """Return a label (N,) from 0 for each row of (N, D) of unit length; rows of one label are alike.

    similarity: least mean cosine of the pairs of two groups that are joined, above -1. Labels are numbered in the order
    of their first rows. Raises GalleryError where more than `LARGEST` rows hang together, MissingExtraError.
    """
    try:
        from sklearn.cluster import AgglomerativeClustering
    except ImportError:
        raise MissingExtraError('clustering needs scikit-learn: pip install "partalign[gallery]"') from None
    if not -1 < similarity <= 1:
        raise GalleryError(f"expected a similarity above -1 and up to 1, found {similarity}")
    parts = connected(vectors, similarity)
    labels = np.empty(len(vectors), np.intp)
    used = 0
    order = np.argsort(parts, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
        if len(rows) > LARGEST:
            raise GalleryError(
                f"{len(rows):,} crops or tracklets hang together at a similarity of {similarity:.3f}, at "
                f"most {LARGEST:,} can be told apart at once: choose a larger one, or fewer records (--camera, --since)"
            )
        if len(rows) < 3:  # a part of two is connected, and so alike
            labels[rows], used = used, used + min(len(rows), 1)
            continue
        distances = np.clip(1 - vectors[rows] @ vectors[rows].T, 0, 2).astype(np.float64)
        # Joined are groups below the threshold; a mean of just the limit is to be joined, too.
        limit = {"n_clusters": None, "distance_threshold": np.nextafter(1 - similarity, 3)}
        method = AgglomerativeClustering(**limit, metric="precomputed", linkage="average")  # type: ignore[arg-type]
        labels[rows] = method.fit_predict(distances) + used
        used += method.n_clusters_
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def connected(vectors: np.ndarray, similarity: float) -> np.ndarray:
    """Return for each row (N,) the number of the part that pairs of at least this similarity connect it with."""
    parts = np.arange(len(vectors))
    step = max(1, _BLOCK // max(len(vectors), 1))
    for first in range(0, len(vectors), step):
        block = vectors[first : first + step]
        row, column = np.nonzero(block @ vectors[first:].T >= similarity)
        ends = parts[row + first], parts[column + first]
        number = int(parts.max()) + 1
        graph = coo_array((np.ones(len(row), bool), ends), (number, number))
        parts = connected_components(graph, directed=False)[1][parts]
    return parts

"""Average query expansion: a query becomes the mean of itself and the best gallery rows for it.

With power 0 it is the plain mean (Chum et al., "Total Recall", ICCV 2007), with a larger one alpha query expansion,
which trusts rows by their similarity (Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation",
2018; power 3 there).
Knows nothing of persons, cameras or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from partalign.errors import EvaluationError
from partalign.evaluation.metrics import BLOCK_BYTES, checked_pair, score_blocks


def expanded(
    query: ArrayLike, gallery: ArrayLike, *, count: int = 5, power: float = 0.0, block_bytes: int = BLOCK_BYTES
) -> np.ndarray:
    """Return (Q, D) float32 queries of unit length, each the weighted mean of itself and its `count` best gallery rows.

    query: (Q, D) of any length but 0; gallery: (N, D) of unit length. Of equal similarities the lower row comes first;
    `count` is cut to N. The query has weight 1, a row of similarity s has max(s, 0)^power. The query x gallery matrix
    is not held: see `score_blocks`. Raises ShapeError, or EvaluationError where a number is not finite, a query has
    length 0, or a parameter is out of range.
    """
    if count < 0 or power < 0:
        raise EvaluationError(f"expected count and power of at least 0, found count={count}, power={power}")
    query, gallery = checked_pair(query, gallery)
    lengths = np.linalg.norm(query, axis=1, keepdims=True)
    if not lengths.all():
        raise EvaluationError(f"{np.count_nonzero(lengths == 0)} of {len(query)} query descriptors have length 0")
    unit = query / lengths
    sums = unit.copy()
    count = min(count, len(gallery))
    if count:
        for first, block in score_blocks(unit, gallery, block_bytes):
            for i, row in enumerate(block, start=first):
                best = _best(row, count)
                sums[i] += np.maximum(row[best], 0) ** power @ gallery[best]
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # Rows that all point away from a query may cancel it: it then stays as it is.
    return np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), unit)


def _best(row: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest numbers, the lower of equal ones, in ascending order."""
    last = np.partition(row, len(row) - count)[len(row) - count]
    above = np.flatnonzero(row > last)
    return np.sort(np.append(above, np.flatnonzero(row == last)[: count - len(above)]))

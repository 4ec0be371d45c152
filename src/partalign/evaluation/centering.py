"""What a camera makes of everybody is taken off: descriptors minus the mean one of their camera.

A camera's colours, light and background move all of its descriptors the same way, most so a camera that the network was
not trained on. Needs no persons, only which camera saw what.
"""

from __future__ import annotations

import numpy as np

from partalign.crops import Embeddings
from partalign.errors import EvaluationError

PRIOR = 10
"""So many crops at the mean of all cameras are taken as seen beforehand: few crops say little about a camera."""


def centered(*parts: Embeddings) -> tuple[Embeddings, ...]:
    """Return the parts (query, gallery, ...) with unit descriptors, minus the mean of their camera over all parts.

    A row that is left with no length stays as it is. Raises EvaluationError where a crop has no camera.
    """
    vectors = np.concatenate([part.vectors for part in parts])
    names = [crop.camera for part in parts for crop in part.crops if crop.camera is not None]
    if len(names) < len(vectors):
        raise EvaluationError(
            f"{len(vectors) - len(names):,} of {len(vectors):,} crops have no camera: descriptors cannot be centred by "
            "camera"
        )
    cameras, rows = np.unique(names, return_inverse=True)
    overall = vectors.mean(axis=0)
    moved = vectors.copy()
    for camera in range(len(cameras)):
        own = rows == camera
        moved[own] -= (vectors[own].sum(axis=0) + PRIOR * overall) / (np.count_nonzero(own) + PRIOR)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    unit = np.where(lengths > 1e-6, moved / np.maximum(lengths, 1e-6), vectors).astype(np.float32)
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    return tuple(Embeddings(piece, part.crops) for piece, part in zip(np.split(unit, cuts), parts, strict=True))

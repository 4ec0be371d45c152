"""Several descriptors -> one: the frames of a tracklet, the pictures of a multi-query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from partalign.crops import Embeddings
from partalign.errors import EvaluationError
from partalign.evaluation.protocols import TrackletPooling


def pool_tracklets(frames: Embeddings, how: TrackletPooling = "mean", side: str = "crops") -> Embeddings:
    """Return one descriptor of unit length for each tracklet: the mean or maximum of its frames', as the first come.

    A tracklet's record is its first frame's. side: what the crops are, for messages. Raises EvaluationError where a
    crop has no tracklet, or a tracklet has several persons or cameras.
    """
    lost = [crop for crop in frames.crops if crop.tracklet is None]
    if lost:
        raise EvaluationError(
            f"{len(lost)} of {len(frames)} {side} have no tracklet, the first is {lost[0].path}: "
            "give each, or score crops and not tracklets"
        )
    members = _rows([crop.tracklet for crop in frames.crops])
    records = tuple(frames.crops[rows[0]] for rows in members.values())
    for record, rows in zip(records, members.values(), strict=True):
        odd = [c for c in (frames.crops[r] for r in rows) if (c.person, c.camera) != (record.person, record.camera)]
        if odd:
            raise EvaluationError(
                f"tracklet {record.tracklet}: expected one person and one camera, found {record.path} and "
                f"{odd[0].path}; correct the records"
            )
    return Embeddings(_pooled(frames.vectors, members, how), records)


def pool_queries(query: Embeddings, pool: Embeddings) -> Embeddings:
    """Return for each query the mean of its person's and camera's descriptors in `pool`, of unit length: multi-query.

    Raises EvaluationError where a query has none.
    """
    members = _rows([(crop.person, crop.camera) for crop in pool.crops])
    lost = [crop for crop in query.crops if (crop.person, crop.camera) not in members]
    if lost:
        raise EvaluationError(
            f"multi-query: {len(lost)} of {len(query)} queries have no crops of their person and camera to average, "
            f"the first is {lost[0].path}: is gt_bbox complete?"
        )
    means, place = _pooled(pool.vectors, members, "mean"), {key: row for row, key in enumerate(members)}
    return Embeddings(means[[place[crop.person, crop.camera] for crop in query.crops]], query.crops)


def _rows(keys: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Return the rows of each distinct key, in the order of their first."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return rows


def _pooled(vectors: np.ndarray, members: Mapping[Hashable, list[int]], how: TrackletPooling) -> np.ndarray:
    """(N, D) vectors -> (groups, D) means or maxima of each group's rows, of unit length."""
    pooled = np.empty((len(members), vectors.shape[1]), dtype=np.float32)
    for group, rows in enumerate(members.values()):
        pooled[group] = vectors[rows].mean(axis=0) if how == "mean" else vectors[rows].max(axis=0)
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    return pooled / np.where(length > 0, length, 1)  # a zero vector is refused by Embeddings, with its name

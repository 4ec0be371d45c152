from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.crops import Crop, Embeddings
from partalign.errors import EvaluationError
from partalign.evaluation.pooling import pool_queries, pool_tracklets


def frames(vectors, tracklets, person="1", camera="c1"):
    crops = [Crop(Path(f"{i}.jpg"), person, camera, t) for i, t in enumerate(tracklets)]
    return Embeddings(np.asarray(vectors, np.float32), tuple(crops))


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=20), st.sampled_from(["mean", "max"]), st.integers(0, 99))
def test_tracklets_equal_a_loop(tracklets, how, seed):
    vectors = np.random.default_rng(seed).normal(size=(len(tracklets), 3)).astype(np.float32)
    pooled = pool_tracklets(frames(vectors, tracklets), how)
    assert [crop.tracklet for crop in pooled.crops] == list(dict.fromkeys(tracklets))
    for vector, crop in zip(pooled.vectors, pooled.crops, strict=True):
        own = np.array([v for v, t in zip(vectors, tracklets, strict=True) if t == crop.tracklet])
        expected = getattr(own, how)(axis=0)
        assert vector == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


def test_frames_without_tracklet_and_mixed_tracklets_are_refused():
    with pytest.raises(EvaluationError, match=r"1 of 2 query crops have no tracklet, the first is 1\.jpg"):
        pool_tracklets(frames(np.eye(2), ["a", None]), side="query crops")
    mixed = Embeddings(np.eye(2, dtype=np.float32), (Crop(Path("x"), "1", "c1", "a"), Crop(Path("y"), "2", "c1", "a")))
    with pytest.raises(EvaluationError, match="tracklet a: expected one person and one camera, found x and y"):
        pool_tracklets(mixed)
    with pytest.raises(EvaluationError, match="not finite or zero"):
        pool_tracklets(frames([[1, 0], [-1, 0]], ["a", "a"]))


def test_multi_query_averages_the_crops_of_the_same_person_and_camera():
    query = Embeddings(np.eye(2, dtype=np.float32), (Crop(Path("q1"), "1", "c1"), Crop(Path("q2"), "2", "c1")))
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, -1]], np.float32)
    pairs = [("1", "c1"), ("1", "c1"), ("2", "c1"), ("1", "c2")]
    pool = Embeddings(vectors, tuple(Crop(Path(f"{i}"), p, c) for i, (p, c) in enumerate(pairs)))
    pooled = pool_queries(query, pool)
    assert pooled.vectors == pytest.approx(np.array([[2**-0.5, 2**-0.5], [0.6, 0.8]]), abs=1e-6)
    assert pooled.crops == query.crops
    with pytest.raises(EvaluationError, match="1 of 2 queries have no crops of their person and camera"):
        pool_queries(query, pool.select([0, 1]))

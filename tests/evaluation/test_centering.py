from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partalign.crops import Crop, Embeddings
from partalign.errors import EvaluationError
from partalign.evaluation.centering import PRIOR, centered
from partalign.evaluation.evaluate import Descriptors, score_descriptors


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def crops(persons, cameras):
    pairs = enumerate(zip(persons, cameras, strict=True))
    return tuple(Crop(Path(f"{i}.jpg"), str(person), camera) for i, (person, camera) in pairs)


@settings(max_examples=60, deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=40), st.integers(0, 2**32 - 1))
def test_equal_to_one_row_after_the_other(cameras, seed):
    vectors = unit(np.random.default_rng(seed).standard_normal((len(cameras), 6))).astype(np.float32)
    both = Embeddings(vectors, crops(range(len(cameras)), cameras))
    query, gallery = centered(both.select(range(1)), both.select(range(1, len(both))))
    assert (query.crops, gallery.crops) == (both.crops[:1], both.crops[1:])
    for row, camera, found in zip(vectors, cameras, [*query.vectors, *gallery.vectors], strict=True):
        seen = [v for v, other in zip(vectors, cameras, strict=True) if other == camera]
        expected = row - np.mean([*seen, *[vectors.mean(axis=0)] * PRIOR], axis=0)
        if np.linalg.norm(expected) > 1e-3:
            np.testing.assert_allclose(found, unit(expected), atol=2e-5)
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_what_cameras_add_to_everybody_is_taken_off():
    rng = np.random.default_rng(3)
    persons, cameras = np.repeat(np.arange(40), 2), np.tile(["a", "b"], 40)
    looks = rng.standard_normal((40, 16))[persons] + 0.2 * rng.standard_normal((80, 16))
    colour = {"a": 6 * np.eye(16)[0], "b": 6 * np.eye(16)[1]}
    vectors = unit(looks + [colour[camera] for camera in cameras]).astype(np.float32)
    # Strangers in the query's own camera are nearer than the person in the other.
    known = crops(persons, cameras)
    everybody = Embeddings(vectors, known)
    descriptors = Descriptors(everybody.select(range(0, 80, 2)), everybody)
    plain = score_descriptors(descriptors)
    better = score_descriptors(descriptors, center=True)
    assert plain.rank(1) < 0.1
    assert better.rank(1) > 0.9
    assert "cameras centred" in better.methods


def test_a_crop_without_a_camera_is_refused():
    rows = Embeddings(np.eye(3, dtype=np.float32), (*crops("12", "ab"), Crop(Path("3.jpg"), "3")))
    with pytest.raises(EvaluationError, match="1 of 3 crops have no camera"):
        centered(rows)


def test_crops_that_are_all_alike_stay_as_they_are():
    alike = Embeddings(np.tile(np.float32([0.6, 0.8]), (3, 1)), crops("123", "aab"))
    np.testing.assert_array_equal(centered(alike)[0].vectors, alike.vectors)

"""Joints from joint maps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from partalign.model.joints import find_joints


def gaussian(x: float, y: float, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)


@given(st.floats(1, 5.0), st.floats(1, 9.0), st.floats(0.05, 1))
def test_the_middle_of_a_gaussian_inside_is_found_exactly(x, y, height):
    maps = np.stack([height * gaussian(x, y, 11, 7), np.zeros((11, 7))])
    ((column, row, top),) = find_joints(maps)
    np.testing.assert_allclose((column * 7 - 0.5, row * 11 - 0.5), (x, y), atol=1e-6)
    assert top == maps[0].max()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_maps_give_points_inside_and_every_crop_its_own(height, width, seed):
    maps = np.random.default_rng(seed).normal(size=(2, 4, height, width))
    found = find_joints(maps)
    assert found.shape == (2, 3, 3)
    assert ((found[..., :2] > 0) & (found[..., :2] < 1)).all()
    np.testing.assert_array_equal(found[1], find_joints(maps[1]))


def test_a_highest_value_at_the_border_stays_there_and_nan_is_nothing():
    maps = np.zeros((2, 3, 3))
    maps[0, 0, 1], maps[0, 2, 2] = 1, np.nan
    np.testing.assert_allclose(find_joints(maps), [[0.5, 1 / 6, 1]])

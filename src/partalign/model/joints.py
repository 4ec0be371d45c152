"""Where the joints are, by the joint maps of a pose network. Arrays only; knows no network."""

from __future__ import annotations

import numpy as np


def find_joints(maps: np.ndarray) -> np.ndarray:
    """(..., J + 1, h, w) joint maps with the background last -> (..., J, 3): x, y as fractions, and the highest value.

    A joint lies where its map is highest, between cells by the Gaussian through the highest cell and its neighbours.
    """
    heat = np.nan_to_num(np.asarray(maps, np.float64)[..., :-1, :, :])
    height, width = heat.shape[-2:]
    flat = heat.reshape(-1, height, width)
    each = np.arange(len(flat))
    y, x = np.unravel_index(flat.reshape(len(flat), -1).argmax(1), (height, width))
    row, column = y + _offsets(flat[each, :, x], y), x + _offsets(flat[each, y], x)
    found = np.stack([(column + 0.5) / width, (row + 0.5) / height, flat[each, y, x]], axis=1)
    return found.reshape(*heat.shape[:-2], 3)


def _offsets(values: np.ndarray, tops: np.ndarray) -> np.ndarray:
    """(N, n) values with their highest at (N,) tops -> (N,): how far, in steps, the middle of a Gaussian lies from it.

    By the two neighbours of the highest value; 0 where one of them lies outside.
    """
    # A border of zeros: no joint lies between it and the highest value.
    padded = np.pad(values, ((0, 0), (1, 1)))
    near = np.take_along_axis(padded, tops[:, None] + np.arange(3), axis=1)
    before, here, after = np.log(np.maximum(near, 1e-3 * np.maximum(values.max(1, keepdims=True), 1e-12))).T
    curve = before - 2 * here + after
    inside = (tops > 0) & (tops < values.shape[1] - 1) & (curve <= -1e-6)
    return np.where(inside, np.clip((before - after) / np.where(inside, 2 * curve, 1), -0.5, 0.5), 0.0)

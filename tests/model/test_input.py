"""Pictures to network input, in torch and without it."""

import numpy as np
import pytest
import torch

from partalign.errors import ShapeError
from partalign.images import network_values
from partalign.model.input import network_input


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 16, 8, 3), dtype=np.uint8)


def test_it_is_bgr_minus_mean(pixels):
    values = network_input(pixels)
    assert values.dtype == torch.float32
    assert values.is_contiguous(memory_format=torch.channels_last)
    expected = pixels.astype(np.float64)[..., ::-1] - (104, 117, 123)
    assert np.array_equal(values.numpy(), expected.transpose(0, 3, 1, 2))
    assert torch.equal(network_input(torch.from_numpy(pixels)), values)
    assert network_input(pixels[:0]).shape == (0, 3, 16, 8)


def test_without_torch_it_is_the_same(pixels):
    values = network_values(pixels)
    assert (values.dtype, values.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(values, network_input(pixels).numpy())


def test_read_only_and_mirrored_pictures_are_left_alone(pixels):
    mirrored = network_input(pixels[:, :, ::-1])
    assert torch.equal(mirrored, network_input(pixels).flip(3))
    pixels.flags.writeable = False
    assert network_input(pixels).shape == (5, 3, 16, 8)


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 3, 160, 80), np.uint8), np.zeros((160, 80, 3), np.uint8), np.zeros((1, 4, 4, 3))]
)
def test_other_shapes_and_types_are_refused(wrong):
    with pytest.raises(ShapeError, match=r"\(B, H, W, 3\), uint8"):
        network_input(wrong)

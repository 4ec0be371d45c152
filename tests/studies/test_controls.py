"""A part stream that sees another picture: the same one in every batch, and never the crop's own."""

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.crops import Crop
from partalign.studies.controls import showing
from partalign.training.settings import TrainSettings
from partalign.training.trainer import prepare_network

SETTINGS = TrainSettings.model_validate(
    {
        "network": {
            "appearance": "light",
            "parts": "light",
            "appearance_channels": 16,
            "part_channels": 8,
            "height": 64,
            "width": 32,
        }
    }
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(draw.integers(0, 256, (64, 32, 3), np.uint8)).save(folder / f"{i}.png")
    return [Crop(folder / f"{i}.png", person=str(i)) for i in range(6)]


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (5, 3, 64, 32), generator=torch.Generator().manual_seed(1)).float() - 110


def prepared(kind, crops):
    torch.manual_seed(0)
    return showing(kind, crops, seed=0)(SETTINGS).eval()


@torch.inference_mode()
def test_another_picture_is_the_same_in_every_batch_mirrored_or_not(crops, pictures):
    network = prepared("another", crops)
    _, together = network.maps(pictures)
    _, alone = network.maps(pictures[3:4])
    _, mirrored = network.maps(pictures.flip(3))
    torch.testing.assert_close(together[3:4], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, mirrored, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3), "crops meet different pictures"


@torch.inference_mode()
def test_the_mean_picture_is_the_same_for_all(crops, pictures):
    _, parts = prepared("mean", crops).maps(pictures)
    torch.testing.assert_close(parts, parts[:1].expand_as(parts), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_nothing_else_differs_from_the_network_without_control(crops, pictures):
    torch.manual_seed(0)
    plain, network = prepare_network(SETTINGS).eval(), prepared("another", crops)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), plain.parameters(), strict=True))
    (ours, our_parts), (theirs, their_parts) = network.maps(pictures), plain.maps(pictures)
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(our_parts, their_parts, atol=1e-3)

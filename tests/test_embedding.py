"""Embedding files: order, batches, mirrored crops, damaged pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.crops import Crop
from partalign.embedding import Embedder
from partalign.errors import PictureError
from partalign.images import read_batch
from partalign.model.input import network_input
from partalign.model.network import NetworkSettings, build_network

LIGHT = {"appearance": "light", "parts": "light", "appearance_channels": 32, "part_channels": 8, "dimension": 64}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(NetworkSettings(**LIGHT, height=64, width=32)).eval()


@pytest.fixture
def crops(tmp_path):
    draw = np.random.default_rng(1)
    for i in range(7):
        Image.fromarray(draw.integers(0, 255, (64, 32, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return [Crop(tmp_path / f"{i}.png", person=str(i)) for i in range(7)]


def test_rows_are_those_of_the_network_whatever_the_batch(network, crops):
    with torch.inference_mode():
        expected = network(network_input(read_batch([c.path for c in crops], (64, 32)))).numpy()
    for batch in (1, 3, 64):
        found = Embedder(network, batch=batch).embed(crops)
        np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
        assert found.crops == tuple(crops)


def test_with_flip_a_crop_and_its_mirror_image_are_the_same(network, crops, tmp_path):
    mirrored = []
    for crop in crops:
        path = tmp_path / f"mirrored-{crop.path.name}"
        Image.open(crop.path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
        mirrored.append(Crop(path))
    embedder = Embedder(network, flip=True)
    np.testing.assert_allclose(embedder.embed(crops).vectors, embedder.embed(mirrored).vectors, atol=1e-5)
    plain = Embedder(network)
    assert np.abs(plain.embed(crops).vectors - plain.embed(mirrored).vectors).max() > 1e-3


def test_a_damaged_picture_stops_the_work_or_is_left_out(network, crops, capfd):
    crops[3].path.write_bytes(b"not a picture")
    with pytest.raises(PictureError, match=r"3\.png"):
        Embedder(network, batch=2).embed(crops)
    kept = Embedder(network, batch=2, on_error="skip").embed(crops)
    assert [c.person for c in kept.crops] == ["0", "1", "2", "4", "5", "6"]
    assert "3.png" in capfd.readouterr().err

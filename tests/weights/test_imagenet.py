"""The real GoogLeNet, from Caffe's file: every map against plain arithmetic, and what it sees in photographs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.model.appearance import GoogLeNet
from partalign.weights.caffe import googlenet_tensors, read_caffemodel
from partalign.weights.checkpoint import load_strictly

MEAN_BGR = (104, 117, 123)


@pytest.fixture(scope="module")
def blobs(shared):
    return read_caffemodel(shared / "data/weights/bvlc_googlenet.caffemodel")


@pytest.fixture(scope="module")
def network(blobs):
    network = GoogLeNet("5b", channels=None)
    load_strictly(network, googlenet_tensors(blobs, source="x"), source="x")
    return network.eval()


# Caffe's layers in float64, one output place at a time.


def convolution(x, weight, bias, stride=1, pad=0):
    """(C, H, W) -> (N, h, w) with ReLU."""
    size = weight.shape[2]
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    height, width = ((side + 2 * pad - size) // stride + 1 for side in x.shape[1:])
    out = np.empty((len(weight), height, width))
    for i in range(height):
        for j in range(width):
            window = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, i, j] = (weight * window).sum((1, 2, 3)) + bias
    return np.maximum(out, 0)


def max_pool(x, size=3, stride=2, pad=0):
    """Caffe's rule: as many windows as touch the picture, but the last must start inside it or its left padding."""
    counts = []
    for side in x.shape[1:]:
        count = math.ceil((side + 2 * pad - size) / stride) + 1
        if pad and (count - 1) * stride >= side + pad:
            count -= 1
        counts.append(count)
    out = np.empty((len(x), *counts))
    for i in range(counts[0]):
        for j in range(counts[1]):
            top, left = i * stride - pad, j * stride - pad
            out[:, i, j] = x[:, max(top, 0) : top + size, max(left, 0) : left + size].max((1, 2))
    return out


def response_norm(x, size=5, alpha=1e-4, beta=0.75):
    out = np.empty_like(x)
    for channel in range(len(x)):
        around = x[max(channel - size // 2, 0) : channel + size // 2 + 1]
        out[channel] = x[channel] / (1 + alpha / size * (around**2).sum(0)) ** beta
    return out


def googlenet_maps(x, blobs):
    """(3, H, W) float64 -> Caffe's name of each map -> the map."""

    def layer(name, x, **places):
        weight, bias = (blob.astype(np.float64) for blob in blobs[name])
        return convolution(x, weight, bias.ravel(), **places)

    maps = {"conv1/7x7_s2": layer("conv1/7x7_s2", x, stride=2, pad=3)}
    maps["pool1/norm1"] = response_norm(max_pool(maps["conv1/7x7_s2"]))
    maps["conv2/3x3_reduce"] = layer("conv2/3x3_reduce", maps["pool1/norm1"])
    maps["conv2/3x3"] = layer("conv2/3x3", maps["conv2/3x3_reduce"], pad=1)
    maps["conv2/norm2"] = response_norm(maps["conv2/3x3"])
    x = max_pool(maps["conv2/norm2"])
    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        if module in ("4a", "5a"):
            x = max_pool(x)
        name = f"inception_{module}"
        three = layer(f"{name}/3x3", layer(f"{name}/3x3_reduce", x), pad=1)
        five = layer(f"{name}/5x5", layer(f"{name}/5x5_reduce", x), pad=2)
        pool = layer(f"{name}/pool_proj", max_pool(x, stride=1, pad=1))
        x = maps[name] = np.concatenate((layer(f"{name}/1x1", x), three, five, pool))
    return maps


OURS = {
    "conv1/7x7_s2": "conv1",
    "pool1/norm1": "lrn1",
    "conv2/3x3_reduce": "conv2_reduce",
    "conv2/3x3": "conv2",
    "conv2/norm2": "lrn2",
}


@pytest.mark.parametrize("size", [(32, 32), (49, 36)])
def test_every_map_is_what_plain_arithmetic_gives(network, blobs, shared, size):
    crop = min((shared / "data/Market-1501-v15.09.15/query").glob("*.jpg"))
    picture = np.asarray(Image.open(crop).resize(size[::-1], Image.Resampling.BILINEAR), np.float64)
    bgr = (picture[:, :, ::-1] - MEAN_BGR).transpose(2, 0, 1)
    expected = googlenet_maps(bgr, blobs)

    found, hooks = {}, []
    for name in expected:
        module = network.get_submodule(OURS.get(name, name))
        keep = lambda *args, name=name: found.update({name: args[2][0].clamp(min=0).double()})  # noqa: E731
        hooks.append(module.register_forward_hook(keep))
    with torch.inference_mode():
        network(torch.tensor(bgr[None], dtype=torch.float32))
    for hook in hooks:
        hook.remove()
    assert found.keys() == expected.keys()
    for name, map_ in expected.items():
        assert map_.max() > 0
        assert found[name].shape == map_.shape
        error = np.abs(found[name].numpy() - map_).max() / map_.max()
        assert error < 1e-5, f"{name} differs by {error}"


def photograph(name):
    if name == "grace_hopper.jpg":
        matplotlib = pytest.importorskip("matplotlib")
        return Image.open(Path(matplotlib.get_data_path()) / "sample_data" / name).convert("RGB")
    datasets = pytest.importorskip("sklearn.datasets")
    return Image.fromarray(datasets.load_sample_image(name))


@pytest.mark.parametrize(
    ("name", "first", "plausible"),
    [
        # A pagoda by a lake: monastery, then palace, castle, bell cote, boathouse.
        ("china.jpg", 663, {663, 698, 483, 442, 449}),
        # A dahlia, for which there is no class: its round of petals passes for a honeycomb, then a bee.
        ("flower.jpg", 599, {599, 309}),
        # An officer's portrait: military uniform, academic gown, suit.
        ("grace_hopper.jpg", 652, {652, 400, 834}),
    ],
)
def test_what_it_sees_in_photographs(network, blobs, name, first, plausible):
    picture = photograph(name)
    if name != "grace_hopper.jpg":  # a square from the middle; of the portrait, all
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        picture = picture.crop((left, top, left + side, top + side))
    rgb = np.asarray(picture.resize((224, 224), Image.Resampling.BILINEAR), np.float32)
    bgr = (rgb[:, :, ::-1] - np.float32(MEAN_BGR)).transpose(2, 0, 1)

    weight, bias = (torch.from_numpy(blob) for blob in blobs["loss3/classifier"])
    with torch.inference_mode():
        maps = network(torch.from_numpy(bgr[None].copy()))
        chances = (maps.mean((2, 3)) @ weight.view(1000, 1024).T + bias.view(-1)).softmax(1)[0]
    best = chances.topk(5).indices.tolist()
    assert maps.shape == (1, 1024, 7, 7)
    assert best[0] == first
    assert plausible <= set(best)
    assert chances[first] > 0.4

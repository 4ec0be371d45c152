import re

import numpy as np
import pytest
import torch

from partalign.errors import WeightsError
from partalign.model.parts import OpenPose
from partalign.weights.openpose import read_openpose

# The convolutions of the published network, stage by stage, as its prototxt lists them.
TRUNK = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv3_4"]
TRUNK += ["conv4_1", "conv4_2", "conv4_3_CPM", "conv4_4_CPM"]


def stage(number, branch):
    if number == 1:
        return [f"conv5_{i}_CPM_L{branch}" for i in range(1, 6)]
    return [f"Mconv{i}_stage{number}_L{branch}" for i in range(1, 8)]


LAYERS = TRUNK + [layer for number in (1, 2) for branch in (1, 2) for layer in stage(number, branch)]
LATER = [layer for number in (3, 4, 5, 6) for branch in (1, 2) for layer in stage(number, branch)]


@pytest.fixture(scope="module")
def published():
    """Weights under the published names, all six stages; small, as the reader does not look at shapes."""
    random = torch.Generator().manual_seed(0)
    tensors = {}
    for number, layer in enumerate(LAYERS + LATER):
        tensors[f"{layer}.weight"] = torch.randn(2, 3, 1, 1, generator=random) + number
        tensors[f"{layer}.bias"] = torch.randn(2, generator=random) + number
    return tensors


def expect_stages_1_and_2(found, published):
    assert found.keys() == {name for name in published if name.split(".")[0] in LAYERS}
    for name, tensor in found.items():
        assert torch.equal(tensor, published[name])


def numbered(name):
    """Return the name in ports whose blocks are nn.Sequential: convolutions are numbered, with ReLUs between them."""
    layer, kind = name.split(".")
    if layer in TRUNK:
        # Two more numbers where a pooling follows.
        place = TRUNK.index(layer)
        return f"model0.{2 * place + sum(place >= pooled for pooled in (2, 4, 8))}.{kind}"
    number = int(re.search(r"stage(\d)", layer)[1]) if "stage" in layer else 1
    branch = int(layer[-1])
    return f"model{number}_{branch}.{2 * stage(number, branch).index(layer)}.{kind}"


@pytest.mark.parametrize(
    "rename",
    [
        str,
        lambda name: f"module.{name}",
        lambda name: f"model0.{name}" if name.split(".")[0] in TRUNK else f"model1_1.{name}",
        numbered,
        lambda name: f"module.net.{numbered(name)}",
    ],
    ids=["plain", "parallel", "blocks", "numbered", "numbered and parallel"],
)
@pytest.mark.parametrize("current", [True, False])
def test_pytorch_ports(published, tmp_path, rename, current):
    path = tmp_path / "body_pose_model.pth"
    torch.save({rename(name): t for name, t in published.items()}, path, _use_new_zipfile_serialization=current)
    expect_stages_1_and_2(read_openpose(path), published)


@pytest.mark.parametrize("old", [True, False])
def test_caffe(published, caffe, tmp_path, old):
    net = caffe[True].NetParameter(name="pose")
    net.layer.add(name="relu1_1", type="ReLU")
    for layer in LAYERS + LATER:
        written = (net.layers if old else net.layer).add(name=layer)
        for kind in ("weight", "bias"):
            values = published[f"{layer}.{kind}"]
            blob = written.blobs.add(data=values.flatten().tolist())
            if old:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - values.ndim) + tuple(values.shape)
            else:
                blob.shape.dim.extend(values.shape)
    path = tmp_path / "pose_iter_440000.caffemodel"
    path.write_bytes(net.SerializeToString())
    expect_stages_1_and_2(read_openpose(path), published)


def test_every_name_is_one_of_our_network():
    names = {name for name in OpenPose().state_dict() if not name.startswith(("feature.", "norm."))}
    assert names == {f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")}


def test_missing_extra_and_double_layers_are_named(published, tmp_path):
    path = tmp_path / "port.pth"
    tensors = dict(published)
    del tensors["conv3_2.bias"], tensors["Mconv7_stage2_L2.weight"]
    torch.save(tensors | {"conv9.weight": torch.ones(1), "again.conv1_1.bias": torch.ones(1)}, path)
    with pytest.raises(WeightsError) as caught:
        read_openpose(path)
    assert "missing Mconv7_stage2_L2.weight, conv3_2.bias; unknown or there twice: " in str(caught.value)
    assert str(caught.value).endswith("conv9.weight, again.conv1_1.bias")


def test_another_network(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"layer1.0.conv1.weight": torch.ones(2), "fc.bias": torch.ones(2)}, path)
    with pytest.raises(WeightsError, match=r"resnet.pth: expected the layers of OpenPose.*unknown .*fc.bias"):
        read_openpose(path)


def test_values_survive_the_way_through_numpy(published, tmp_path):
    path = tmp_path / "port.pth"
    torch.save(published, path)
    found = read_openpose(path)["conv1_1.weight"]
    np.testing.assert_array_equal(found.numpy(), published["conv1_1.weight"].numpy())

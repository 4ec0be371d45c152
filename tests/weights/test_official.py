import collections
import json

import pytest
import torch

from partalign.errors import WeightsError
from partalign.model.network import build_network
from partalign.weights.checkpoint import convert, load_model, read_checkpoint
from partalign.weights.formats import sha256_of_file
from partalign.weights.official import official_settings, read_official

BRANCHES = {
    "one": "_1x1",
    "three_reduce": "_3x3_reduce",
    "three": "_3x3",
    "five_reduce": "_5x5_reduce",
    "five": "_5x5",
    "pool_proj": "pool_proj",
}


def released_name(stream, name):
    """Our name of a tensor -> the name in the released code."""
    layer, kind = name.rsplit(".", 1)
    if layer == "norm":
        return f"bn.{kind}"
    if stream == "parts":
        return f"{'pose1' if layer == 'feature' else layer}.{kind}"
    if layer.startswith("inception"):
        module, branch = layer.split(".")
        return f"{module}.{BRANCHES[branch]}.{kind}"
    stem = {
        "conv1": "conv1__7x7_s2",
        "conv2_reduce": "conv2__3x3_reduce",
        "conv2": "conv2__3x3",
        "feature": "input_feat",
    }
    return f"{stem[layer]}.{kind}"


def released(network, prefix="", counted=True):
    """Return what the released code would save of this network."""
    content = {}
    for key, stream in (("app_state_dict", "appearance"), ("part_state_dict", "parts")):
        content[key] = collections.OrderedDict(
            (prefix + released_name(stream, name), tensor.clone())
            for name, tensor in network.get_submodule(stream).state_dict().items()
            if counted or not name.endswith("num_batches_tracked")
        )
    return content | {"epoch": 750}


@pytest.fixture(scope="module")
def networks():
    made = {}
    torch.manual_seed(3)
    for dilation, nonnegative in ((True, False), (False, True)):
        network = build_network(official_settings(dilation=dilation, nonnegative=nonnegative)).eval()
        for norm in (network.appearance.norm, network.parts.norm):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        made[dilation] = network
    return made


@pytest.mark.parametrize(
    ("dilation", "current", "prefix", "counted"),
    [(True, False, "", False), (False, True, "module.", True)],
    ids=["as published", "data parallel"],
)
def test_equal_outputs(networks, tmp_path, dilation, current, prefix, counted):
    network = networks[dilation]
    source, target = tmp_path / "epoch_750.pth.tar", tmp_path / "model.safetensors"
    torch.save(released(network, prefix, counted), source, _use_new_zipfile_serialization=current)
    description = convert("official", source, target, dilation=dilation, nonnegative=not dilation)
    assert description["source"] == "epoch_750.pth.tar"
    assert description["sha256"] == sha256_of_file(source)
    assert json.loads(json.dumps(description)) == read_checkpoint(target)[1]

    converted = load_model(target)
    assert not converted.training
    pictures = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0)) * 60
    with torch.inference_mode():
        assert torch.equal(converted(pictures), network(pictures))


def test_it_is_the_released_network():
    settings = official_settings()
    assert (settings.dilation, settings.affine, settings.nonnegative) == (True, False, False)
    assert (settings.lrn, settings.part_input, settings.hashes) == ("released", "released", "released")


def test_problems_are_named(networks, tmp_path):
    content = released(networks[True])
    app, part = content["app_state_dict"], content["part_state_dict"]
    del app["inception_4a._3x3_reduce.bias"]
    app["bn.weight"] = torch.ones(512)
    part["pose1.weight"] = torch.ones(128, 185, 1, 1)
    path = tmp_path / "wrong.pth.tar"
    torch.save(content, path)
    with pytest.raises(WeightsError) as caught:
        convert("official", path, tmp_path / "out.safetensors")
    message = str(caught.value)
    assert "1 missing: appearance.inception_4a.three_reduce.bias;" in message
    assert "1 extra: appearance.norm.weight;" in message
    assert "parts.feature.weight (expected (128, 185, 3, 3), found (128, 185, 1, 1))" in message
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("content", [{}, {"app_state_dict": {}}, {"state_dict": {"w": torch.ones(1)}, "epoch": 1}])
def test_another_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="expected a released checkpoint with app_state_dict and part_state_dict"):
        read_official(tmp_path / "other.pth")

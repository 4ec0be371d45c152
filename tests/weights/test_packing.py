"""Models to pass on: half precision, figures, names."""

from pathlib import Path

import pytest
import torch

from partalign.errors import EvaluationError, WeightsError
from partalign.evaluation.calibration import Calibration
from partalign.model.network import NetworkSettings, build_network
from partalign.weights.checkpoint import load_model, read_checkpoint, save_checkpoint
from partalign.weights.info import read_info
from partalign.weights.packing import average_models, pack_model

LIGHT = NetworkSettings(appearance="light", parts="light", dimension=64, height=64, width=32)
CALIBRATION = Calibration(12.0, -4.0, 10, 20, 0.1, 0.01)


def write(path: Path, **description) -> Path:
    torch.manual_seed(0)
    network = build_network(LIGHT)
    values = {"kind": "network", "network": LIGHT.model_dump(mode="json"), **description}
    save_checkpoint(path, network.state_dict(), values)
    return path


def test_a_packed_model_is_half_as_large_and_says_its_figures(tmp_path):
    source = write(tmp_path / "full.safetensors", trained={"title": "a light one"}, results={"mAP": 0.1})
    target = tmp_path / "packed.safetensors"
    cosine = pack_model(source, target, {"mAP": 0.5}, CALIBRATION)
    assert 0.9999 < cosine <= 1.000001
    assert target.stat().st_size < 0.62 * source.stat().st_size  # the sketch's integers and vectors stay as they are
    info = read_info(target)
    assert (info.name, info.title, info.results) == ("packed", "a light one", {"mAP": 0.5})
    assert info.calibration == CALIBRATION
    assert info.version != read_info(source).version
    pictures = 60 * torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        both = load_model(source)(pictures), load_model(target)(pictures)
    assert torch.nn.functional.cosine_similarity(*both).min() > 0.9999


def test_variances_beyond_half_precision_survive(tmp_path):
    source = write(tmp_path / "full.safetensors")
    tensors, description = read_checkpoint(source)
    name = next(name for name in tensors if name.endswith("running_var"))
    save_checkpoint(source, tensors | {name: torch.full_like(tensors[name], 1e6)}, description)
    pack_model(source, tmp_path / "packed.safetensors")
    assert (read_checkpoint(tmp_path / "packed.safetensors")[0][name] == 1e6).all()


def test_what_does_not_survive_half_precision_is_not_packed(tmp_path):
    source = write(tmp_path / "full.safetensors")
    tensors, description = read_checkpoint(source)
    name = next(n for n, tensor in tensors.items() if tensor.is_floating_point() and tensor.ndim == 4)
    save_checkpoint(source, tensors | {name: tensors[name] * 1e-7}, description)
    with pytest.raises(WeightsError, match="not packed"):
        pack_model(source, tmp_path / "packed.safetensors")
    assert not (tmp_path / "packed.safetensors").exists()


def test_a_broken_calibration_is_named(tmp_path):
    with pytest.raises(EvaluationError, match="calibration"):
        read_info(write(tmp_path / "m.safetensors", calibration={"slope": "steep"}))


def another(source: Path, path: Path, change: float) -> Path:
    """The same network with floats moved by `change`, and what an evaluation said of it."""
    tensors, description = read_checkpoint(source)
    moved = {name: t + change if t.is_floating_point() else t for name, t in tensors.items()}
    save_checkpoint(path, moved, {**description, "results": {"mAP": 0.9}, "calibration": CALIBRATION.as_dict()})
    return path


def test_an_average_lies_between_and_says_no_figures(tmp_path):
    one = write(tmp_path / "one.safetensors", trained={"title": "one", "seed": 3}, results={"mAP": 0.1})
    two = another(one, tmp_path / "two.safetensors", 0.5)
    average_models([one, two], tmp_path / "both.safetensors", [1, 3])
    tensors, description = read_checkpoint(tmp_path / "both.safetensors")
    for name, tensor in read_checkpoint(one)[0].items():
        expected = tensor + 0.375 if tensor.is_floating_point() else tensor
        torch.testing.assert_close(tensors[name], expected)
        assert tensors[name].dtype == tensor.dtype
    assert not {"results", "calibration"} & set(description)
    assert description["trained"]["title"].startswith("Average of weights: 0.25 of ")
    of = description["trained"]["average"]
    assert [part["share"] for part in of] == [0.25, 0.75]
    assert [part["trained"]["seed"] for part in of] == [3, 3]
    load_model(tmp_path / "both.safetensors")


def test_the_average_of_a_network_with_itself_is_the_network(tmp_path):
    one = write(tmp_path / "one.safetensors")
    average_models([one, one, one], tmp_path / "same.safetensors")
    for name, tensor in read_checkpoint(one)[0].items():
        assert torch.equal(read_checkpoint(tmp_path / "same.safetensors")[0][name], tensor)


def test_networks_that_do_not_belong_together_are_not_averaged(tmp_path):
    one = write(tmp_path / "one.safetensors")
    tensors, description = read_checkpoint(one)
    settings = {**description["network"], "width": 48}
    save_checkpoint(tmp_path / "wide.safetensors", tensors, {**description, "network": settings})
    with pytest.raises(WeightsError, match="settings"):
        average_models([one, tmp_path / "wide.safetensors"], tmp_path / "no.safetensors")
    hashed = {name: t.flip(0) if name == "pooling.h1" else t for name, t in tensors.items()}
    save_checkpoint(tmp_path / "hashed.safetensors", hashed, description)
    with pytest.raises(WeightsError, match="hashes"):
        average_models([one, tmp_path / "hashed.safetensors"], tmp_path / "no.safetensors")
    save_checkpoint(tmp_path / "less.safetensors", dict(list(tensors.items())[1:]), description)
    with pytest.raises(WeightsError, match="tensors"):
        average_models([one, tmp_path / "less.safetensors"], tmp_path / "no.safetensors")
    for sources, shares in (([one], None), ([one, one], [1]), ([one, one], [0, 0]), ([one, one], [-1, 2])):
        with pytest.raises(WeightsError, match="at least two"):
            average_models(sources, tmp_path / "no.safetensors", shares)
    assert not (tmp_path / "no.safetensors").exists()

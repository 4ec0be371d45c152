import numpy as np
import pytest
import torch

from partalign.benchmarks import end_to_end
from partalign.crops import Embeddings
from partalign.errors import BenchmarkError
from partalign.model.network import NetworkSettings, build_network
from partalign.weights.checkpoint import save_checkpoint

LIGHT = NetworkSettings.model_validate(
    {"appearance": "light", "parts": "light", "appearance_channels": 16, "part_channels": 8, "dimension": 32}
)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    description = {"format": 1, "kind": "network", "network": LIGHT.model_dump(mode="json")}
    save_checkpoint(tmp_path / "model.safetensors", build_network(LIGHT).state_dict(), description)
    return tmp_path / "model.safetensors"


def test_files_give_the_descriptors_of_the_network_alone(model):
    (line,) = end_to_end.run(model, ["torch"], count=6, rounds=1, threads=1)
    assert line.what == "files to file, torch, 6 crops"
    assert line.difference < 1e-6
    assert line.bar.speed == pytest.approx(0.909, abs=1e-3)


def test_the_file_is_written(model, tmp_path):
    out = tmp_path / "out.npz"
    with end_to_end.jpg_files(None, 3) as paths:
        engine = end_to_end.load_engine(model)
        (found,) = end_to_end.to_file(end_to_end.Embedder(engine), [end_to_end.Crop(path) for path in paths], out)
    np.testing.assert_array_equal(Embeddings.load(out).vectors, found)


def test_other_descriptors_are_not_timed(model, monkeypatch):
    alone = end_to_end.network_alone
    monkeypatch.setattr(end_to_end, "network_alone", lambda engine, pixels: (alone(engine, pixels)[0] + 0.01,))
    with pytest.raises(BenchmarkError, match="files to file"):
        end_to_end.run(model, ["torch"], count=2, rounds=1, threads=1)

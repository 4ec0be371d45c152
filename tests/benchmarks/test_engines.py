import pytest

from partalign.benchmarks import engines
from partalign.engines import ExportedEngine
from partalign.errors import BenchmarkError
from partalign.model.network import NetworkSettings

SETTINGS = NetworkSettings.model_validate(
    {"appearance": "light", "parts": "light", "height": 32, "width": 16, "dimension": 32, "part_channels": 8}
)


def test_runs_and_agrees():
    lines = engines.float32({"small": SETTINGS}, batches=(1, 2), rounds=1)
    names = ("onnx", "openvino", "openvino-bf16")
    assert [line.what for line in lines] == [f"small, {name}, batch {batch}" for name in names for batch in (1, 2)]
    assert all(line.difference < 1e-5 for line in lines[:4])
    assert all(line.ratio > 0 for line in lines)
    assert all(line.saving is None and line.ours.peak is None for line in lines)


def test_an_engine_that_is_wrong_is_not_timed(monkeypatch, exported):
    call = ExportedEngine.__call__
    settings = NetworkSettings.model_validate(engines.read_onnx(exported / "light.onnx").description["network"])
    copy = lambda _, target: target.write_bytes((exported / "light.onnx").read_bytes())  # noqa: E731
    monkeypatch.setattr(engines, "export_onnx", copy)
    monkeypatch.setattr(ExportedEngine, "__call__", lambda self, x: call(self, x)[:, ::-1])
    monkeypatch.setattr(ExportedEngine, "check", lambda self: 1.0)
    with pytest.raises(BenchmarkError, match="light, onnx, batch 1"):
        engines.float32({"light": settings}, batches=(1,), rounds=1)


def test_a_trained_model_runs_and_agrees_in_float32_and_in_8_bits(exported):
    lines = engines.trained(exported / "light.safetensors", batches=(2,), rounds=1)
    names = ("openvino", "onnx", "openvino int8", "onnx int8")
    assert [line.what for line in lines] == [f"trained model, {name}, batch 2" for name in names]
    assert all(line.difference < 1e-4 for line in lines[:2])
    assert all(1e-5 < line.difference < 0.1 for line in lines[2:])

"""Exported models are read without trust: damaged, of another program, or asking for more than arithmetic."""

from pathlib import Path

import onnx
import pytest
from onnx import helper

from partalign.engines import load_engine
from partalign.errors import MissingExtraError, WeightsError
from partalign.weights.info import read_info
from partalign.weights.onnx import parse_onnx, probe_pixels, read_onnx


@pytest.fixture
def model(exported) -> onnx.ModelProto:
    return onnx.ModelProto.FromString((exported / "light.onnx").read_bytes())


def refused(model: onnx.ModelProto, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as error:
        parse_onnx(Path("m.onnx"), model.SerializeToString())
    assert "\n" not in str(error.value)


def set_description(model: onnx.ModelProto, old: str, new: str) -> None:
    (entry,) = model.metadata_props
    assert old in entry.value
    entry.value = entry.value.replace(old, new)


def test_it_says_what_its_source_says(exported):
    source = read_info(exported / "light.safetensors")
    for file, kind in (("light.onnx", "pictures"), ("pixels.onnx", "pixels")):
        assert read_info(exported / file) == source
        assert read_onnx(exported / file).description["input"] == kind


def test_nothing_of_this_machine_is_in_it(exported):
    content = (exported / "light.onnx").read_bytes()
    for word in (b"stack_trace", b'File "', b"site-packages", str(exported).encode()):
        assert word not in content


def test_truncated_files_are_refused(exported, tmp_path):
    content = (exported / "light.onnx").read_bytes()
    for length in (0, 1, 10, 1000, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.onnx").write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"cut\.onnx"):
            read_onnx(tmp_path / "cut.onnx")


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n", b"PK\x03\x04 a checkpoint", b"<html>", b"some text\n", b"\x08\x0a"]
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match="expected a"):
        read_onnx(tmp_path / "m.onnx")


def test_a_model_of_another_program_is_refused(model):
    model.ClearField("metadata_props")
    refused(model, "of another program")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "[", "description is damaged"),
        ('"format": 1', '"format": 2', "newer partalign"),
        ('"kind": "exported"', '"kind": "network"', "expected format"),
        ('"input": "pictures"', '"input": "sounds"', "lacks its input"),
        ('"version": "', '"vision": "', "source"),
        ('"height": 64', '"height": 96', "as it says of itself"),
        ('"input": "pictures"', '"input": "pixels"', "as it says of itself"),
    ],
)
def test_a_wrong_description_is_refused(model, old, new, message):
    set_description(model, old, new)
    refused(model, message)


def test_a_tensor_in_another_file_is_refused(model, tmp_path, monkeypatch):
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    monkeypatch.chdir(tmp_path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    refused(model, r"a tensor in another file \(\['secret.bin'\]\)")


def test_a_tensor_in_another_file_is_found_in_attributes_too(model):
    hidden = helper.make_tensor("x", onnx.TensorProto.FLOAT, [1], [0.0])
    hidden.data_location = onnx.TensorProto.EXTERNAL
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=hidden))
    refused(model, "another file")


def test_more_than_arithmetic_is_refused(model):
    loop = helper.make_graph([], "body", [], [])
    for node, message in (
        (helper.make_node("Loop", ["n"], ["y"], body=loop), "control flow"),
        (helper.make_node("PyOp", ["pictures"], ["y"], domain="ai.onnx.contrib"), "an operator of ai.onnx.contrib"),
    ):
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        changed.graph.node.append(node)
        refused(changed, message)
    model.functions.append(helper.make_function("mine", "f", [], [], [], []))
    refused(model, "a function")


@pytest.mark.parametrize("engine", ["auto", "onnx", "openvino"])
def test_changed_weights_are_noticed_by_every_engine(model, tmp_path, engine):
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weights.raw_data = weights.raw_data[::-1]
    (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="cosine"):
        load_engine(tmp_path / "changed.onnx", engine)


def test_what_no_engine_can_run_is_one_line(model, tmp_path):
    model.graph.node[0].op_type = "NoSuchOperator"
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    for engine in ("onnx", "openvino", "auto"):
        with pytest.raises(WeightsError, match="cannot run it") as error:
            load_engine(tmp_path / "odd.onnx", engine)
        assert "\n" not in str(error.value)


def test_without_onnx_the_extra_is_named(exported, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"partalign\[onnx\]"):
        read_onnx(exported / "light.onnx")


def test_the_pictures_to_check_by_never_change():
    pixels = probe_pixels((64, 40))
    assert pixels.shape == (2, 64, 40, 3)
    assert pixels[0, 0, 0].tolist() == [172, 47, 117]
    assert int(pixels.sum()) == int(probe_pixels((64, 40)).sum()) > 0

"""int8: what is written agrees with float32 on crops it never saw, says so, and is refused where it does not."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from partalign import quantization
from partalign.cli import main
from partalign.crops import Crop
from partalign.datasets import load_dataset
from partalign.datasets.folder import find_crops
from partalign.datasets.generated import World
from partalign.engines import ExportedEngine, least_cosine, load_engine
from partalign.errors import WeightsError
from partalign.export import export_openvino
from partalign.images import network_values
from partalign.quantization import Agreement, export_int8, quantized
from partalign.weights.info import read_info
from partalign.weights.onnx import parse_onnx, read_onnx


def run(*words) -> int:
    with pytest.raises(SystemExit) as exit:
        main([str(word) for word in words])
    return exit.value.code


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    return World(seed=5, persons=40, crops_per_person=1, height=64, width=32).render(range(40))[0]


@pytest.fixture(scope="module")
def crops(people, tmp_path_factory) -> Path:
    """Forty crops, of twenty persons as their names say, from two cameras."""
    folder = tmp_path_factory.mktemp("crops")
    for row, picture in enumerate(people):
        Image.fromarray(picture).save(folder / f"{row // 2 + 1:04d}_c{row % 2 + 1}s1_{row:06d}_00.png")
    return folder


@pytest.fixture(scope="module")
def int8(exported, crops, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("int8") / "int8.onnx"
    export_int8(exported / "light.safetensors", target, find_crops((crops,)))
    return target


def test_convolutions_compute_in_8_bits_with_standard_operators(int8, exported):
    model = onnx.load(int8)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    held = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    in_8_bits = [node for node in convolutions if makers.get(node.input[1]) == "DequantizeLinear"]
    assert {held[n.input[0]] for n in model.graph.node if n.output[0] in {c.input[1] for c in in_8_bits}} == {
        onnx.TensorProto.INT8
    }
    (left,) = [node for node in convolutions if node not in in_8_bits]
    assert left.input[1] == "appearance.body.0.0.weight"
    assert int8.stat().st_size < (exported / "light.onnx").stat().st_size


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_it_describes_as_float32_does_in_either_engine(int8, exported, name):
    others = World(seed=6, persons=30, crops_per_person=1, height=64, width=32).render(range(30))[0]
    before, after = load_engine(exported / "light.onnx", "onnx")(others), load_engine(int8, name)(others)
    assert least_cosine(after, before) > 0.999
    assert np.abs(after - before).max() > 1e-5  # it is another model


def test_pixels_go_in_as_well(exported, crops, people, tmp_path):
    export_int8(exported / "light.safetensors", tmp_path / "x.onnx", find_crops((crops,)), preprocessing=True)
    before, after = (load_engine(path, "onnx") for path in (exported / "pixels.onnx", tmp_path / "x.onnx"))
    assert after.model.takes_pixels
    assert least_cosine(after(people), before(people)) > 0.999


def test_it_says_that_it_is_int8_and_is_the_same_model(int8, exported):
    model, source = read_onnx(int8), read_info(exported / "light.safetensors")
    assert model.is_int8
    assert not read_onnx(exported / "light.onnx").is_int8
    said = model.description["int8"]
    assert (said["calibrated"]["crops"], said["unseen"]["crops"]) == (30, 10)
    assert 0.999 < said["unseen"]["least"] <= said["unseen"]["low"] <= said["unseen"]["median"] <= 1
    found = read_info(int8)
    assert (found.name, found.version, found.calibration) == (source.name, source.version, source.calibration)


def test_an_engine_that_rounds_wrongly_is_not_used(int8):
    model = onnx.load(int8)
    scales = [tensor for tensor in model.graph.initializer if tensor.name.endswith("_scale") and tensor.dims == [32]]
    for tensor in scales:
        values = numpy_helper.to_array(tensor) * np.random.default_rng(0).uniform(0.5, 2, 32)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    assert scales
    with pytest.raises(WeightsError, match=r"least 0\.999"):
        ExportedEngine(parse_onnx(int8, model.SerializeToString()), "onnx").check()


def test_what_rounding_the_weights_adds_is_taken_out_of_the_bias(exported, people):
    """One layer: the mean of each channel is float32's, which without the correction it is not."""
    model = onnx.load(exported / "light.onnx")
    (layer,) = [node for node in model.graph.node if "appearance.body.1.0.weight" in node.input]
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = numpy_helper.to_array(held[layer.input[1]]).astype(np.float64)
    rounded = np.stack([np.round(w / (s := np.abs(w).max() / 127)) * s for w in weights])
    mean = quantization._means(model, {layer.input[0]}, network_values(people))[layer.input[0]]
    quantization._correct_biases(model, [layer], network_values(people))
    (bias,) = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name == layer.input[2]]
    expected = weights.sum((2, 3)) @ mean  # it has no bias of its own
    np.testing.assert_allclose(rounded.sum((2, 3)) @ mean + bias, expected, atol=1e-5)
    assert np.abs(rounded.sum((2, 3)) @ mean - expected).max() > 1e-3


def test_relus_behind_a_concatenation_go_before_it_and_change_nothing():
    from onnx import TensorProto, helper

    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None, 2, 2])  # noqa: E731
    nodes = [
        helper.make_node("Neg", ["x"], ["y"]),
        helper.make_node("Concat", ["x", "y"], ["both"], axis=1),
        helper.make_node("Relu", ["both"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x")], [value("out")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32)
    quantization._rectify_before_concatenation(model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Neg", "Relu", "Relu", "Concat"]
    (found,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(found, np.maximum(np.concatenate([x, -x], 1), 0))


def test_a_model_that_lost_too_much_leaves_no_file(exported, crops, tmp_path, monkeypatch):
    """Calibrated on black pictures, the ranges fit nothing else."""
    monkeypatch.setattr(quantization, "quantized", lambda graph, inputs: quantized(graph, 0 * inputs))
    with pytest.raises(WeightsError, match=r"19 of 20 .*not written") as error:
        export_int8(exported / "light.safetensors", tmp_path / "x.onnx", find_crops((crops,)))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("low", "written"), [(0.9991, True), (0.9989, False), (np.nan, False)])
def test_single_odd_crops_are_no_reason_to_refuse(int8, low, written):
    found = Agreement(crops=100, least=0.99, low=low, median=0.9995)
    engine = load_engine(int8, "onnx")
    if written:
        found.require(engine, Path("x.onnx"), "calibrate again")
    else:
        with pytest.raises(WeightsError, match=r"least 0\.99000, .*calibrate again"):
            found.require(engine, Path("x.onnx"), "calibrate again")


def test_too_few_crops(exported, crops, tmp_path):
    with pytest.raises(WeightsError, match=r"at least 20 crops .*found 19"):
        export_int8(exported / "light.safetensors", tmp_path / "x.onnx", find_crops((crops,))[:19])


def test_crops_to_compare_on_are_not_calibrated_on():
    for given in (20, 357, 1000):
        crops = [Crop(Path(f"{row}.png")) for row in range(given)]
        calibrated, compared = quantization.divided(crops)
        assert len({crop.path for crop in (*calibrated, *compared)}) == len(calibrated) + len(compared)
        assert (len(calibrated), len(compared)) == (min(256, given - len(compared)), min(100, given // 4))


def test_the_command_says_what_was_lost(exported, crops, tmp_path, capsys):
    target = tmp_path / "x.onnx"
    assert run("export", exported / "light.safetensors", target, "--int8", crops, "--check", crops, "--openvino") == 0
    said = capsys.readouterr().out
    assert "int8, calibrated on 30 crops" in said
    assert "10 crops that it was not calibrated on: least 0.99" in said
    assert "rank-1" in said
    assert "40 queries" in said
    assert {path.name for path in tmp_path.iterdir()} == {"x.onnx", "x.xml", "x.bin"}
    assert run("engines", target) == 0
    assert capsys.readouterr().out.count("crops per second") >= 2
    assert run("models", target) == 0
    assert json.loads(capsys.readouterr().out)["int8"]["calibrated"]["crops"] == 30


def test_a_folder_in_market_1501s_layout_is_scored_as_such(exported, crops, tiny_market, tmp_path, capsys):
    words = ("--int8", crops, "--check", tiny_market)
    assert run("export", exported / "light.safetensors", tmp_path / "x.onnx", *words) == 0
    queries = len(load_dataset("market1501", tiny_market).query)
    assert f"({queries} queries)" in capsys.readouterr().out


def test_without_names_the_command_says_how_to_measure_accuracy(exported, crops, tmp_path, capsys):
    assert run("export", exported / "light.safetensors", tmp_path / "x.onnx", "--int8", crops) == 0
    assert "--check FOLDER" in capsys.readouterr().out


@pytest.mark.shared
def test_the_shipped_model_keeps_its_accuracy(shared, tmp_path):
    """A fifth of the real split's persons; all of it is in docs/export.md."""
    split = load_dataset("market1501", shared / "data")
    chosen = {f"{person:04d}" for person in range(0, 1502, 5)}
    query, gallery = ([c for c in side if c.person in chosen] for side in (split.query, split.gallery))
    part = type(split)(split.name, query=tuple(query), gallery=tuple(gallery), protocol=split.protocol)
    report = export_int8(None, tmp_path / "int8.onnx", split.train[::80], check=part)
    assert report.unseen.low > 0.999
    assert report.scores is not None
    before, after = report.scores
    assert before.counts.scored > 50
    assert abs(before.rank(1) - after.rank(1)) <= 0.005 + 1 / before.counts.scored
    assert abs(before.mAP - after.mAP) <= 0.005


def test_openvinos_files_of_int8_are_compared_on_crops_not_on_noise(int8, exported, crops, tmp_path, monkeypatch):
    target = tmp_path / "x.onnx"
    target.write_bytes(int8.read_bytes())
    with pytest.raises(WeightsError, match="expected crops to compare an int8 model on"):
        export_openvino(target, exported / "light.safetensors")
    found = export_openvino(target, exported / "light.safetensors", find_crops((crops,)))
    assert found == tmp_path / "x.xml"
    run = ExportedEngine.__call__

    def wrong_on_black(self, pixels):
        black = (pixels == 0).all((1, 2, 3))
        return np.where(black[:, None], run(self, pixels)[:, ::-1], run(self, pixels))

    monkeypatch.setattr(ExportedEngine, "__call__", wrong_on_black)
    Image.new("RGB", (32, 64)).save(tmp_path / "black.png")
    odd = [Crop(tmp_path / "black.png")]
    assert export_openvino(target, exported / "light.safetensors", [*odd, *find_crops((crops,))])
    with pytest.raises(WeightsError, match=r"x\.xml: .*19 of 20 crops .* of 43\): not written"):
        export_openvino(target, exported / "light.safetensors", [*3 * odd, *find_crops((crops,))])

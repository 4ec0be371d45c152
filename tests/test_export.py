"""Export: what is written was compared with the network, and a file that fails never takes its name."""

import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from partalign import export
from partalign.cli import main
from partalign.crops import Crop
from partalign.datasets.generated import World
from partalign.engines import ExportedEngine, conversion, least_cosine, load_engine
from partalign.errors import MissingExtraError, PictureError, WeightsError
from partalign.export import export_onnx, export_openvino
from partalign.model.input import network_input
from partalign.weights.checkpoint import load_model, read_checkpoint, save_checkpoint


def run(*words) -> int:
    with pytest.raises(SystemExit) as exit:
        main([str(word) for word in words])
    return exit.value.code


def test_the_file_is_plain_onnx_of_any_batch(exported):
    model = onnx.load(exported / "light.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [20]
    (given,), (found,) = model.graph.input, model.graph.output
    assert (given.name, found.name) == ("pictures", "descriptors")
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["batch", 3, 64, 32]


def test_a_network_that_is_exported_wrongly_leaves_no_file(exported, tmp_path, monkeypatch):
    """The exported network sees the picture mirrored."""

    class Mirrored(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, pictures):
            return self.network(pictures.flip(3))

    converted = conversion._converted
    monkeypatch.setattr(conversion, "_converted", lambda module, *rest: converted(Mirrored(module).eval(), *rest))
    with pytest.raises(WeightsError, match="agree") as error:
        export_onnx(exported / "light.safetensors", tmp_path / "wrong.onnx")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_network_that_differs_on_the_users_crops_only_leaves_no_file(exported, tmp_path, monkeypatch):
    """The exported network takes one colour for another."""
    Image.new("RGB", (32, 64), (9, 99, 199)).save(tmp_path / "a.png")
    monkeypatch.setattr(conversion, "_converted", lambda *_: onnx.load(exported / "light.onnx"))
    run = ExportedEngine.__call__

    def colour_blind(self, pixels):
        return run(self, np.where((pixels == (9, 99, 199)).all(-1, keepdims=True), np.uint8(0), pixels))

    monkeypatch.setattr(ExportedEngine, "__call__", colour_blind)
    check = [Crop(tmp_path / "a.png")]
    with pytest.raises(WeightsError, match=r"of 12\): not written"):
        export_onnx(exported / "light.safetensors", tmp_path / "x.onnx", check=check)
    assert not (tmp_path / "x.onnx").exists()
    assert export_onnx(exported / "light.safetensors", tmp_path / "x.onnx").crops == 11


def test_targets_and_options_out_of_range(exported, tmp_path, monkeypatch):
    source = exported / "light.safetensors"
    with pytest.raises(WeightsError, match=r"a name in \.onnx"):
        export_onnx(source, tmp_path / "x.pb")
    with pytest.raises(WeightsError, match="an opset from 18 to 23, found 12"):
        export_onnx(source, tmp_path / "x.onnx", opset=12)
    with pytest.raises(PictureError, match="none"):
        export_onnx(source, tmp_path / "x.onnx", check=[Crop(tmp_path / "none.png")])
    for module, names in ((conversion, "onnx and onnxscript"), (export, "onnxruntime")):
        with monkeypatch.context() as patched:
            patched.setattr(module, "find_spec", lambda name: None)
            with pytest.raises(MissingExtraError, match=rf"{names}: pip install \"partalign\[onnx\]\""):
                export_onnx(source, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["light.onnx", "pixels.onnx"])
def test_openvinos_own_files_give_the_same(exported, tmp_path, file):
    import openvino

    (tmp_path / file).write_bytes((exported / file).read_bytes())
    target = export_openvino(tmp_path / file)
    assert {path.suffix for path in tmp_path.iterdir()} == {".onnx", ".xml", ".bin"}
    core = openvino.Core()
    graph = core.read_model(target)
    assert json.loads(graph.get_rt_info(["partalign"]).astype(str))["network"]["height"] == 64
    pixels = World(seed=6, persons=3, crops_per_person=1, height=64, width=32).render(range(3))[0]
    taken = pixels if file == "pixels.onnx" else network_input(pixels).contiguous().numpy()
    found = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([taken])[0]
    with torch.inference_mode():
        expected = load_model(exported / "light.safetensors")(network_input(pixels)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_commands_take_an_exported_model(exported, tmp_path, capsys):
    pictures = World(seed=6, persons=3, crops_per_person=1, height=64, width=32).render(range(3))[0]
    (tmp_path / "crops").mkdir()
    for row, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"crops/{row}.png")
    found = {}
    for file, engine in (("light.safetensors", "torch"), ("light.onnx", "auto"), ("pixels.onnx", "openvino")):
        out = tmp_path / f"{engine}.npz"
        assert run("embed", exported / file, tmp_path / "crops", "--out", out, "--engine", engine) == 0
        found[engine] = np.load(out)["vectors"]
    np.testing.assert_allclose(found["auto"], found["torch"], atol=1e-5)
    np.testing.assert_allclose(found["openvino"], found["torch"], atol=1e-5)
    assert run("evaluate", exported / "light.onnx", "--dataset", "folder", "--data", tmp_path / "crops") == 0
    capsys.readouterr()
    assert run("engines", exported / "light.onnx") == 0
    assert [line.split()[0] for line in sorted(capsys.readouterr().out.splitlines())] == [
        *("onnx", "openvino", "openvino-bf16"),
    ]
    assert run("explain", exported / "light.onnx", *sorted((tmp_path / "crops").iterdir())[:2], "--out", "x.png") == 1
    assert "exported model" in capsys.readouterr().err


def test_the_command_writes_and_checks_on_crops(exported, tiny_market, tmp_path, capsys):
    crops = tiny_market / "Market-1501-v15.09.15/query"
    target = tmp_path / "x.onnx"
    assert run("export", exported / "light.safetensors", target, "--preprocessing", "--check", crops, "--openvino") == 0
    assert "least cosine" in capsys.readouterr().out
    assert load_engine(target).model.takes_pixels
    assert (tmp_path / "x.xml").exists()
    assert run("export") == 1


def test_the_shipped_model_is_exported_with_its_sketch(tmp_path):
    assert export_onnx(None, tmp_path / "shipped.onnx").least > 0.999999
    people = World(seed=7, persons=6, crops_per_person=1, height=160, width=80).render(range(6))[0]
    with torch.inference_mode():
        expected = load_model()(network_input(people)).numpy()
    before = torch.get_num_threads()
    for name in ("onnx", "openvino"):
        for threads in (1, 4):  # sums that threads share were once lost between them
            torch.set_num_threads(threads)
            engine = load_engine(tmp_path / "shipped.onnx", name)
            torch.set_num_threads(before)
            assert least_cosine(engine(people), expected) > 0.999999


def test_a_network_that_gives_nan_is_not_exported(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_converted", lambda *_: onnx.load(exported / "light.onnx"))
    tensors, description = read_checkpoint(exported / "light.safetensors")
    name = next(n for n in tensors if n.endswith("running_var"))
    save_checkpoint(tmp_path / "nan.safetensors", tensors | {name: -torch.ones_like(tensors[name])}, description)
    with pytest.raises(WeightsError, match="cosine of nan"):
        export_onnx(tmp_path / "nan.safetensors", tmp_path / "nan.onnx")
    assert not (tmp_path / "nan.onnx").exists()

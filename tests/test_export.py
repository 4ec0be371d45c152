"""Export: what is written was compared with the network, and a file that fails never takes its name."""

import json
import shutil
from pathlib import Path

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
from partalign.engines.agreement import source_of
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
    target = export_openvino(tmp_path / file, exported / "light.safetensors")
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


@pytest.mark.parametrize("check", [0, 3])
def test_openvinos_files_are_compared_as_the_onnx_file_is(exported, tmp_path, monkeypatch, check):
    """Right on the two fixed pictures, wrong on people, or on the user's crops only: neither file is left."""
    shutil.copy(exported / "light.onnx", tmp_path)
    shutil.copy(exported / "light.safetensors", tmp_path)
    crops = []
    for row in range(check):
        Image.new("RGB", (32, 64), (9, 99, 199)).save(tmp_path / f"{row}.png")
        crops.append(Crop(tmp_path / f"{row}.png"))
    before, run = sorted(tmp_path.iterdir()), ExportedEngine.__call__

    def wrong(self, pixels):
        chosen = (pixels == (9, 99, 199)).all() if check else len(pixels) == 5
        return run(self, pixels if not chosen else pixels // 2)

    monkeypatch.setattr(ExportedEngine, "__call__", wrong)
    with pytest.raises(WeightsError, match=rf"light\.xml: .*on every picture .* of {11 + check}\): not written"):
        export_openvino(tmp_path / "light.onnx", check=crops)
    assert sorted(tmp_path.iterdir()) == before


def test_no_xml_ever_stands_beside_the_bin_of_another(exported, tmp_path, monkeypatch):
    """Stopped before each step of giving the pair its names, as by a kill."""
    shutil.copy(exported / "light.onnx", tmp_path)
    target = export_openvino(tmp_path / "light.onnx", exported / "light.safetensors")
    old = target.read_bytes(), target.with_suffix(".bin").read_bytes()
    new = (b"new xml", b"new bin")
    for step in range(4):
        (tmp_path / "new").mkdir()
        for path, content in zip((tmp_path / "new/light.xml", tmp_path / "new/light.bin"), new, strict=True):
            path.write_bytes(content)
        for path, content in zip((target, target.with_suffix(".bin")), old, strict=True):
            path.write_bytes(content)
        done = []
        with monkeypatch.context() as patched:
            for name in ("unlink", "replace"):
                patched.setattr(Path, name, stopped_after(step, done, getattr(Path, name)))
            if step < 3:
                with pytest.raises(KeyboardInterrupt):
                    export._replace_pair(tmp_path / "new/light.xml", target)
            else:
                export._replace_pair(tmp_path / "new/light.xml", target)
        assert len(done) == step
        if target.exists():
            assert (target.read_bytes(), target.with_suffix(".bin").read_bytes()) == (new if step == 3 else old)
        else:
            assert 0 < step < 3
        shutil.rmtree(tmp_path / "new")


def stopped_after(steps, done, function):
    def step(*words, **options):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(function.__name__)
        return function(*words, **options)

    return step


def test_engines_are_checked_on_demand(exported, tiny_market, tmp_path, monkeypatch, capsys):
    crops, model = tiny_market / "Market-1501-v15.09.15/query", tmp_path / "mine.onnx"
    shutil.copy(exported / "light.onnx", model)
    assert run("engines", model, "--check", crops) == 1
    assert "light of version" in capsys.readouterr().err
    assert run("engines", model, "--check", crops, "--against", exported / "light.safetensors") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("on 19 pictures: least 0.999" in line or "on 19 pictures: least 1.0" in line for line in lines)
    ran = ExportedEngine.__call__

    def wrong(self, pixels):
        return ran(self, pixels // 2 if self.name == "onnx" and len(pixels) == 8 else pixels)

    monkeypatch.setattr(ExportedEngine, "__call__", wrong)  # on the crops, which come by eight
    assert run("engines", exported / "light.onnx", "--check", crops) == 1
    problem = capsys.readouterr().out.splitlines()[-1]
    assert problem.startswith("onnx ")
    assert "agree with the network on every picture" in problem


def test_the_network_of_an_export_is_found(exported, tmp_path):
    network, model = exported / "light.safetensors", tmp_path / "x.onnx"
    shutil.copy(exported / "light.onnx", model)
    with pytest.raises(WeightsError, match="found none: give --against"):
        source_of(model)
    assert source_of(model, network) == network
    shutil.copy(network, tmp_path / "x.safetensors")
    assert source_of(model) == tmp_path / "x.safetensors"
    shutil.copy(network, tmp_path / "light.safetensors")
    (tmp_path / "x.safetensors").unlink()
    assert source_of(model) == tmp_path / "light.safetensors"
    tensors, description = read_checkpoint(network)
    save_checkpoint(tmp_path / "light.safetensors", tensors, description | {"title": "another"})
    with pytest.raises(WeightsError, match="found another"):
        source_of(model, tmp_path / "light.safetensors")


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

"""Networks that are converted by themselves: when, what is kept, and what happens to what is damaged or wrong."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.crops import Crop
from partalign.datasets.generated import World
from partalign.embedding import Embedder
from partalign.engines import CONVERSION_PAYS, converted, least_cosine, load_engine
from partalign.engines.exported import ExportedEngine
from partalign.errors import ExplanationError, MissingExtraError, WeightsError
from partalign.explanation import explain
from partalign.weights.checkpoint import load_model, read_checkpoint, save_checkpoint

MANY, FEW = CONVERSION_PAYS, CONVERSION_PAYS - 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled(cache, all_converted, exported, monkeypatch):
    """A cache in which the light network is; it is converted once for all tests."""
    monkeypatch.setenv("PARTALIGN_CACHE", str(all_converted))
    load_engine(exported / "light.safetensors")
    (made,) = converted._kept(exported / "light.safetensors")
    monkeypatch.setenv("PARTALIGN_CACHE", str(cache))
    cache.mkdir()
    shutil.copy(made, cache)
    return cache / made.name


@pytest.fixture
def conversions(filled, exported, monkeypatch) -> list[str]:
    """The conversions that were asked for, which give what another test made: they take seconds."""
    asked, made = [], converted.find(exported / "light.safetensors")
    monkeypatch.setattr(converted, "_convert", lambda path, name, network: asked.append(name) or made)
    return asked


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    return World(seed=5, persons=4, crops_per_person=1, height=64, width=32).render(range(4))[0]


def test_a_network_is_converted_once_and_then_runs_without_torch(cache, exported, people):
    model = exported / "light.safetensors"
    assert load_engine(model, crops=FEW).name == "torch"  # seconds would be lost
    assert not cache.exists()
    engine = load_engine(model, crops=MANY)
    assert engine.name == "openvino"
    (kept,) = cache.iterdir()
    before = kept.read_bytes()
    np.save(cache.parent / "people.npy", people)
    program = (
        "import sys; sys.modules.update(torch=None); import numpy as np; from partalign.engines import load_engine\n"
        "engine = load_engine(sys.argv[1], sys.argv[2], crops=1)\n"
        "print(engine.name); np.save(sys.argv[3], engine(np.load('people.npy')))"
    )
    with torch.inference_mode():
        expected = Embedder(load_model(model))(people)
    for name in ("auto", "openvino", "onnx"):
        words = [sys.executable, "-c", program, model, name, "found.npy"]
        run = subprocess.run(words, cwd=cache.parent, capture_output=True, text=True, env=os.environ)
        assert run.stdout.strip() == ("onnx" if name == "onnx" else "openvino"), run.stderr
        np.testing.assert_allclose(np.load(cache.parent / "found.npy"), expected, atol=1e-5)
    assert [path.read_bytes() for path in cache.iterdir()] == [before]


def test_a_server_converts_for_any_number_and_few_crops_take_what_is_there(exported, conversions):
    assert load_engine(exported / "light.safetensors", crops=1).name == "openvino"
    assert Embedder(exported / "light.safetensors", crops=1).engine.name == "openvino"
    assert Embedder(str(exported / "light.safetensors")).engine.name == "openvino"
    assert Embedder(load_model(exported / "light.safetensors")).engine.name == "torch"
    assert conversions == []


def test_what_is_damaged_is_made_again(filled, exported, people, conversions):
    sound = filled.read_bytes()
    expected = load_engine(exported / "light.safetensors")(people)
    for damaged in (sound[: len(sound) // 2], b"", sound[:-99] + bytes([sound[-99] ^ 1]) + sound[-98:]):
        filled.write_bytes(damaged)
        np.testing.assert_array_equal(load_engine(exported / "light.safetensors", crops=1)(people), expected)
        assert filled.read_bytes() == sound
        assert len(list(filled.parent.iterdir())) == 1
    assert conversions == ["openvino"] * 3


def test_a_cache_that_can_only_be_read_is_used(filled, exported, conversions, monkeypatch):
    def refused(*words, **options):
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr(os, "utime", refused)
    assert load_engine(exported / "light.safetensors", crops=1).name == "openvino"
    assert filled.exists()
    assert conversions == []


def test_other_weights_code_or_converters_are_converted_anew(filled, exported, tmp_path, monkeypatch):
    model = exported / "light.safetensors"
    assert converted.is_kept(model)
    tensors, description = read_checkpoint(model)
    name = next(iter(tensors))
    save_checkpoint(tmp_path / "light.safetensors", tensors | {name: tensors[name] + 1}, description)
    assert not converted.is_kept(tmp_path / "light.safetensors")
    with monkeypatch.context() as patched:
        patched.setattr(converted, "_version", lambda package: "0")
        assert not converted.is_kept(model)
    with monkeypatch.context() as patched:
        patched.setattr(converted, "_code", lambda: "0")
        assert not converted.is_kept(model)
    assert converted.is_kept(model)


def test_the_models_used_last_are_kept(filled, exported, monkeypatch):
    for number in range(converted.KEPT + 2):
        other = filled.with_name(f"{number:016}-{number:016}.onnx")
        other.write_bytes(b"other")
        os.utime(other, (number, number))
    (filled.parent / "notes.txt").write_text("the user's")
    converted._keep(converted.find(exported / "light.safetensors"))
    left = sorted(path.name for path in filled.parent.iterdir())
    assert left == sorted([filled.name, "notes.txt", *(f"{n:016}-{n:016}.onnx" for n in range(3, converted.KEPT + 2))])


def test_a_place_that_cannot_be_written_is_said_and_stops_nothing(
    tmp_path, exported, people, conversions, monkeypatch, capfd
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PARTALIGN_CACHE", str(tmp_path / "file/cache"))
    engine = load_engine(exported / "light.safetensors", crops=MANY)
    assert engine.name == "openvino"
    assert engine(people).shape == (4, 64)
    said = capfd.readouterr().err
    assert "converts again" in said
    assert len(said.splitlines()) == 1


def test_an_engine_that_does_not_agree_is_left_out_and_said(filled, exported, monkeypatch, capfd):
    run = ExportedEngine.__call__

    def wrong(self, pixels):
        return run(self, pixels)[:, ::-1] if self.name in wrong_ones else run(self, pixels)

    monkeypatch.setattr(ExportedEngine, "__call__", wrong)
    for wrong_ones, taken in ((["openvino"], "onnx"), (["openvino", "onnx"], "torch")):
        assert load_engine(exported / "light.safetensors").name == taken
        said = capfd.readouterr().err.splitlines()
        assert len(said) == len(wrong_ones)
        assert all("left out" in line and "light.safetensors" in line for line in said)


def test_what_is_converted_wrongly_is_not_kept(cache, exported, monkeypatch):
    """Right on the two probes, wrong on people: the check against torch on more pictures finds it."""
    run = ExportedEngine.__call__
    monkeypatch.setattr(ExportedEngine, "__call__", lambda self, pixels: run(self, pixels) + 0.1 * (len(pixels) == 5))
    with pytest.raises(WeightsError, match="agree with the network"):
        load_engine(exported / "light.safetensors", "openvino")
    assert not cache.exists()


def test_what_is_not_installed_is_passed_over(filled, cache, exported, monkeypatch, capfd):
    model = exported / "light.safetensors"
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert load_engine(model).name == "onnx"
    with pytest.raises(MissingExtraError, match=r"partalign\[openvino\]"):
        load_engine(model, "openvino")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert load_engine(model).name == "torch"
    monkeypatch.delitem(sys.modules, "openvino")
    filled.unlink()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert load_engine(model).name == "torch"
    with pytest.raises(MissingExtraError, match="onnxscript"):
        load_engine(model, "openvino")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 something else", b"damaged"])
def test_a_file_that_is_no_model_gets_one_line(cache, exported, tmp_path, content, capfd):
    path = tmp_path / "m.safetensors"
    if content == b"damaged":
        path.write_bytes((exported / "light.safetensors").read_bytes()[:-50])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"m\.safetensors"):
        load_engine(path)
    assert capfd.readouterr().err == ""


def test_explanations_are_those_of_the_network(filled, exported, people, tmp_path):
    model = tmp_path / "light.safetensors"
    shutil.copy(exported / "light.safetensors", model)
    embedder = Embedder(model)
    assert embedder.engine.name == "openvino"
    found = explain(embedder, people[0], people[1])
    expected = explain(load_model(model), people[0], people[1])
    np.testing.assert_allclose(found.pairs, expected.pairs, atol=1e-12)
    a, b = embedder(people[:2])
    assert found.score == pytest.approx(float(a @ b), abs=1e-5)
    late = Embedder(model)
    tensors, description = read_checkpoint(model)
    save_checkpoint(model, {name: tensor.clone() for name, tensor in tensors.items()}, description | {"title": "new"})
    with pytest.raises(ExplanationError, match="start again"):
        explain(late, people[0], people[1])


def test_files_are_described_as_by_torch(filled, exported, people, tmp_path):
    for row, picture in enumerate(people):
        Image.fromarray(picture).save(tmp_path / f"{row}.png")
    crops = [Crop(tmp_path / f"{row}.png") for row in range(len(people))]
    chosen, plain = (
        Embedder(m, flip=True) for m in (exported / "light.safetensors", load_model(exported / "light.safetensors"))
    )
    assert least_cosine(chosen.embed(crops).vectors, plain.embed(crops).vectors) > 0.99999

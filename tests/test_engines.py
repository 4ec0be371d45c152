"""Exported models in ONNX Runtime and OpenVINO against the network in torch, and the choice between them."""

import json
import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.cli.engine import Name
from partalign.crops import Crop
from partalign.datasets.generated import World
from partalign.embedding import Embedder, evaluate
from partalign.engines import (
    OF_EXPORTED,
    OF_NETWORKS,
    EngineName,
    ExportedEngine,
    Trial,
    least_cosine,
    load_engine,
    try_engines,
)
from partalign.engines.eager import NetworkEngine
from partalign.errors import ExplanationError, MissingExtraError, ShapeError, WeightsError
from partalign.explanation import explain
from partalign.model.input import network_input
from partalign.search import PictureSearch
from partalign.weights.checkpoint import load_model

ENGINES = ("onnx", "openvino")
FILES = ("light.onnx", "pixels.onnx")


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    return World(seed=5, persons=9, crops_per_person=1, height=64, width=32).render(range(9))[0]


@pytest.fixture(scope="module")
def expected(exported, people) -> np.ndarray:
    with torch.inference_mode():
        return load_model(exported / "light.safetensors")(network_input(people)).numpy()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", ENGINES)
def test_engines_agree_with_torch_whatever_the_batch_and_the_input(exported, people, expected, name, file):
    engine = load_engine(exported / file, name)
    assert (engine.input_size, engine.channels) == ((64, 32), 64)
    for batch in (1, 4, 9):
        found = np.concatenate([engine(people[start : start + batch]) for start in range(0, 9, batch)])
        assert least_cosine(found, expected) > 0.9999
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert engine(people[:0]).shape == (0, 64)


def test_half_precision_is_used_where_it_is_asked_for_only(exported, people, expected):
    found = load_engine(exported / "light.onnx", "openvino-bf16")(people)
    assert least_cosine(found, expected) > 0.999
    assert load_engine(exported / "light.onnx").name in ENGINES


@pytest.mark.parametrize("name", OF_NETWORKS)
def test_a_network_runs_in_every_engine(exported, people, expected, name):
    if name.startswith("compiled") and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("torch.compile needs a C++ compiler")
    engine = load_engine(exported / "light.safetensors", name)
    least = 0.999 if name.endswith("-bf16") else 0.99999
    for batch in (1, 9):
        assert least_cosine(engine(people[:batch]), expected[:batch]) > least
    assert engine(people[:0]).shape == (0, 64)
    assert engine.name == name


def test_commands_offer_every_engine():
    assert get_args(Name) == get_args(EngineName)  # twice, so that --help imports nothing heavy
    assert set(get_args(EngineName)) == {"auto", *OF_EXPORTED, *OF_NETWORKS}


def test_fewer_crops_pass_at_once_where_memory_runs_out(exported, people, expected):
    """The network is real; only its memory is said to end at three crops."""
    network = load_model(exported / "light.safetensors")
    passed = []

    def narrow(module, given):
        passed.append(len(given[0]))
        if passed[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.register_forward_pre_hook(narrow)
    engine = NetworkEngine(network)
    np.testing.assert_allclose(engine(people), expected, atol=1e-5)
    assert passed == [8, 4, 2, 2, 2, 2, 1]
    network.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(WeightsError, match="lacks memory for one crop"):
        engine(people)


def test_an_exported_model_needs_no_torch(exported, people, tmp_path):
    """Whole commands, in a process in which torch and scipy cannot be imported."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for row, picture in enumerate(people):
        Image.fromarray(picture).save(folder / f"{row}.png")
    program = (
        "import sys; sys.modules.update(torch=None, scipy=None); from partalign.cli import main; main(sys.argv[1:])"
    )

    def run(*words):
        command = [sys.executable, "-c", program, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env={"OMP_NUM_THREADS": "1"}, cwd=tmp_path)

    plain = Embedder(load_model(exported / "light.safetensors")).embed([Crop(folder / f"{r}.png") for r in range(9)])
    for engine in ENGINES:
        done = run("embed", exported / "light.onnx", folder, "--out", "x.npz", "--engine", engine)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(np.load(tmp_path / "x.npz")["vectors"], plain.vectors, atol=1e-5)
    for words in (
        ("gallery", "add", "hall", folder, "--model", exported / "light.onnx"),
        ("gallery", "search", "hall", folder / "3.png", "--model", exported / "light.onnx"),
        ("evaluate", exported / "light.onnx", "--dataset", "folder", "--data", folder),
        ("models", exported / "light.onnx"),
        ("engines", exported / "light.onnx"),
    ):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    done = run("embed", folder, "--out", "y.npz", "--engine", "torch")
    assert done.returncode == 1
    assert "needs torch" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_embedder_takes_an_exported_model(exported, people, tmp_path):
    for row, picture in enumerate(people):
        Image.fromarray(picture).save(tmp_path / f"{row}.png")
    crops = [Crop(tmp_path / f"{row}.png") for row in range(len(people))]
    for flip in (False, True):
        plain = Embedder(load_model(exported / "light.safetensors"), flip=flip).embed(crops).vectors
        for file in FILES:
            found = Embedder(load_engine(exported / file), flip=flip).embed(crops).vectors
            np.testing.assert_allclose(found, plain, atol=1e-5)


def test_scores_are_those_of_the_network(exported, tiny_market):
    from partalign.datasets import load_dataset

    split = load_dataset("market1501", tiny_market)
    models = [load_model(exported / "light.safetensors"), load_engine(exported / "pixels.onnx", "openvino")]
    first, second = (evaluate(Embedder(model), split).as_dict() for model in models)
    for figure in ("rank-1", "mAP", "mINP"):
        assert first[figure] == pytest.approx(second[figure])


def test_a_gallery_takes_the_model_and_its_export_for_the_same(exported, people, tmp_path):
    Image.fromarray(people[0]).save(tmp_path / "a.png")
    with PictureSearch.open(tmp_path / "hall", exported / "light.safetensors", create=True) as search:
        search.add([Crop(tmp_path / "a.png")])
    with PictureSearch.open(tmp_path / "hall", exported / "pixels.onnx") as search:
        (match,) = search.by_pictures([tmp_path / "a.png"])
        assert match.similarity == pytest.approx(1, abs=1e-5)
        assert search.calibration is not None


def test_what_needs_maps_asks_for_the_network(exported, people):
    embedder = Embedder(load_engine(exported / "light.onnx"))
    with pytest.raises(ExplanationError, match="safetensors"):
        explain(embedder, people[0], people[1])
    with pytest.raises(ExplanationError, match="exported model"):
        _ = embedder.network
    with pytest.raises(WeightsError, match="exported model gives descriptors only"):
        load_model(exported / "light.onnx")
    with pytest.raises(WeightsError, match="device cpu"):
        load_engine(exported / "light.onnx", device="cuda")


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("light.onnx", "torch", "give that file"),
        ("none.onnx", "auto", "no such file"),
    ],
)
def test_an_engine_that_does_not_go_with_the_file(exported, file, name, message):
    with pytest.raises(WeightsError, match=message):
        load_engine(exported / file, name)


@pytest.mark.parametrize("file", ["light.onnx", "light.safetensors"])
@pytest.mark.parametrize("shape", [(2, 160, 80, 3), (2, 3, 64, 32), (64, 32, 3)])
def test_pictures_of_another_size_are_refused(exported, file, shape):
    engine = load_engine(exported / file)
    with pytest.raises(ShapeError, match=r"\(B, 64, 32, 3\)"):
        engine(np.zeros(shape, np.uint8))
    with pytest.raises(ShapeError, match="float32"):
        engine(np.zeros((2, 64, 32, 3), np.float32))


def test_the_fastest_that_is_right_is_taken(exported, monkeypatch):
    trials = try_engines(exported / "light.onnx", ENGINES)
    assert {trial.name for trial in trials} == set(ENGINES)
    assert trials[0].rate >= trials[1].rate > 0
    assert all(trial.cosine > 0.9999 for trial in trials)

    def one_is_wrong(self: ExportedEngine) -> float:
        if self.name == trials[0].name:
            raise WeightsError("it is wrong")
        return 1.0

    monkeypatch.setattr(ExportedEngine, "check", one_is_wrong)
    assert load_engine(exported / "light.onnx").name == trials[1].name
    assert try_engines(exported / "light.onnx", ENGINES)[-1] == Trial(trials[0].name, problem="it is wrong")


def test_without_an_engine_the_extra_is_named(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert load_engine(exported / "light.onnx").name == "onnx"
    with pytest.raises(MissingExtraError, match=r"partalign\[openvino\]"):
        load_engine(exported / "light.onnx", "openvino")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"partalign\[onnx\]"):
        load_engine(exported / "light.onnx")


def test_openvino_tells_nobody_that_it_is_used(exported, tmp_path):
    """Its own package sends a message for every import; here none of it may be loaded, nor a file be written."""
    program = (
        "import sys; from partalign.engines import load_engine; load_engine(sys.argv[1], 'openvino')\n"
        "import json; print(json.dumps([n for n in sys.modules if n.startswith('openvino_telemetry.')]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, exported / "light.onnx"],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == []
    assert not list(tmp_path.iterdir())

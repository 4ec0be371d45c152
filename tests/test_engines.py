"""Exported models in ONNX Runtime and OpenVINO against the network in torch, and the choice between them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.crops import Crop
from partalign.datasets.generated import World
from partalign.embedding import Embedder, evaluate
from partalign.engines import ExportedEngine, Trial, least_cosine, load_engine, try_engines
from partalign.errors import ExplanationError, MissingExtraError, ShapeError, WeightsError
from partalign.explanation import explain
from partalign.images import network_input, pixels_of
from partalign.search import PictureSearch
from partalign.weights.checkpoint import load_model
from partalign.weights.onnx import read_onnx

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
        found = torch.cat([engine(part) for part in network_input(people).split(batch)]).numpy()
        assert least_cosine(found, expected) > 0.9999
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert engine(torch.empty(0, 3, 64, 32)).shape == (0, 64)


def test_half_precision_is_used_where_it_is_asked_for_only(exported, people, expected):
    found = load_engine(exported / "light.onnx", "openvino-bf16")(network_input(people)).numpy()
    assert least_cosine(found, expected) > 0.999
    assert load_engine(exported / "light.onnx").name in ENGINES


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
        embedder.maps(network_input(people))
    with pytest.raises(WeightsError, match="exported model gives descriptors only"):
        load_model(exported / "light.onnx")
    with pytest.raises(WeightsError, match="device cpu"):
        Embedder(load_engine(exported / "light.onnx"), device="cuda")


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("light.safetensors", "openvino", "partalign export light.safetensors light.onnx"),
        ("light.onnx", "torch", "give that file"),
        ("none.onnx", "auto", "no such file"),
    ],
)
def test_an_engine_that_does_not_go_with_the_file(exported, file, name, message):
    with pytest.raises(WeightsError, match=message):
        load_engine(exported / file, name)


@pytest.mark.parametrize("shape", [(2, 3, 160, 80), (2, 64, 32, 3), (3, 64, 32)])
def test_pictures_of_another_size_are_refused(exported, shape):
    engine = load_engine(exported / "light.onnx", "onnx")
    with pytest.raises(ShapeError, match=r"\(B, 3, 64, 32\)"):
        engine(torch.zeros(shape))
    with pytest.raises(ShapeError, match="float64"):
        engine(torch.zeros(2, 3, 64, 32, dtype=torch.float64))


def test_the_fastest_that_is_right_is_taken(exported, monkeypatch):
    model = read_onnx(exported / "light.onnx")
    trials = try_engines(model)
    assert {trial.name for trial in trials} == set(ENGINES)
    assert trials[0].rate >= trials[1].rate > 0
    assert all(trial.cosine > 0.9999 for trial in trials)

    def one_is_wrong(self: ExportedEngine) -> float:
        if self.name == trials[0].name:
            raise WeightsError("it is wrong")
        return 1.0

    monkeypatch.setattr(ExportedEngine, "check", one_is_wrong)
    assert load_engine(exported / "light.onnx").name == trials[1].name
    assert try_engines(model)[-1] == Trial(trials[0].name, problem="it is wrong")


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


def test_network_input_is_undone_exactly():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels_of(network_input(pixels)).numpy(), pixels)

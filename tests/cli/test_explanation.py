"""`partalign explain` as a user runs it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.cli import main
from partalign.crops import Crop
from partalign.embedding import Embedder
from partalign.model.network import NetworkSettings, build_network
from partalign.weights.checkpoint import load_model, save_checkpoint

LIGHT = {"appearance": "light", "parts": "light", "appearance_channels": 16, "part_channels": 8, "dimension": 32}
CALIBRATION = {"slope": 2.0, "offset": 1.0, "matches": 5, "non_matches": 9, "log_loss": 0.3, "calibration_error": 0.1}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    settings = NetworkSettings(**LIGHT, height=64, width=32)
    network = build_network(settings).state_dict()
    save_checkpoint(
        tmp_path / "m.safetensors", network, {"kind": "network", "network": settings.model_dump(mode="json")}
    )
    draw = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(draw.integers(0, 255, (90, 40, 3), dtype=np.uint8)).save(name)
    return tmp_path


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


def test_a_picture_numbers_and_a_sentence(files, capsys):
    (files / "scores.json").write_text(json.dumps({"mAP": 0.5, "calibration": CALIBRATION}))
    words = ["explain", "m.safetensors", "a.png", "b.png", "--out", "why.png", "--json", "why.json"]
    assert run(*words, "--calibration", "scores.json", "--dark") == 0
    content = json.loads((files / "why.json").read_text())
    vectors = (
        Embedder(load_model(files / "m.safetensors")).embed([Crop(files / "a.png"), Crop(files / "b.png")]).vectors
    )
    assert content["score"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    assert sum(content["parts"].values()) == pytest.approx(content["score"], abs=1e-9)
    assert content["probability"] == pytest.approx(1 / (1 + np.exp(-(2 * content["score"] + 1))))
    assert content["sentence"] in capsys.readouterr().out
    assert run(*words, "--calibration", "scores.json", "--persons", 50) == 0
    among = json.loads((files / "why.json").read_text())["probability"]
    odds = [p / (1 - p) for p in (content["probability"], among)]
    assert odds[0] / odds[1] == pytest.approx(49)
    assert "if one of 50 persons" in capsys.readouterr().out
    assert run(*words, "--persons", 50) == 1
    assert "has none" in capsys.readouterr().err
    with Image.open("why.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > sheet.height > 400


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"--out": "why.jpg"}, "why.jpg: expected the name of a picture that ends in .png"),
        ({"--out": "why.png", "--calibration": "m.safetensors"}, "m.safetensors: expected figures with a calibration"),
        ({"--out": "why.png", "--calibration": "none.json"}, "none.json: expected figures with a calibration"),
        ({"--out": "why.png", "--pose": "a.png"}, "a.png: expected a model of partalign"),
    ],
)
def test_mistakes_get_one_line(files, capsys, change, expected):
    words = [word for pair in change.items() for word in pair]
    assert run("explain", "m.safetensors", "a.png", "b.png", *words) == 1
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (files / "why.png").exists()

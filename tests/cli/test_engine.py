"""--engine: the same option of every command that describes pictures, and it reaches the engine."""

import shutil

import pytest
from PIL import Image

from partalign.cli import main
from partalign.cli.engine import Engine, Name
from partalign.datasets.generated import World


def run(*words) -> int:
    with pytest.raises(SystemExit) as exit:
        main([str(word) for word in words])
    return exit.value.code


@pytest.fixture
def crops(tmp_path):
    (tmp_path / "crops").mkdir()
    for row, picture in enumerate(
        World(seed=6, persons=3, crops_per_person=1, height=64, width=32).render(range(3))[0]
    ):
        Image.fromarray(picture).save(tmp_path / f"crops/{row}.png")
    return tmp_path / "crops"


@pytest.mark.parametrize("words", ["evaluate", "embed", "embed-many", "gallery add", "gallery search", "serve"])
def test_every_command_that_describes_pictures_has_it(words, capsys):
    assert run(*words.split(), "--help") == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--engine CHOICE " + Engine.__metadata__[0].help in shown
    assert "choices: " + ", ".join(Name.__args__) in shown


def test_it_reaches_the_engine(exported, crops, tmp_path, capsys):
    """An exported model is refused by torch, whichever command asks for it."""
    model, hall = exported / "light.onnx", tmp_path / "hall"
    assert run("gallery", "add", hall, crops, "--model", model, "--engine", "onnx") == 0
    for words in (("gallery", "add", hall, crops), ("gallery", "search", hall, crops / "0.png"), ("serve", hall)):
        port = ("--port", "0") if words[0] == "serve" else ()
        capsys.readouterr()
        assert run(*words, "--model", model, "--engine", "torch", *port) == 1
        assert "expected a .safetensors file for torch, found an exported model" in capsys.readouterr().err


def test_few_pictures_convert_nothing(exported, crops, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PARTALIGN_CACHE", str(tmp_path / "cache"))
    model = shutil.copy(exported / "light.safetensors", tmp_path)
    assert run("gallery", "add", tmp_path / "hall", crops, "--model", model) == 0
    assert run("gallery", "search", tmp_path / "hall", crops / "1.png", "--model", model) == 0
    assert "1.000" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()

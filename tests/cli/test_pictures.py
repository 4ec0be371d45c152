"""`partalign picture` as a user runs it: files in, one PNG out, one line on what is wrong."""

import json

import pytest
import torch
from PIL import Image

from partalign.cli import main
from partalign.model.network import NetworkSettings, build_network
from partalign.weights.checkpoint import save_checkpoint

SETTINGS = {
    "appearance": "light", "parts": "light", "appearance_channels": 16, "part_channels": 8, "dimension": 32,
    "height": 64, "width": 32,
}  # fmt: skip


def partalign(*words, expect=0) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert left.value.code == expect


def size(path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def write_model(path, seed, **changes):
    torch.manual_seed(seed)
    settings = NetworkSettings.model_validate({**SETTINGS, **changes})
    description = {"kind": "network", "network": settings.model_dump(mode="json")}
    save_checkpoint(path, build_network(settings).state_dict(), description)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder: a model that was not trained, and a log."""
    folder = tmp_path_factory.mktemp("run")
    write_model(folder / "model.safetensors", 0)
    lines = [json.dumps({"iteration": i, "loss": 1 / (i + 1)}) for i in range(5)]
    (folder / "log.jsonl").write_text("\n".join(lines))
    return folder


def test_parts_beside_another_model_s(run, tiny_market, tmp_path, capsys):
    other = write_model(tmp_path / "other.safetensors", 1, nonnegative=True)
    common = ["picture", "parts", run / "model.safetensors", "--data", tiny_market, "--persons", 2, "--each", 2]
    for name, more in {
        "a": [],
        "b": [],
        "dark": ["--dark"],
        "joints": ["--joints"],
        "two": ["--against", other],
    }.items():
        partalign(*common, "--fit", 4, *more, "--out", tmp_path / f"{name}.png")
        assert capsys.readouterr().out.strip() == str(tmp_path / f"{name}.png")
    files = {name: (tmp_path / f"{name}.png").read_bytes() for name in ("a", "b", "dark", "joints", "two")}
    assert files["a"] == files["b"]
    assert len(set(files.values())) == 4
    assert size(tmp_path / "two.png")[0] > size(tmp_path / "a.png")[0]


def test_tsne_of_pictures_and_folders(run, tiny_market, tmp_path):
    folder = tiny_market / "Market-1501-v15.09.15/query"
    words = ["picture", "tsne", run / "model.safetensors", folder, "--points", 60, "--show", "patches"]
    partalign(*words, "--out", tmp_path / "t.png")
    assert size(tmp_path / "t.png")[0] > 1600
    partalign(*words, "--show", "noses", "--out", tmp_path / "t.png", expect=1)


def test_ranks_of_a_data_set_and_of_a_picture_in_a_folder(run, tiny_market, tmp_path):
    folder = tiny_market / "Market-1501-v15.09.15/query"
    words = ["picture", "ranks", run / "model.safetensors"]
    partalign(*words, "--data", tiny_market, "--queries", 2, "--top", 3, "--out", tmp_path / "a.png")
    partalign(*words, next(folder.iterdir()), "--gallery", folder, "--top", 3, "--out", tmp_path / "b.png")
    first, second = (size(tmp_path / name) for name in ("a.png", "b.png"))
    assert first == (second[0], 2 * second[1])


def test_curves_of_a_run_and_of_its_model(run, tiny_market, tmp_path):
    partalign("picture", "curves", run, "--out", tmp_path / "loss.png")
    partalign("picture", "curves", run / "model.safetensors", "--data", tiny_market, "--out", tmp_path / "cmc.png")
    assert (tmp_path / "loss.png").read_bytes() != (tmp_path / "cmc.png").read_bytes()
    assert size(tmp_path / "cmc.png")[0] > 900


def test_bars_of_scores(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.json").write_text(json.dumps({"rank-1": 0.8 + i / 10, "mAP": 0.6}))
    partalign("picture", "bars", *(f"ours={tmp_path / f'{i}.json'}" for i in range(2)), "--out", tmp_path / "b.png")
    assert size(tmp_path / "b.png")[0] > 400


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["parts", "{model}", "--data", "{market}", "--out", "x.jpg"], 1, "x.jpg: expected the name of a picture"),
        (["parts", "{model}", "--out", "x.png"], 1, "either pictures (or folders of them), or --data"),
        (["parts", "none.safetensors", "{market}", "--out", "x.png"], 1, "none.safetensors: expected a weight file"),
        (["tsne", "{model}", "nowhere.jpg", "--out", "x.png"], 1, "nowhere.jpg: expected a picture"),
        (["ranks", "{model}", "--out", "x.png"], 1, "--gallery DIR to search in, or --data DIR"),
        (["curves", "nowhere", "--out", "x.png"], 1, "nowhere: expected a run's folder"),
        (["curves", "--out", "x.png"], 1, "at least one run's folder"),
        (["bars", "scores.json", "--out", "x.png"], 1, "expected NAME=FILE"),
        (["bars", "--out", "x.png"], 1, "at least one bar"),
        (["parts", "{model}", "--data", "{market}"], 2, "--out"),
    ],
)
def test_mistakes_get_one_line(run, tiny_market, tmp_path, monkeypatch, capsys, words, status, expected):
    monkeypatch.chdir(tmp_path)
    places = {"model": run / "model.safetensors", "market": tiny_market}
    partalign("picture", *(word.format(**places) for word in words), expect=status)
    said = capsys.readouterr().err
    assert expected in said
    assert len(said.strip().splitlines()) == 1, said
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["parts", "tsne", "ranks", "curves", "bars"])
def test_each_figure_has_help_with_an_example(name, capsys):
    partalign("picture", name, "--help")
    assert f"Example: partalign picture {name} " in capsys.readouterr().out

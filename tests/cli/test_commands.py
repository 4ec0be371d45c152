"""The commands as a user runs them: in a process of their own, on files, with exit codes and one-line errors."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from partalign.cli import app
from partalign.weights.checkpoint import read_checkpoint

RECIPE = """
title = "tiny"
[network]
appearance = "light"
parts = "light"
appearance_channels = 32
part_channels = 8
dimension = 64
height = 64
width = 32
[batch]
persons = 4
crops = 4
[optimizer]
rate = 0.05
[schedule]
kind = "cosine"
iterations = 3
"""


def partalign(*words, expect=0):
    run = subprocess.run(
        [sys.executable, "-m", "partalign", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    assert run.returncode == expect, run.stdout + run.stderr
    return run


@pytest.fixture(scope="module")
def trained(tiny_market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(RECIPE)
    run = partalign("train", folder / "tiny.toml", "--data", tiny_market, "--out", folder / "run", "--set", "seed=1")
    assert "rank-1" in run.stdout
    return folder


def test_train_evaluate_embed_and_scoring_the_embeddings_agree(trained, tiny_market, tmp_path):
    model = trained / "run/model.safetensors"
    root = tiny_market / "Market-1501-v15.09.15"
    partalign("evaluate", model, "--data", tiny_market, "--json", tmp_path / "a.json")
    partalign("embed", model, root / "query", root / "bounding_box_test", "--out", tmp_path / "saved.npz")
    partalign("evaluate", "--embeddings", tmp_path / "saved.npz", "--data", tiny_market, "--json", tmp_path / "b.json")
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert first == second
    assert {"rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP", "ap", "protocol", "counts"} <= first.keys()
    assert 0 < first["mAP"] <= 1
    settings = json.loads((trained / "run/settings.json").read_text())
    assert settings["seed"] == 1


def test_further_data_sets_are_trained_on_as_persons_of_their_own(trained, tiny_market, tmp_path):
    words = ("train", trained / "tiny.toml", "--data", tiny_market, "--set", "loss.identity_weight=1")
    further = ("--extra", f"market1501={tiny_market}")
    partalign(*words, "--out", tmp_path / "alone", "--set", "loss.identity_from=0")
    partalign(*words, "--out", tmp_path / "both", "--set", "loss.identity_from=0", *further, *further)
    alone, both = (
        read_checkpoint(tmp_path / name / "last.safetensors")[0]["head.classifier.weight"] for name in ("alone", "both")
    )
    assert len(both) == 3 * len(alone) > 0


def test_trapezoidal_average_precision_is_said_and_lower(trained, tiny_market, tmp_path):
    model = trained / "run/model.safetensors"
    for kind in ("rectangular", "trapezoidal"):
        run = partalign("evaluate", model, "--data", tiny_market, "--ap", kind, "--json", tmp_path / f"{kind}.json")
        assert kind in run.stdout
    values = {kind: json.loads((tmp_path / f"{kind}.json").read_text()) for kind in ("rectangular", "trapezoidal")}
    assert values["trapezoidal"]["ap"] == "trapezoidal"
    assert values["trapezoidal"]["mAP"] <= values["rectangular"]["mAP"]


def test_a_damaged_picture_is_refused_or_named_and_left_out(trained, tiny_market, tmp_path):
    model = trained / "run/model.safetensors"
    crops = tmp_path / "crops"
    crops.mkdir()
    for i in range(5):
        Image.fromarray(np.full((64, 32, 3), 40 * i, np.uint8)).save(crops / f"{i}.png")
    (crops / "2.png").write_bytes((crops / "2.png").read_bytes()[:50])
    refused = partalign("embed", model, crops, "--out", tmp_path / "x.npz", expect=1)
    assert "2.png" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "x.npz").exists()
    skipped = partalign("embed", model, crops, "--out", tmp_path / "x.npz", "--corrupt", "skip")
    assert "2.png" in skipped.stderr
    assert "4 descriptors of 64 numbers" in skipped.stdout


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (
            ["evaluate", "none.safetensors", "--data", "{market}"],
            1,
            "none.safetensors: expected a weight file, found no such",
        ),
        (["evaluate", "googlenet-rcmp", "--data", "{market}"], 1, 'did you mean "googlenet-rcpm"'),
        (["evaluate", "m.safetensors", "--embeddings", "d.npz"], 1, "either a model or --embeddings FILE, found both"),
        (["evaluate", "--embeddings", "none.npz", "--data", "{market}"], 1, "none.npz"),
        (["train", "short-basline", "--data", "{market}", "--out", "run"], 1, 'did you mean "short-baseline"'),
        (["train", "short-baseline", "--data", "nowhere", "--out", "run"], 1, "nowhere"),
        (["train", "short-baseline", "--data", "{market}", "--out", "run"], 1, "--set weights.appearance=FILE"),
        (["train", "short-baseline"], 2, "--data"),
        (
            ["train", "short-baseline", "--data", "{market}", "--out", "run", "--extra", "people"],
            1,
            "expected NAME=PATH",
        ),
        (["train", "short-baseline", "--data", "{market}", "--out", "run", "--extra", "market1501=no"], 1, "no: "),
        (["trian"], 2, "train"),
        (["evaluate", "--data", "{market}", "--dataset", "market1502", "x.safetensors"], 1, "did you mean market1501"),
        (["convert", "caffe", "{market}", "out.safetensors"], 1, "expected a weight file"),
        (["convert", "caffe", "{market}", "out.txt"], 1, "out.txt: expected a file's name that ends in .safetensors"),
        (["embed", "{market}", "--out", "x.txt"], 1, "x.txt: expected a file's name that ends in .npz or .parquet;"),
        (["embed", "{market}", "--out", "x"], 1, "x: expected a file's name that ends in .npz or .parquet;"),
        (["engines", "none.onnx"], 1, "none.onnx: expected a weight file, found no such"),
        (["engines", "none.safetensors"], 1, "none.safetensors: expected a weight file, found no such"),
        (["embed-many", "{market}", "--out", "shards", "--workers", "0"], 2, "--workers"),
        (["evaluate", "--embeddings", "shards", "--workers", "0"], 2, "--workers"),
    ],
)
def test_mistakes_get_one_line_and_the_right_exit_code(words, status, expected, tiny_market, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = partalign(*(word.format(market=tiny_market) for word in words), expect=status)
    assert expected in run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr


def test_debug_shows_the_traceback():
    assert "Traceback" in partalign("evaluate", "none.safetensors", "--data", ".", "--debug", expect=1).stderr


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "pretrain-parts",
        "evaluate",
        "embed",
        "embed-many",
        "explain",
        "generate",
        "convert",
        "recipes",
        "demo",
        "bench",
    ],
)
def test_every_command_has_help_with_an_example(command):
    assert "Example: partalign " + command in partalign(command, "--help").stdout


def test_recipes_are_listed_with_their_titles():
    listed = partalign("recipes").stdout
    assert "short-trained" in listed
    assert "R-CPM" in listed


def test_a_reader_that_leaves_early_is_no_error():
    run = subprocess.run(
        f"{sys.executable} -m partalign recipes | head -n 1", shell=True, capture_output=True, text=True
    )
    assert run.returncode == 0
    assert "Traceback" not in run.stderr


def test_results_of_a_table_that_the_paper_does_not_have():
    assert "expected the number of a table, 1 to 7, found 9" in partalign("results", "9", expect=1).stderr
    assert "Table 4, cuhk01" in partalign("results", "4").stdout


def commands(group=app, words=("partalign",)):
    """Every command with its words; a group of commands is not one itself."""
    for name in [name for name in group if not name.startswith("-")]:
        command = group[name]
        if command.default_command is None:
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def test_every_parameter_of_every_command_is_explained():
    found = dict(commands())
    assert {"partalign train", "partalign evaluate", "partalign picture tsne"} <= found.keys()
    for words, command in found.items():
        assert f"Example: {words}" in command.help, words
        unexplained = [
            a.name for a in command.assemble_argument_collection(parse_docstring=True) if not a.parameter.help
        ]
        assert not unexplained, f"{words}: {unexplained}"


def test_ctrl_c_is_answered_in_one_line(tmp_path):
    """The file is a pipe that nobody writes to, so that the command is at work whenever the signal comes."""
    os.mkfifo(tmp_path / "wait.npz")
    run = subprocess.Popen(
        [sys.executable, "-m", "partalign", "evaluate", "--embeddings", str(tmp_path / "wait.npz")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with (tmp_path / "wait.npz").open("w"):  # returns when the command has opened it
        run.send_signal(signal.SIGINT)
        _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert told.startswith("partalign: stopped;")
    assert len(told.splitlines()) == 1

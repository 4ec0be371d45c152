"""Every command that takes --device refuses one that is not here in one line, before it has written anything."""

import shutil
import tomllib

import pytest
import torch

from partalign.cli import app, main
from partalign.model.network import NetworkSettings, build_network
from partalign.weights.checkpoint import save_checkpoint

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
"""
TRAINED = """
[batch]
persons = 4
crops = 4
[schedule]
iterations = 3
"""

WORDS = {
    "train": "train.toml --data {market} --out {out}/x",
    "pretrain-parts": "pose.toml --data . --keypoints joints.csv --out {out}/x",
    "evaluate": "light.safetensors --data {market} --json {out}/x",
    "embed": "light.safetensors {crop} --out {out}/x.npz",
    "embed-many": "light.safetensors {market} --out {out}/x",
    "study": "nonnegative --worlds 1 --out {out}/x",
    "explain": "light.safetensors {crop} {crop} --out {out}/x.png",
    "serve": "g --model light.safetensors --port 0",
    "gallery add": "{out}/x {crop} --model light.safetensors",
    "gallery search": "g {crop} --model light.safetensors --out {out}/x.png",
    "picture parts": "light.safetensors {crop} --out {out}/x.png",
    "picture tsne": "light.safetensors {crop} --out {out}/x.png",
    "picture ranks": "light.safetensors --data {market} --out {out}/x.png",
    "picture curves": "run --data {market} --out {out}/x.png",
}
"""What each command needs besides to get to work."""


def commands_with_device(group=app, words=()):
    for name in [name for name in group if not name.startswith("-")]:
        command = group[name]
        if command.default_command is None:
            yield from commands_with_device(command, (*words, name))
        elif any("--device" in argument.names for argument in command.assemble_argument_collection()):
            yield " ".join((*words, name))


def run(words):
    with pytest.raises(SystemExit) as left:
        main(words.split())
    return left.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_market):
    """A light model, a run's folder, a gallery, recipes and joints."""
    folder = tmp_path_factory.mktemp("devices")
    (folder / "run").mkdir()
    settings = NetworkSettings.model_validate(tomllib.loads(RECIPE)["network"])
    description = {"kind": "network", "network": settings.model_dump(mode="json")}
    for copy in ("light.safetensors", "run/model.safetensors"):
        save_checkpoint(folder / copy, build_network(settings).state_dict(), description)
    (folder / "train.toml").write_text(RECIPE + TRAINED)
    (folder / "pose.toml").write_text(RECIPE)
    crop = next((tiny_market / "Market-1501-v15.09.15/query").glob("*.jpg"))
    for person in range(4):
        shutil.copy(crop, folder / f"{person:04d}_c1s1_000000_01.jpg")
    ones = [1] * 18
    lines = [f"{person:04d}_c1s1_000000_01.jpg:{ones}:{ones}\n" for person in range(4)]
    (folder / "joints.csv").write_text("name:keypoints_y:keypoints_x\n" + "".join(lines))
    assert run(f"gallery add {folder / 'g'} {crop} --model {folder / 'light.safetensors'}") == 0
    return folder


def test_every_command_with_a_device_is_tried():
    assert set(commands_with_device()) == WORDS.keys()


@pytest.mark.parametrize("device", ["banana", "cuda:99", "cuda"])
@pytest.mark.parametrize("command", WORDS)
def test_a_device_that_is_not_here_is_refused(command, device, folder, tiny_market, tmp_path, monkeypatch, capsys):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("cuda is here")
    monkeypatch.chdir(folder)
    crop = next((tiny_market / "Market-1501-v15.09.15/query").glob("*.jpg"))
    words = WORDS[command].format(market=tiny_market, crop=crop, out=tmp_path)
    assert run(f"{command} {words} --device {device}") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("partalign: expected a device of this machine (cpu")
    assert f"found {device}: choose one of these" in said[0]
    assert not list(tmp_path.iterdir())

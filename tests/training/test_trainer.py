"""Training from crops on disk: it learns, it can be killed and resumed, chunks change nothing, collapse is said."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from partalign.datasets import load_dataset
from partalign.embedding import Embedder, evaluate
from partalign.errors import TrainingError, WeightsError
from partalign.model.input import network_input
from partalign.training.chunks import describe
from partalign.training.settings import TrainSettings, make_settings
from partalign.training.trainer import Trainer, train
from partalign.weights.checkpoint import load_model, read_checkpoint

LIGHT = {
    "network": {
        "appearance": "light", "parts": "light", "appearance_channels": 32, "part_channels": 8, "dimension": 64,
        "height": 64, "width": 32,
    },
    "batch": {"persons": 4, "crops": 4},
    "optimizer": {"rate": 0.05, "weight_decay": 5e-4, "clip": 5.0},
    "schedule": {"kind": "cosine", "iterations": 12, "warmup": 2},
    "augment": {"flip": 0.5, "crop": 2, "erase": 0.3, "color": 0.1},
    "save_every": 2,
}  # fmt: skip


def settings_with(**changes):
    values = json.loads(json.dumps(LIGHT))
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            values.setdefault(section, {})[name] = value
        else:
            values[section] = value
    return make_settings(TrainSettings, values, "test")


@pytest.fixture
def split(tiny_market):
    return load_dataset("market1501", tiny_market)


def weights_of(path):
    return read_checkpoint(path)[0]


def test_training_learns_and_leaves_a_model_that_scores_the_same_when_loaded(split, tmp_path):
    settings = settings_with(
        schedule__iterations=40, evaluate_every=20, loss__identity_weight=0.5, loss__identity_from=0.5
    )
    before = evaluate(Embedder(Trainer(settings, split.train).network), split)
    model, after = train(settings, split, tmp_path / "run")
    assert after.mAP > before.mAP + 0.1
    assert evaluate(Embedder(load_model(model)), split).as_dict() == after.as_dict()
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert [line["iteration"] for line in lines if "mAP" in line] == [20]
    description = read_checkpoint(model)[1]
    assert description["trained"]["schedule"]["iterations"] == 40
    assert description["results"]["mAP"] == pytest.approx(after.mAP)


def test_chunks_give_the_gradients_of_the_whole_batch(split):
    # Without batch normalisation the two are the same function; running it in evaluation mode takes it out.
    gradients = []
    for chunk in (None, 5):
        trainer = Trainer(settings_with(batch__chunk=chunk), split.train)
        trainer.network.eval()
        pictures = network_input(trainer.pictures.batch(trainer.sampler.batch(0)))
        labels = trainer.labels[torch.from_numpy(trainer.sampler.batch(0))]
        descriptors, backward = describe(trainer.network, trainer._chunks(pictures))
        _, gradient = trainer._losses(descriptors.detach(), labels, 0)
        backward(gradient)
        gradients.append([p.grad for p in trainer.network.parameters()])
    assert any(g.abs().max() > 1e-4 for g in gradients[0])
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, atol=2e-6, rtol=1e-3)


def test_chunks_move_running_statistics_once(split):
    trainer = Trainer(settings_with(batch__chunk=4), split.train)
    trainer.step(0)
    counts = {n: int(b) for n, b in trainer.network.named_buffers() if n.endswith("num_batches_tracked")}
    last = {f"{stream}.norm.num_batches_tracked" for stream in ("appearance", "parts")}
    assert {counts.pop(name) for name in last} == {1}, "the last normalisation sees the whole batch"
    assert set(counts.values()) == {4}, "16 crops in chunks of 4: four passes, not eight"
    whole = Trainer(settings_with(), split.train)
    whole.step(0)
    means = [
        torch.cat([b for n, b in t.network.named_buffers() if n.startswith("appearance.body.0") and n.endswith("mean")])
        for t in (trainer, whole)
    ]
    assert all(mean.abs().max() > 0 for mean in means)


def test_frozen_parameters_stay_and_added_layers_learn(split):
    trainer = Trainer(settings_with(freeze=["parts"]), split.train)
    before = {name: p.clone() for name, p in trainer.network.named_parameters()}
    for iteration in range(3):
        trainer.step(iteration)
    changed = {name for name, p in trainer.network.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in before if name.startswith("parts.") and name in changed} == {
        name for name in before if name.startswith(("parts.feature", "parts.norm"))
    }
    assert "appearance.body.0.0.weight" in changed
    with pytest.raises(TrainingError, match='starts with "partz"'):
        Trainer(settings_with(freeze=["partz"]), split.train)


def test_the_result_is_the_moving_average_of_the_weights(split):
    trainer = Trainer(settings_with(average=0.75), split.train)
    name = "appearance.feature.weight"
    mean = None
    for iteration in range(4):
        trainer.step(iteration)
        now = trainer.network.state_dict()[name].clone()
        mean = now if mean is None else 0.75 * mean + 0.25 * now
    torch.testing.assert_close(trainer.result.state_dict()[name], mean)
    assert not torch.equal(mean, now)
    plain = Trainer(settings_with(), split.train)
    assert plain.result is plain.network


def test_a_whole_network_is_taken_up_in_place_of_the_streams(split, tmp_path):
    model, _ = train(settings_with(schedule__iterations=2), split, tmp_path / "first")
    network = Trainer(settings_with(weights__network=str(model), weights__parts="nowhere"), split.train).network
    found, expected = network.state_dict(), weights_of(model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("loss", ["mean", "violating"])
def test_nan_and_collapse_are_said(split, loss, monkeypatch):
    trainer = Trainer(settings_with(loss__reduction=loss), split.train)
    with torch.no_grad():
        trainer.network.appearance.norm.weight.zero_()
    with pytest.raises(TrainingError, match="all descriptors are alike"):
        trainer.step(0)
    with torch.no_grad():
        trainer.network.appearance.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss is nan"):
        trainer.step(0)


def command(recipe, data, out, *more):
    return [
        *(sys.executable, "-m", "partalign", "train", str(recipe), "--data", str(data), "--out", str(out)),
        *more,
    ]


@pytest.fixture
def recipe(tmp_path):
    """The light settings as a recipe file, written section by section."""
    lines = ["save_every = 2", "average = 0.5"]
    for section, values in LIGHT.items():
        if isinstance(values, dict):
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path = tmp_path / "light.toml"
    path.write_text("\n".join(lines))
    return path


def test_killed_at_random_moments_it_ends_with_the_weights_of_an_undisturbed_run(recipe, tiny_market, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    undisturbed = command(recipe, tiny_market, tmp_path / "undisturbed", "--set", "schedule.iterations=30")
    subprocess.run(undisturbed, check=True, env=environment, capture_output=True)
    draw = random.Random(3)
    disturbed = command(recipe, tiny_market, tmp_path / "killed", "--set", "schedule.iterations=30", "--resume")
    log, last = tmp_path / "killed/log.jsonl", tmp_path / "killed/last.safetensors"
    kills, checkpoints = 0, set()
    while True:
        process = subprocess.Popen(disturbed, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # A random moment after a random number of iterations, whatever the speed of the machine.
        goal = (read_checkpoint(last)[1]["iteration"] if last.exists() else 0) + draw.randint(2, 10)
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < goal):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.1))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        checkpoints.add(read_checkpoint(last)[1]["iteration"] if last.exists() else 0)
    assert process.returncode == 0
    assert kills >= 3
    assert len(checkpoints) >= 2, "kills came at different places"
    expected = weights_of(tmp_path / "undisturbed/model.safetensors")
    found = weights_of(tmp_path / "killed/model.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    lines = [json.loads(line) for line in (tmp_path / "killed/log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, 31)), "every iteration is logged once"


def test_a_folder_with_another_run_is_refused(split, tmp_path):
    out = tmp_path / "run"
    train(settings_with(schedule__iterations=2), split, out)
    model = (out / "model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="add --resume"):
        train(settings_with(schedule__iterations=2), split, out)
    with pytest.raises(TrainingError, match=r"other settings \(loss.margin\)"):
        train(settings_with(schedule__iterations=2, loss__margin=0.3), split, out, resume=True)
    train(settings_with(schedule__iterations=2), split, out, resume=True)
    assert (out / "model.safetensors").read_bytes() == model


def test_a_run_that_cannot_start_leaves_its_folder_free(split, tmp_path):
    missing = settings_with(schedule__iterations=2, weights__parts=str(tmp_path / "parts.safetensors"))
    with pytest.raises(WeightsError, match=r"parts\.safetensors: no such file"):
        train(missing, split, tmp_path / "run")
    assert train(settings_with(schedule__iterations=2), split, tmp_path / "run")[0].exists()


def test_tensorboard_gets_what_the_log_gets(split, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(settings_with(schedule__iterations=3, tensorboard=True), split, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    logged = [json.loads(line)["loss"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(logged, abs=1e-5)

"""Processes that train together do what one process does."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from partalign.errors import TrainingError
from partalign.training.processes import Processes
from partalign.weights.checkpoint import read_checkpoint

RECIPE = """
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
crops = 3
[loss]
identity_weight = 0.5
identity_from = 0.3
[optimizer]
rate = 0.02
clip = 1.0
[schedule]
iterations = {iterations}
warmup = 2
[augment]
flip = 0.5
crop = 2
color = 0.1
erase = 0.5
"""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def command(recipe: Path, data: Path, out: Path, *more: str, processes: int = 1) -> list[str]:
    start = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"] if processes > 1 else []
    program = ["-m", "partalign", "train", str(recipe), "--data", str(data), "--out", str(out), *more]
    return [sys.executable, *start, *program]


def run(*arguments, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(command(*arguments, **options), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def recipe(folder: Path, iterations: int = 6, more: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(more + RECIPE.format(iterations=iterations))
    return path


def differences(a: Path, b: Path) -> float:
    one, other = (read_checkpoint(path / "model.safetensors")[0] for path in (a, b))
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def test_two_processes_with_half_the_batch_each_end_with_the_weights_of_one(tiny_market, tmp_path):
    run(recipe(tmp_path), tiny_market, tmp_path / "one")
    two = run(recipe(tmp_path), tiny_market, tmp_path / "two", processes=2)
    assert differences(tmp_path / "one", tmp_path / "two") < 2e-5
    assert two.stdout.count("model: ") == 1
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    for a, b in zip(*(map(json.loads, lines) for lines in logs), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
        assert a["identity"] == pytest.approx(b["identity"], abs=1e-3)


def test_training_goes_on_after_one_of_two_processes_was_killed(tiny_market, tmp_path):
    made = recipe(tmp_path, iterations=15, more="save_every = 3\n")
    run(made, tiny_market, tmp_path / "whole", processes=2)
    started = subprocess.Popen(
        command(made, tiny_market, tmp_path / "killed", processes=2), env=ENVIRONMENT, stderr=subprocess.PIPE
    )
    log = tmp_path / "killed" / "log.jsonl"
    while started.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 5):
        time.sleep(0.02)
    found = subprocess.run(["pgrep", "-f", f"partalign train .*{tmp_path}/killed"], capture_output=True, text=True)
    workers = [int(line) for line in found.stdout.split() if int(line) != started.pid]
    os.kill(random.Random(0).choice(workers), signal.SIGKILL)
    started.communicate()
    assert started.returncode != 0
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    run(made, tiny_market, tmp_path / "killed", "--resume", processes=2)
    assert differences(tmp_path / "whole", tmp_path / "killed") == 0


def test_shares_cover_the_batch_without_overlap():
    for total in range(1, 40):
        for count in range(1, 8):
            shares = [Processes(rank, count).share(total) for rank in range(count)]
            assert [row for share in shares for row in range(total)[share]] == list(range(total))
            sizes = [len(range(total)[share]) for share in shares]
            assert max(sizes) - min(sizes) <= 1


def test_alone_nothing_is_sent():
    alone, network = Processes(), nn.Sequential(nn.BatchNorm2d(2))
    values = torch.ones(3, 4)
    assert alone.gather(values, 3) is values
    alone.share_statistics(network)
    alone.sum_gradients(network.parameters())
    alone.wait()
    assert type(network[0]) is nn.BatchNorm2d


def test_more_processes_than_half_the_batch_are_refused(tiny_market, tmp_path):
    from partalign.datasets import load_dataset
    from partalign.training.settings import TrainSettings, read_recipe
    from partalign.training.trainer import Trainer

    settings = read_recipe(recipe(tmp_path), TrainSettings)
    with pytest.raises(TrainingError, match="at least two crops of a batch for each process, found 12 for 7"):
        Trainer(settings, load_dataset("market1501", tiny_market).train, processes=Processes(0, 7))

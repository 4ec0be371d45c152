"""Processes that train together do what one process does."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from partalign.datasets import load_dataset
from partalign.errors import TrainingError
from partalign.training.processes import Processes
from partalign.training.settings import TrainSettings, read_recipe
from partalign.training.trainer import Trainer, prepare_network
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
PARTALIGN = ("-m", "partalign")
RECORDED = (str(Path(__file__).resolve().parents[1] / "recorded_writes.py"),)


def command(
    recipe: Path, data: Path, out: Path, *more: str, processes: int = 1, program: tuple[str, ...] = PARTALIGN
) -> list[str]:
    start = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"] if processes > 1 else []
    words = ["train", str(recipe), "--data", str(data), "--out", str(out), *more]
    return [sys.executable, *start, *program, *words]


def run(*arguments, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(command(*arguments, **options), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def recorded_run(recipe: Path, data: Path, out: Path, **options) -> Counter[tuple[str, ...]]:
    """Train, and count for each (rank, event, file) how often that process did so."""
    record = out.with_suffix(".writes")
    environment = ENVIRONMENT | {"FOLDER": str(out), "RECORD": str(record)}
    words = command(recipe, data, out, program=RECORDED, **options)
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return Counter(tuple(line.split()) for line in record.read_text().splitlines())


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
    assert two.stdout.count("model: ") == 1  # said by the one that speaks for all
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    for a, b in zip(*(map(json.loads, lines) for lines in logs), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
        assert a["identity"] == pytest.approx(b["identity"], abs=1e-3)


def test_one_of_two_processes_writes_and_each_file_as_often_as_one_process_would(tiny_market, tmp_path):
    made = recipe(tmp_path, more="save_every = 2\n")
    one = recorded_run(made, tiny_market, tmp_path / "one")
    two = recorded_run(made, tiny_market, tmp_path / "two", processes=2)
    assert {rank for rank, *_ in two} == {"0"}
    named = {what: count for (_, event, what), count in two.items() if event == "os.rename"}
    assert named == {"settings.json": 1, "last.safetensors": 3, "model.safetensors": 1}
    assert {what: count for (_, event, what), count in one.items() if event == "os.rename"} == named
    # What is opened to be written is what takes its name afterwards, and the log.
    opened = [what for (_, event, what), count in two.items() if event == "open" for _ in range(count)]
    assert sorted(what for what in opened if not what.endswith(".partial")) == ["log.jsonl"]
    assert len(opened) == 1 + sum(named.values())


def test_the_papers_batch_is_the_same_step_for_one_process_and_for_two(tmp_path):
    """18 persons x 10 crops: all of them in one process, or 90 in each of two; one step, light streams."""
    root, draw = tmp_path / "Market-1501-v15.09.15", np.random.default_rng(0)
    for folder, persons, frames in (
        ("bounding_box_train", range(1, 19), range(10)),
        ("query", (19,), (0,)),
        ("bounding_box_test", (19, 20), (1,)),
    ):
        (root / folder).mkdir(parents=True)
        for person in persons:
            colour = np.random.default_rng(person).uniform(40, 200, (4, 1, 3))
            for frame in frames:
                pixels = np.repeat(colour, 16, axis=0) + draw.normal(0, 40, (64, 32, 3))
                picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                picture.save(root / folder / f"{person:04d}_c{1 + frame % 2}s1_{frame:06d}_01.jpg")
    changes = ("batch.persons=18", "batch.crops=10", "schedule.iterations=1", "schedule.warmup=0", "optimizer.clip=")
    made, more = recipe(tmp_path), [word for change in changes for word in ("--set", change)]
    for name, processes in (("one", 1), ("two", 2)):
        run(made, tmp_path, tmp_path / name, *more, processes=processes)
    end, other = (read_checkpoint(tmp_path / name / "model.safetensors")[0] for name in ("one", "two"))
    start = parameters_at_start(read_recipe(made, TrainSettings, changes))
    step, between = (torch.cat([(end[n] - w[n]).flatten() for n in start]).norm() for w in (start, other))
    # Sums in another order, as by two threads in one process, change this step by 0.5% as well: gradients before batch
    # normalisation are small differences.
    assert between < 0.02 * step
    assert differences(tmp_path / "one", tmp_path / "two") < 3e-5
    one, two = (json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0]) for name in ("one", "two"))
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    assert one["violating"] == pytest.approx(two["violating"], abs=1e-5)
    assert 0.1 < one["violating"] < 1


def parameters_at_start(settings: TrainSettings) -> dict[str, torch.Tensor]:
    torch.manual_seed(settings.seed)
    return {name: parameter.detach() for name, parameter in prepare_network(settings).named_parameters()}


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
    settings = read_recipe(recipe(tmp_path), TrainSettings)
    with pytest.raises(TrainingError, match="at least two crops of a batch for each process, found 12 for 7"):
        Trainer(settings, load_dataset("market1501", tiny_market).train, processes=Processes(0, 7))

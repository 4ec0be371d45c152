"""Jobs that are killed, stopped and begun again, on real processes and a real Ray: each readable crop exactly once."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.bulk import EmbedWorker, embed_many
from partalign.cli import app
from partalign.datasets.folder import find_crops
from partalign.embedding import Embedder
from partalign.engines import load_engine
from partalign.errors import ShardsError
from partalign.model.network import NetworkSettings, build_network
from partalign.shards.store import Shards, read_shards
from partalign.weights.checkpoint import save_checkpoint

CROPS, SIZE = 240, 6
DAMAGED = ("p03/c1_0007.jpg", "p11/c2_0001.jpg")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A light network, which describes a thousand crops in a second."""
    path = tmp_path_factory.mktemp("model") / "light.safetensors"
    torch.manual_seed(0)
    light = {"appearance": "light", "parts": "light", "appearance_channels": 32, "part_channels": 8, "dimension": 64}
    settings = NetworkSettings.model_validate({**light, "height": 64, "width": 32})
    save_checkpoint(path, build_network(settings).state_dict(), {"kind": "network", "network": settings.model_dump()})
    return path


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """A folder of 240 crops of 12 persons, two of which are damaged."""
    root = tmp_path_factory.mktemp("many") / "crops"
    draw = np.random.default_rng(0)
    for number in range(CROPS):
        path = root / f"p{number % 12:02}/c{number % 24 // 12 + 1}_{number // 24:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 16, 3), np.uint8)).resize((64, 128)).save(path)
    (root / DAMAGED[0]).write_bytes((root / DAMAGED[0]).read_bytes()[:300])
    (root / DAMAGED[1]).write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def once(crops, model, tmp_path_factory):
    """The descriptors of one process that nobody disturbs."""
    out = tmp_path_factory.mktemp("once") / "out"
    done = embed_many(crops, out, model, shard_size=SIZE)
    assert done == (CROPS - 2, 2, CROPS // SIZE)
    return read_shards(out)


def command(crops, model, out, *options, shard=SIZE) -> subprocess.Popen:
    return process(
        [sys.executable, "-m", "partalign", "embed-many", model, crops, "--out", out, "--shard", shard, *options]
    )


def process(words, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [*map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
        # Tests that a shell runs in the background are deaf to Ctrl-C, and so would be what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(what, process, patience=300):
    """Look again and again until `what()` is true; the process must still be at work."""
    end = time.monotonic() + patience
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)
    return found


def standing(out) -> list[Path]:
    return sorted((out / "shards").glob("*.parquet"))


def descendants(pid: int, name: str) -> list[int]:
    """Processes that this one started, and those that they started, whose command line holds `name`."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue

    def is_below(one: int) -> bool:
        while one in parents and one != pid:
            one = parents[one]
        return one == pid

    return [one for one, line in lines.items() if name in line and one != pid and is_below(one)]


def same(out, once) -> bool:
    """Whether a finished job has the descriptors of the undisturbed one, each crop once and in the same order."""
    found = read_shards(out)
    assert [crop.path for crop in found.crops] == [crop.path for crop in once.crops]
    assert len({crop.path for crop in found.crops}) == CROPS - len(DAMAGED)
    assert not list((out / "shards").glob(".*"))
    return np.allclose(found.vectors, once.vectors, rtol=0, atol=1e-6)


def named_corrupt(out, crops) -> set[str]:
    with (out / "corrupt.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["reason"] and Path(row["path"]).name in row["reason"] for row in rows)
    return {Path(row["path"]).relative_to(crops).as_posix() for row in rows}


def test_shards_hold_what_embedding_the_folder_gives(crops, model, once):
    readable = [crop for crop in find_crops([crops]) if crop.path.relative_to(crops).as_posix() not in DAMAGED]
    expected = Embedder(load_engine(model)).embed(readable)
    assert once.crops == expected.crops
    assert {(crop.person, crop.camera) for crop in once.crops} == {
        (f"p{i:02}", f"c{j}") for i in range(12) for j in (1, 2)
    }
    np.testing.assert_allclose(once.vectors, expected.vectors, rtol=0, atol=1e-6)


ON_RAY = """
import logging, sys
import ray
from partalign.cli import app

ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, logging_level=logging.ERROR)
ours = sys.argv.index("evaluate")
app(sys.argv[1:ours], result_action="return_value")
app(sys.argv[ours:], result_action="return_value")
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_a_ray_worker_is_killed_and_every_crop_is_there_once_and_ray_scores_them(crops, model, once, tmp_path):
    pytest.importorskip("ray")
    out, here = tmp_path / "out", ("--ray", "local", "--workers", "2")
    # Every crop is a query among the others, and among all once more as distractors: ties wherever one looks.
    score = ["evaluate", "--embeddings", out, "--dataset", "folder", "--data", crops, "--distractors", out]
    embed = ["embed-many", model, crops, "--out", out, "--shard", 2]
    words = [sys.executable, "-c", ON_RAY, *embed, *here, *score, *here, "--json", tmp_path / "ray.json"]
    with process(words, RAY_USAGE_STATS_ENABLED="0") as job:
        victim = wait_for(lambda: descendants(job.pid, "ray::MapWorker"), job)[0]
        wait_for(lambda: len(standing(out)) >= 2, job)
        os.kill(victim, signal.SIGKILL)
        left = CROPS // 2 - len(standing(out))
        printed, errors = job.communicate(timeout=300)
    assert left > 0, "the worker was killed too late to matter"
    assert job.returncode == 0, errors
    assert f"{CROPS - 2} descriptors in {CROPS // 2} shards" in printed
    assert "2 pictures cannot be read" in printed
    assert same(out, once)
    assert named_corrupt(out, crops) == set(DAMAGED)
    app([*map(str, score), "--json", str(tmp_path / "here.json")], result_action="return_value")
    assert (tmp_path / "ray.json").read_text() == (tmp_path / "here.json").read_text()
    assert f'"distractors": {CROPS - 2}' in (tmp_path / "here.json").read_text()


def test_a_killed_job_goes_on_and_ctrl_c_leaves_whole_shards(crops, model, once, tmp_path):
    """Shards of one crop, so that the job is not done before a busy machine comes to stop it."""
    out = tmp_path / "out"
    for number, how in enumerate((signal.SIGKILL, signal.SIGINT)):
        with command(crops, model, out, shard=1) as job:
            before = len(standing(out))
            wait_for(lambda before=before: len(standing(out)) > before + 2, job)
            job.send_signal(how)
            _, errors = job.communicate(timeout=300)
        assert job.returncode == (-signal.SIGKILL, 130)[number], errors
    halfway = standing(out)
    assert 0 < len(halfway) < CROPS
    with pytest.raises(ShardsError, match=r"shards are missing.*run the same"):
        read_shards(out)
    times = [path.stat().st_mtime_ns for path in halfway]
    embed_many(crops, out, model, shard_size=1)
    assert [path.stat().st_mtime_ns for path in halfway] == times  # what stood was not made again
    assert same(out, once)
    assert named_corrupt(out, crops) == set(DAMAGED)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_a_killed_process_among_several_is_told_in_a_line_and_the_job_goes_on(crops, model, once, tmp_path):
    out = tmp_path / "out"
    with command(crops, model, out, "--workers", 2, shard=1) as job:
        wait_for(lambda: len(standing(out)) >= 2, job)
        os.kill(wait_for(lambda: descendants(job.pid, "spawn_main"), job)[0], signal.SIGKILL)
        _, errors = job.communicate(timeout=300)
    assert job.returncode == 1
    assert "partalign: a worker ended by itself" in errors.splitlines()[-1]
    assert 0 < len(standing(out)) < CROPS
    embed_many(crops, out, model, shard_size=1)
    assert same(out, once)


def test_another_list_model_or_option_is_refused_in_one_line(crops, model, tmp_path, capsys):
    few = tmp_path / "few"
    for name in ("a.jpg", "b.jpg"):
        (few / name).parent.mkdir(exist_ok=True)
        (few / name).write_bytes((crops / "p00/c1_0000.jpg").read_bytes())
    (few / "elsewhere").symlink_to(crops)
    out = tmp_path / "out"
    how = {"shard_size": 2, "precision": "float32", "flip": False}
    assert embed_many(few, out, model, **how) == (2, 0, 1)
    assert "1 linked folders not followed: elsewhere" in capsys.readouterr().err
    for change in ({"shard_size": 1}, {"precision": "float16"}, {"flip": True}, {"engine": "torch-bf16"}):
        with pytest.raises(ShardsError, match=r"holds shards of another .*\(.*, now .*\).*choose another --out"):
            embed_many(few, out, model, **how | change)
    with pytest.raises(ShardsError, match="another model"):
        embed_many(few, out, None, **how)
    (few / "b.jpg").rename(few / "c.jpg")
    with pytest.raises(ShardsError, match="another list of crops: its SHA-256"):
        embed_many(few, out, model, **how)
    (few / "d.jpg").write_bytes((few / "a.jpg").read_bytes())
    with pytest.raises(ShardsError, match=r"the number of them \(2, now 3\)"):
        embed_many(few, out, model, **how)
    with pytest.raises(ShardsError, match="shards of one crop at least, found 0"):
        embed_many(few, out, model, shard_size=0)


def test_a_table_in_half_precision_with_files_that_are_not_there(crops, model, once, tmp_path):
    """A whole shard that cannot be read is one without descriptors, and no reason to stop."""
    table = crops / "some.csv"
    lines = [f"p00/c1_{i:04}.jpg,anna,lobby,{i}" for i in range(3)] + [f"p00/gone{i}.jpg,,," for i in range(5)]
    table.write_text("\n".join(["path,person,camera,time", *lines]))
    out = tmp_path / "out"
    assert embed_many(table, out, model, shard_size=2, precision="float16") == (3, 5, 4)
    found = read_shards(out)
    assert [(crop.person, crop.camera, crop.time) for crop in found.crops] == [("anna", "lobby", i) for i in range(3)]
    full = once.select([[crop.path for crop in once.crops].index(crop.path) for crop in found.crops])
    np.testing.assert_allclose(found.vectors, full.vectors, rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert len(named_corrupt(out, crops)) == 5
    assert [Shards.open(out).about(number).crops for number in range(4)] == [2, 1, 0, 0]


def test_workers_of_another_machine_say_what_they_lack(crops, model, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((crops / "p00/c1_0000.jpg").read_bytes())
    out = tmp_path / "out"
    embed_many(folder, out, model)
    standing(out)[0].unlink()
    with pytest.raises(ShardsError, match=r"expected version .*, found .*: give all machines the same"):
        EmbedWorker(out, Path(__file__).parents[1] / "src/partalign/models/googlenet-rcpm.safetensors")
    worker = EmbedWorker(out, model)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ShardsError, match="cannot be seen from this machine"):
        EmbedWorker(out, model)
    with pytest.raises(ShardsError, match="cannot be seen from this machine"):
        worker(0)  # else all of its crops would pass for corrupt
    assert not standing(out)

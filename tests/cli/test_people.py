import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from partalign.cli import main
from partalign.crops import Embeddings
from partalign.datasets.folder import find_crops
from partalign.images import read_batch
from video_files import WALL, crossing, walking, write_video


def people(*words, expect=0, folder=None):
    run = subprocess.run(
        [sys.executable, "-m", "partalign", "people", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    assert run.returncode == expect, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return run


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A video of two people in turn, and their boxes."""
    root = tmp_path_factory.mktemp("given")
    walks = (crossing(0), crossing(7))
    walking(root / "my lobby é.mp4", *walks, seconds=13)
    lines = [
        f"{number + 1},{name},{place[0]},{place[1]},24,48,1\n"
        for number in range(130)
        for name, walk in enumerate(walks, 1)
        if (place := walk(number / 10))
    ]
    (root / "boxes.txt").write_text("".join(lines))
    return root


def test_crops_table_sheet_and_counts(given, tmp_path):
    words = ["my lobby é.mp4", "--boxes", "boxes.txt", "--out", tmp_path / "out dir", "--start", "2026-11-23 08:00"]
    run = people(*words, "--json", tmp_path / "counts.json", folder=given)
    assert "my lobby é: 12.9 s, 61 frames looked at" in run.stdout
    assert "2 tracklets" in run.stdout
    crops = find_crops([tmp_path / "out dir"])
    assert {crop.tracklet for crop in crops} == {"my lobby é-1", "my lobby é-2"}
    assert 1_795_420_800 <= min(crop.time for crop in crops) < 1_795_420_802  # 2026-11-23 08:00 UTC
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert (counts[0]["tracklets"], counts[0]["crops"]) == (2, len(crops))
    with Image.open(tmp_path / "out dir/people.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"), int)
    left, right = pixels[:, : pixels.shape[1] // 2], pixels[:, pixels.shape[1] // 2 :]
    assert (left[..., 0] - left[..., 2] > 100).any()
    assert (right[..., 2] - right[..., 0] > 100).any()
    again = people(*words, folder=given)
    assert "done before" in again.stdout


def test_crops_of_earlier_calls_and_of_a_video_named_twice_are_counted_once(given, tmp_path):
    (tmp_path / "yard.mp4").write_bytes((given / "my lobby é.mp4").read_bytes())
    boxes, out = given / "boxes.txt", tmp_path / "out"
    people(given / "my lobby é.mp4", "--boxes", boxes, "--out", out)
    lobby = len(find_crops([out]))
    assert f"crops.csv: {2 * lobby} crops" in people(tmp_path / "yard.mp4", "--boxes", boxes, "--out", out).stdout
    twice = people(*2 * [tmp_path / "yard.mp4"], "--boxes", boxes, boxes, "--out", tmp_path / "twice")
    assert f"crops.csv: {lobby} crops" in twice.stdout


def test_every_crop_can_be_read_and_its_record_is_saved_with_its_descriptor(given, tmp_path):
    people(given / "my lobby é.mp4", "--boxes", given / "boxes.txt", "--out", tmp_path / "out")
    crops = find_crops([tmp_path / "out"])
    pixels = read_batch([crop.path for crop in crops], (16, 8))
    vectors = pixels.reshape(len(crops), -1) + np.float32(1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    Embeddings(vectors.astype(np.float32), crops).save(tmp_path / "x.npz")
    saved = Embeddings.load(tmp_path / "x.npz")
    assert [(c.camera, c.tracklet, c.time) for c in saved.crops] == [(c.camera, c.tracklet, c.time) for c in crops]


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["none.mp4"], 1, "none.mp4: expected a video or a folder of frames, no such file"),
        (["boxes.txt"], 1, "boxes.txt: expected a video"),
        ([], 1, "expected at least one video"),
        (["{video}", "--rate", "-5"], 1, "--rate: expected"),
        (["{video}", "--rows", "0"], 1, "--rows: expected"),
        (["{video}", "--start", "yesterday"], 1, "--start: expected a time such as"),
        (["{video}", "--boxes", "none.txt"], 1, "none.txt: expected boxes"),
        (["{video}", "{video}", "--boxes", "boxes.txt"], 1, "expected one file of boxes for each of 2 sources"),
        (["{video}", "--rate", "fast"], 2, "rate"),
    ],
)
def test_mistakes_get_one_line(given, tmp_path, words, status, expected, monkeypatch, capsys):
    monkeypatch.chdir(given)
    words = [word.format(video="my lobby é.mp4") for word in words]
    with pytest.raises(SystemExit) as left:
        main(["people", *words, "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert left.value.code == status
    assert expected in told
    assert len(told.strip().splitlines()) == 1


def test_nobody_found_is_one_line_and_a_failure(tmp_path):
    path = write_video(tmp_path / "empty.mp4", [WALL] * 12)
    run = people(path, "--out", tmp_path / "out", "--rows", "120", expect=1)
    assert "6 frames looked at (1 with movement), 0 boxes" in run.stdout
    assert "expected people, found nobody" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1

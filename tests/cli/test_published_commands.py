"""Every row of the paper's tables, from files in the official layout to figures, by the commands of `partalign results`
with a small network, one iteration and pictures of a few pixels in place of the real ones."""

import json
import shutil
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cuhk03_files import write_mat
from partalign.cli import main
from partalign.evaluation.published import published_results

SMALL = [
    "network.appearance=light",
    "network.appearance_channels=16",
    "network.dimension=32",
    "network.height=32",
    "network.width=16",
    "weights.appearance=",
    "weights.parts=",
    "weights.network=",
    "batch.persons=2",
    "batch.crops=2",
    "batch.chunk=",
    "schedule.iterations=1",
]
TWO_STREAMS = ["network.parts=light", "network.part_channels=8"]


def write_picture(path: Path, person: int) -> None:
    """Stripes in the person's colours, with noise that differs from picture to picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = np.random.default_rng(person).integers(0, 256, (4, 1, 3))
    noise = np.random.default_rng(zlib.crc32(path.name.encode())).normal(0, 10, (16, 8, 3))
    Image.fromarray((np.repeat(bands, 4, axis=0) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Five data sets and a folder of distractors, each as its authors unpack it, with a few persons."""
    root = tmp_path_factory.mktemp("world")
    parts = {
        "bounding_box_train": (range(1, 4), (0, 1)),
        "query": (range(5, 8), (0,)),
        "gt_bbox": (range(5, 8), (0, 1)),
    }
    parts["bounding_box_test"] = (range(5, 8), (1, 2))
    for part, (persons, frames) in parts.items():
        for person in persons:
            for camera in (1, 2):
                for frame in frames:
                    name = f"{person:04}_c{camera}s1_{frame:06}_00.jpg"
                    write_picture(root / "Market-1501-v15.09.15" / part / name, person)
                    if part != "gt_bbox":
                        write_picture(root / "DukeMTMC-reID" / part / f"{person:04}_c{camera}_f{frame:07}.jpg", person)
    for name in ("-1_c1s1_000003_00.jpg", "0000_c1s1_000004_00.jpg"):
        write_picture(root / "Market-1501-v15.09.15/bounding_box_test" / name, 99)
    for number in range(5):
        write_picture(root / f"distractors_500k/{number}.jpg", 100 + number)
    write_cuhk01(root / "campus")
    write_mat(root)
    write_mars(root)
    return root


def write_cuhk01(campus: Path) -> None:
    write_picture(campus / "0001001.png", 1)
    for person in range(1, 490):
        for number in range(1, 5):
            if (person, number) != (1, 1):
                shutil.copy(campus / "0001001.png", campus / f"{person:04}{number:03}.png")
    for person in range(2, 40):
        for number in range(1, 5):
            write_picture(campus / f"{person:04}{number:03}.png", person)


def write_mars(root: Path) -> None:
    (root / "info").mkdir()
    for part, persons in (("train", (1, 2, 3)), ("test", (5, 6, 7))):
        names, rows, tracklets = [], [], defaultdict(int)
        for person in persons:
            for camera in (1, 2, 2):
                tracklets[person] += 1
                first = len(names) + 1
                names += [f"{person:04}C{camera}T{tracklets[person]:04}F{frame:03}.jpg" for frame in (1, 2)]
                rows.append([first, first + 1, person, camera])
        for name in names:
            write_picture(root / f"bbox_{part}" / name[:4] / name, int(name[:4]))
        (root / f"info/{part}_name.txt").write_text("".join(f"{name}\n" for name in names))
        savemat(root / f"info/tracks_{part}_info.mat", {f"track_{part}_info": np.array(rows, float)})
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([[1.0, 4.0, 7.0]])})


def run(*words) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code == 0


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A function that trains a row's model by its printed command, once for all rows of a recipe."""
    runs = tmp_path_factory.mktemp("runs")

    def train(result) -> Path:
        folder = runs / result.recipe
        if not folder.exists():
            changes = SMALL + ([] if "baseline" in result.recipe else TWO_STREAMS)
            words = [word for change in changes for word in ("--set", change)]
            run(*in_place(result.train_command, world, runs), *words)
        return runs

    return train


def in_place(command: str, world: Path, runs: Path) -> list[str]:
    """A printed command's words after `partalign`, with real folders in place of its capitals."""
    places = {"DATA": str(world), "DISTRACTORS": str(world / "distractors_500k")}
    words = [places.get(word, word) for word in command.split()[1:]]
    return [str(runs / word.removeprefix("runs/")) if word.startswith("runs/") else word for word in words]


@pytest.mark.parametrize(
    "result",
    {r.evaluate_command: r for r in published_results()}.values(),
    ids=lambda r: "-".join(r.evaluate_command.split()[2:]).replace("/", "-"),
)
def test_the_commands_of_a_row_lead_from_files_to_figures(result, world, trained, tmp_path, capsys):
    runs, s = trained(result), result.setting
    files = ("--json", tmp_path / "scores.json", "--csv", tmp_path / "scores.csv")
    run(*in_place(result.evaluate_command, world, runs), *files)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert 0 < scores["mAP"] <= 1
    assert scores["dataset"] == s.dataset
    protocols = {"mars": "mars", "cuhk03": "single-shot", "cuhk01": "single-shot"}
    assert scores["protocol"] == protocols.get(s.dataset, "market1501")
    assert scores["trials"] == (100 if scores["protocol"] == "single-shot" else 1)
    assert scores["methods"] == ["multi-query"] * s.multi_query + ["re-ranked"] * s.rerank
    expected = {"market1501": (6, 14), "dukemtmc": (6, 12), "mars": (3, 9), "cuhk03": (200, 2)}
    if s.dataset in expected:
        assert (scores["counts"]["queries"], scores["counts"]["gallery"]) == expected[s.dataset]
    else:
        assert scores["counts"]["gallery"] == int(s.protocol)
    if s.distractors:
        assert [run["counts"]["gallery"] for run in scores["series"]] == [14, 19]
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[1].startswith(f"this run,{s.dataset},")
    if not s.distractors:
        assert any(f"Table {result.table}" in line for line in lines[2:])
    assert "rank-1" in capsys.readouterr().out

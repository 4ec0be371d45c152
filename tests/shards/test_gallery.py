"""Queries against galleries in shards get the figures of the same descriptors in one file, to the last digit."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from partalign import scoring
from partalign.crops import Embeddings
from partalign.datasets import distractors as distractor_crops
from partalign.errors import EvaluationError, ShardsError
from partalign.evaluation.protocols import MARKET1501
from partalign.scoring import read_saved, read_task
from partalign.shards.store import Shards, read_shards
from partalign.shards.workers import Workers


def vectors_of(crops, seed):
    """Unit descriptors that cluster by person; every fifth is that of its neighbour, so that there are ties."""
    draw = np.random.default_rng(seed)
    centres = {crop.person: np.random.default_rng(int(crop.person or 0) + 7).normal(size=16) for crop in crops}
    vectors = np.array([centres[crop.person] for crop in crops]) + 0.8 * draw.normal(size=(len(crops), 16))
    vectors[5::5] = vectors[4:-1:5]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def market(tiny_market, tmp_path_factory) -> Path:
    """The tiny Market-1501 with junk and distractors in its gallery."""
    root = tmp_path_factory.mktemp("market")
    shutil.copytree(tiny_market / "Market-1501-v15.09.15", root / "Market-1501-v15.09.15")
    gallery = root / "Market-1501-v15.09.15/bounding_box_test"
    some = next(gallery.iterdir())
    for number in range(9):
        shutil.copy(some, gallery / f"{'0000' if number % 3 else '-1'}_c1s1_{90 + number:06}_01.jpg")
    return root


@pytest.fixture
def crowd(tmp_path, monkeypatch) -> Path:
    """A folder of 23 distractors, scored with 5, 12 and all of them."""
    monkeypatch.setattr(distractor_crops, "SERIES", (0, 5, 12, 1000))
    folder = tmp_path / "crowd"
    for number in range(23):
        (folder / f"{number % 4}").mkdir(parents=True, exist_ok=True)
        (folder / f"{number % 4}/{number}.jpg").touch()
    return folder


@pytest.fixture
def in_shards(described, market, tmp_path) -> Shards:
    """All crops of the data set in shards of 7."""
    root = market / "Market-1501-v15.09.15"
    count = sum(1 for _ in root.rglob("*.jpg"))
    shards = described(root, tmp_path / "market", 7, vectors=np.eye(count, 16, dtype=np.float32) + 1e-3)
    for number in range(shards.manifest.shards):
        crops = shards.listed(number)
        shards.write(number, Embeddings(vectors_of(crops, number), crops), {})
    return shards


def same(report, expected):
    assert report.as_dict() == expected.as_dict()
    for (_, found), (_, wanted) in zip(report.runs, expected.runs, strict=True):
        assert all(map(np.array_equal, found.ranks, wanted.ranks))


@pytest.mark.parametrize("multi_query", [False, True])
def test_a_data_set_in_shards(in_shards, market, tmp_path, multi_query):
    file = tmp_path / "all.npz"
    read_shards(in_shards.folder).save(file)
    task = read_task("market1501", market)
    if multi_query:
        task = replace(task, split=replace(task.split, pool=task.split.train + task.split.query))
    expected_task, expected = read_saved(file, task, multi_query)
    found_task, found = read_saved(in_shards.folder, task, multi_query)
    assert len(found.gallery) < len(expected.gallery)  # strangers stay where they are
    report = found_task.score(found)
    same(report, expected_task.score(expected))
    counts = report.runs[0][1].counts
    assert (counts.gallery, counts.junk, counts.distractors) == (25, 3, 6)


def test_distractors_in_shards_with_some_that_cannot_be_read(in_shards, described, market, crowd, tmp_path):
    shards = described(crowd, tmp_path / "crowd-shards", 4, corrupt=(1, 9, 10, 11), seed=3)
    saved, others = read_shards(in_shards.folder), read_shards(shards.folder)
    task = read_task("market1501", market, distractors=crowd)
    kept = {crop.path for crop in others.crops}
    lacking = [crop for crop in task.split.gallery if crop.path.is_relative_to(crowd) and crop.path not in kept]
    assert len(lacking) == 4
    both = Embeddings(np.concatenate([saved.vectors, others.vectors]), saved.crops + others.crops)
    split = replace(task.split, gallery=tuple(crop for crop in task.split.gallery if crop not in lacking))
    expected = task.score(scoring.match_saved(both, split))
    file = tmp_path / "all.npz"
    saved.save(file)
    for embeddings in (in_shards.folder, file):
        found_task, found = read_saved(embeddings, read_task("market1501", market, distractors=shards.folder))
        report = found_task.score(found)
        same(report, expected)
        assert [setting.distractors for setting, _ in report.runs] == [0, 5, 12, 23]


def test_a_folder_of_distractors_that_are_in_the_same_shards(described, market, crowd, tmp_path):
    """The series is told by the order of the gallery, wherever its crops are."""
    shutil.copytree(market, tmp_path / "both/market")
    shutil.copytree(crowd, tmp_path / "both/crowd")
    shards = described(tmp_path / "both", tmp_path / "out", 6)
    task = read_task("market1501", tmp_path / "both/market", distractors=tmp_path / "both/crowd")
    file = tmp_path / "all.npz"
    read_shards(shards.folder).save(file)
    expected_task, expected = read_saved(file, task)
    found_task, found = read_saved(shards.folder, task)
    same(found_task.score(found), expected_task.score(expected))


def test_processes_count_the_same(in_shards, market):
    task, found = read_saved(in_shards.folder, read_task("market1501", market))
    same(task.score(found, workers=Workers(2)), task.score(found))


def test_what_needs_the_whole_gallery_reads_it(in_shards, market, tmp_path):
    file = tmp_path / "all.npz"
    read_shards(in_shards.folder).save(file)
    task = read_task("market1501", market)
    _, expected = read_saved(file, task)
    found_task, found = read_saved(in_shards.folder, task, whole=True)
    assert found_task.strangers == ()
    for how in ({"rerank": True}, {"expand": 2}, {"verification": True}):
        assert found_task.score(found, **how).as_dict() == task.score(expected, **how).as_dict()
    drawn, found = read_saved(in_shards.folder, read_task("market1501", market, protocol="single-shot"))
    assert drawn.strangers == ()
    assert len(found.gallery) == 25


def test_a_data_set_that_was_moved_is_found_by_folder_and_name(in_shards, market, tmp_path):
    shutil.copytree(market, tmp_path / "moved")
    _, found = read_saved(in_shards.folder, read_task("market1501", tmp_path / "moved"))
    _, expected = read_saved(in_shards.folder, read_task("market1501", market))
    assert np.array_equal(found.query.vectors, expected.query.vectors)
    assert np.array_equal(found.gallery.vectors, expected.gallery.vectors)


def test_crops_that_could_not_be_read_are_left_out_and_others_must_be_there(described, market, tmp_path, capsys):
    root = market / "Market-1501-v15.09.15"
    shards = described(root, tmp_path / "out", 7, corrupt=(2,))
    lost = shards.listed(0)[2].path
    task = read_task("market1501", market)
    _, found = read_saved(shards.folder, task)
    assert lost not in {crop.path for crop in found.gallery.crops}
    assert "1 of 33 crops of market1501 could not be read when they were embedded" in capsys.readouterr().err
    part = described(root / "query", tmp_path / "part", 7)
    with pytest.raises(EvaluationError, match="25 of 33 query and gallery crops of market1501 are not in its shards"):
        read_saved(part.folder, task)
    with pytest.raises(EvaluationError, match="name the data set"):
        read_saved(part.folder)


def test_what_cannot_be_compared_or_counted_is_refused(in_shards, described, market, crowd, tmp_path):
    other = described(crowd, tmp_path / "other", 4, version="def")
    mirrored = described(crowd, tmp_path / "mirrored", 4, flip=True)
    for folder in (other.folder, mirrored.folder):
        with pytest.raises(ShardsError, match="cannot be compared with those of version abc"):
            read_saved(in_shards.folder, read_task("market1501", market, distractors=folder))
    shards = described(crowd, tmp_path / "crowd-shards", 4)
    task, found = read_saved(in_shards.folder, read_task("market1501", market, distractors=shards.folder))
    with pytest.raises(EvaluationError, match="counted and not held"):
        task.score(found, rerank=True)
    with pytest.raises(EvaluationError, match="counted and not held"):
        task.score(found, center=True)
    with pytest.raises(EvaluationError, match="counted and not held"):
        replace(task, rules=replace(MARKET1501, tracklets="mean")).score(found)
    shards.path(2).unlink()
    with pytest.raises(ShardsError, match="shards are missing"):
        read_task("market1501", market, distractors=shards.folder)

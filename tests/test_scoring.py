import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from partalign.crops import Crop, Embeddings, Split
from partalign.errors import DatasetError, EvaluationError
from partalign.evaluation.evaluate import Descriptors, score
from partalign.evaluation.protocols import ALL_SHOTS, MARKET1501
from partalign.evaluation.published import Setting
from partalign.scoring import Task, read_saved, read_task


def described(crops, seed=0):
    """Descriptors that cluster by person."""
    rows = [np.random.default_rng([seed, int(crop.person or 0) % 97]).normal(size=8) for crop in crops]
    noise = np.random.default_rng(seed).normal(size=(len(crops), 8))
    vectors = np.array(rows) + 0.7 * noise
    return Embeddings((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), tuple(crops))


@pytest.fixture
def distractors(tmp_path) -> Path:
    folder = tmp_path / "distractors"
    folder.mkdir()
    for number in range(7):
        (folder / f"{number}.jpg").touch()
    return folder


def test_a_series_scores_the_gallery_alone_and_with_distractors(tiny_market, distractors, tmp_path):
    task = read_task("market1501", tiny_market, distractors=distractors)
    query, gallery = described(task.split.query), described(task.split.gallery, 1)
    report = task.score(Descriptors(query, gallery))
    base = len(read_task("market1501", tiny_market).split.gallery)
    assert [scores.counts.gallery for _, scores in report.runs] == [base, base + 7]
    for (_, scores), size in zip(report.runs, task.sizes, strict=True):
        alone = score(query, gallery.select(range(size)))
        assert scores.figures == alone.figures
    assert report.text().count("rank-1 ") == 2
    assert "with 7 distractors" in report.text()
    report.write(tmp_path / "a.json", tmp_path / "a.csv")
    content = json.loads((tmp_path / "a.json").read_text())
    assert [run["added_distractors"] for run in content["series"]] == [0, 7]
    assert content["mAP"] == content["series"][0]["mAP"]
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["distractors"] for row in rows if row["source"] == "this run"] == ["0", "7"]


def test_crops_that_were_skipped_leave_the_series_in_place(tiny_market, distractors):
    task = read_task("market1501", tiny_market, distractors=distractors)
    query, gallery = described(task.split.query), described(task.split.gallery, 1)
    kept = [row for row in range(len(gallery)) if row not in (0, 5, len(gallery) - 1)]
    runs = task.score(Descriptors(query, gallery.select(kept))).runs
    assert [scores.counts.gallery for _, scores in runs] == [task.sizes[0] - 2, task.sizes[1] - 3]
    assert [scores.counts.distractors for _, scores in runs] == [0, 6]


def test_rules_by_name_and_by_choice(tiny_market):
    task = read_task("market1501", tiny_market, protocol="all-shots")
    assert task.rules == ALL_SHOTS
    assert task.setting == Setting("market1501")
    assert task.with_rules("keep").rules == replace(ALL_SHOTS, same_camera="keep")
    assert read_task("market1501", tiny_market).with_rules().rules == MARKET1501
    with pytest.raises(DatasetError, match="market1501: expected no choice of protocol for this data set"):
        read_task("market1501", tiny_market, protocol="classic")


def test_methods_are_said(tiny_market):
    task = read_task("market1501", tiny_market)
    descriptors = Descriptors(
        described(task.split.query), described(task.split.gallery, 1), described(task.split.query, 2)
    )
    ((setting, scores),) = task.score(descriptors, center=True, rerank=True, expand=2).runs
    assert scores.methods == ("multi-query", "cameras centred", "queries expanded by 2", "re-ranked")
    assert (setting.multi_query, setting.rerank) == (True, True)
    assert "(multi-query, cameras centred, queries expanded by 2, re-ranked)" in scores.table()


def test_verification_reports_rates_and_probabilities(tiny_market, tmp_path):
    task = read_task("market1501", tiny_market)
    descriptors = Descriptors(described(task.split.query), described(task.split.gallery))
    report = task.score(descriptors, verification=True)
    assert "AUC" in report.text()
    report.write(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["verification"]["auc"] == pytest.approx(report.pairs.auc)
    assert content["calibration"]["slope"] > 0


def test_pairs_are_verified_with_cameras_centred_as_they_are_ranked(tiny_market):
    task = read_task("market1501", tiny_market)
    descriptors = Descriptors(described(task.split.query), described(task.split.gallery))
    pairs = task.score(descriptors, center=True, verification=True).pairs
    assert pairs.auc == task.score(descriptors.centered(), verification=True).pairs.auc
    assert pairs.auc != task.score(descriptors, verification=True).pairs.auc


def test_a_collapsed_model_has_no_calibration_and_says_so(tiny_market):
    task = read_task("market1501", tiny_market)
    same = [Embeddings(np.ones((len(c), 1), np.float32), c) for c in (task.split.query, task.split.gallery)]
    report = task.score(Descriptors(*same), verification=True)
    assert report.calibration is None
    assert "matching pairs are not more similar" in report.text()
    assert "calibration" not in report.as_dict()


def test_saved_descriptors_with_and_without_a_data_set(tiny_market, tmp_path):
    task = read_task("market1501", tiny_market)
    whole = described((*task.split.query, *task.split.gallery))
    whole.save(tmp_path / "bag.npz")
    found, descriptors = read_saved(tmp_path / "bag.npz", task)
    assert found is task
    assert descriptors.query.crops == task.split.query
    with pytest.raises(EvaluationError, match="does not say which rows are query and gallery"):
        read_saved(tmp_path / "bag.npz")
    sides = {"query": descriptors.query, "gallery": descriptors.gallery}
    arrays = {}
    for name, side in sides.items():
        arrays |= {
            f"{name}_f": side.vectors,
            f"{name}_label": np.array([int(crop.person) for crop in side.crops]),
            f"{name}_cam": np.array([int(crop.camera[1:]) for crop in side.crops]),
        }
    np.savez(tmp_path / "divided.npz", **arrays)
    own, foreign = read_saved(tmp_path / "divided.npz")
    assert own.score(foreign).runs[0][1].figures == pytest.approx(task.score(descriptors).runs[0][1].figures)
    with pytest.raises(EvaluationError, match="leave out --data"):
        read_saved(tmp_path / "divided.npz", task)


def test_single_camera_folder(tmp_path):
    crops = tuple(Crop(tmp_path / f"{i}.jpg", str(i // 3), "c1", f"t{i // 2}") for i in range(6))
    whole = described(crops)
    split = Split("folder", query=crops, gallery=crops)
    task = Task(split, MARKET1501, Setting("folder"), (6,))
    with pytest.raises(EvaluationError, match="use same_camera=keep or tracklet"):
        task.score(Descriptors(whole, whole))
    assert task.with_rules("keep").score(Descriptors(whole, whole)).runs[0][1].counts.scored == 6
    tracklets = task.with_rules("tracklet").score(Descriptors(whole, whole)).runs[0][1]
    assert tracklets.counts.scored == 6
    assert [len(ranks) for ranks in tracklets.ranks] == [1, 1, 2, 2, 1, 1]

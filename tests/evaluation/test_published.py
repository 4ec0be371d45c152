import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from partalign.crops import Crop, Embeddings
from partalign.evaluation.evaluate import score
from partalign.evaluation.published import Setting, csv_beside_paper, published_results
from partalign.training.settings import TrainSettings, read_recipe


@pytest.mark.parametrize("result", published_results(), ids=lambda r: f"{r.table}-{r.recipe}")
def test_every_row_has_a_recipe_of_its_data_set(result):
    settings = read_recipe(result.recipe, TrainSettings)
    wanted = (result.setting.dataset, result.setting.protocol, result.setting.boxes)
    assert (settings.dataset, settings.protocol, settings.boxes) == wanted
    # The recipes' titles repeat a figure of the row that they are named after.
    if not (result.setting.multi_query or result.setting.rerank or result.setting.distractors):
        assert f"{result.rank[0]}" in settings.title
        assert f"Table {result.table}" in settings.title or "Fig." in settings.title


def test_tables_are_complete_and_plausible():
    results = published_results()
    assert [sum(r.table == table for r in results) for table in range(1, 8)] == [3, 8, 3, 4, 3, 3, 6]
    for result in results:
        assert list(result.rank) == sorted(result.rank)
        assert all(60 < value <= 100 for value in result.rank)
        assert result.mean_ap is None or result.mean_ap < result.rank[0]


def test_commands_say_the_setting():
    commands = {r.evaluate_command for r in published_results()}
    assert len(commands) == len(published_results()) - 2  # the three sizes of Table 3 are one command
    model = "partalign evaluate runs/market1501-openpose-dilated/model.safetensors --dataset market1501 --data DATA"
    assert f"{model} --multi-query --rerank" in commands
    assert f"{model} --distractors DISTRACTORS" in commands
    assert any(c.endswith("--dataset cuhk03 --data DATA --protocol classic --boxes labeled") for c in commands)


def test_csv_has_the_papers_rows_of_the_same_setting_below_each_run():
    crops = tuple(Crop(Path(f"{i}.jpg"), str(i // 2), str(i % 2)) for i in range(4))
    vectors = Embeddings(np.array([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8]], np.float32), crops)
    scores = score(vectors, vectors)
    setting = Setting("dukemtmc")
    rows = list(
        csv.DictReader(io.StringIO(csv_beside_paper([(setting, scores), (replace(setting, rerank=True), scores)])))
    )
    assert [row["source"] for row in rows] == [
        "this run",
        "paper, Table 5: OpenPose",
        "paper, Table 5: OpenPose, dilation",
        "paper, Table 7: baseline",
        "paper, Table 7: non-negative part maps",
        "this run",
        "paper, Table 5: OpenPose, dilation",
    ]
    assert float(rows[0]["rank-1"]) == pytest.approx(100 * scores.rank(1), abs=0.006)
    assert rows[1]["rank-1"] == "82.1"
    assert rows[6]["mAP"] == "83.9"
    assert rows[0]["gallery"] == "4"
    assert {row["dataset"] for row in rows} == {"dukemtmc"}

from collections import Counter
from functools import partial

import numpy as np
import pytest

from partalign.benchmarks import ranking
from partalign.errors import BenchmarkError
from partalign.evaluation.evaluate import score

run = partial(ranking.run, 30, persons=8, gallery=(80, 20, 15), dimension=4, sample=10, rounds=1)


def test_runs_and_agrees():
    lines = run()
    assert [(line.what, line.against) for line in lines] == [
        ("score 10 x 115 x 4", "full sort, Python"),
        ("score 10 x 115 x 4", "full sort, scikit-learn"),
        ("score 30 x 115 x 4", "full sort, numpy"),
    ]
    assert all(line.difference < 1e-6 for line in lines)


def test_without_scikit_learn_its_line_is_left_out(monkeypatch):
    monkeypatch.setattr(ranking, "find_spec", lambda name: None)
    assert [line.against for line in run()] == ["full sort, Python", "full sort, numpy"]


def test_data_has_market_1501s_kinds_of_crops():
    query, gallery = ranking.data(30, 8, (80, 20, 15), 4)
    persons = Counter(crop.person for crop in gallery.crops)
    assert persons["0000"] == 20
    assert persons["-1"] == 15
    assert sum(persons.values()) == 115
    assert {crop.person for crop in query.crops} == set(persons) - {"0000", "-1"}
    # Neither all right nor all wrong, so that an error in the ranking shows.
    assert 0.1 < score(query, gallery).mAP < 0.9


@pytest.mark.parametrize("form", [ranking.in_python, ranking.in_sklearn, ranking.in_numpy])
def test_references_of_average_precision(form):
    # Matches at ranks 1, 3 and 6: (1 + 2/3 + 3/6) / 3.
    assert form(np.array([1, 0, 1, 0, 0, 1, 0], dtype=bool)) == pytest.approx(13 / 18)


@pytest.mark.parametrize("wrong", [{"ap": "trapezoidal"}, "junk counts"])
def test_a_wrong_scoring_is_not_timed(monkeypatch, wrong):
    def wrong_score(query, gallery):
        if wrong == "junk counts":
            kept = [row for row, crop in enumerate(gallery.crops) if crop.person != "-1"]
            return score(query, gallery.select(kept[: len(kept) // 2]))
        return score(query, gallery, **wrong)

    monkeypatch.setattr(ranking, "score", wrong_score)
    with pytest.raises(BenchmarkError, match="score 10 x 115 x 4"):
        run()

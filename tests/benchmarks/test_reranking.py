from functools import partial

import numpy as np
import pytest

from partalign.benchmarks import reranking
from partalign.errors import BenchmarkError

CASES = ((20, 6, (80, 20, 0), 1, 8.0), (8, 5, (40, 0, 0), 1, 12.0))
run = partial(reranking.run, CASES, dimension=16)


def test_runs_and_agrees():
    lines = run()
    assert [(line.what, line.against) for line in lines] == [
        ("re-rank 20 + 100", "dense"),
        ("re-rank 20 + 100", "products alone"),
        ("re-rank 8 + 40", "dense"),
        ("re-rank 8 + 40", "products alone"),
    ]
    assert [line.bar.speed for line in lines] == [8, None, 12, None]
    assert all(line.difference <= 2e-6 for line in lines if line.against == "dense")


def test_descriptors_have_exact_products_and_overlapping_clusters():
    query, gallery = reranking.features(20, 6, (80, 20, 0), 16)
    assert np.array_equal(query @ gallery.T, query.astype(np.float64) @ gallery.T.astype(np.float64))
    assert np.linalg.norm(gallery, axis=1) == pytest.approx(np.ones(100), abs=0.01)


def test_the_dense_form_on_a_case_worked_out_by_hand():
    # Places 0, 3, 10 on a line, k1 = 1: 0 and 3 are each other's nearest, 10 has 3 as its nearest, which has not 10.
    # Halved and rounded k1 is 0: nothing is added. The largest squared distances are 100 of 0 and 10, and 49 of 3.
    (found,) = reranking.dense(np.array([[0.0]]), np.array([[3.0], [10.0]]), k1=1, k2=1, weight=0.5)
    v0 = np.array([1, np.exp(-0.09)]) / (1 + np.exp(-0.09))
    v3 = np.array([np.exp(-9 / 49), 1]) / (1 + np.exp(-9 / 49))
    shared = np.minimum(v0, v3).sum()
    assert found == pytest.approx(np.array([[0.5 * 0.09 + 0.5 * (1 - shared / (2 - shared)), 0.5 * 1 + 0.5 * 1]]))


def test_the_dense_form_averages_over_k2_rows():
    rows = np.array([[3.0], [10.0]])
    (found,) = reranking.dense(np.array([[0.0]]), rows, k1=1, k2=2, weight=0.0)
    # The mean over 0 and 3 is the same for both of them.
    assert found[0, 0] == pytest.approx(0, abs=1e-6)
    assert 0 < found[0, 1] < 1


def test_equal_distances_are_ordered_by_row():
    order = reranking.ranked(np.array([[0, 2, 1, 2, 1]] * 5, dtype=np.float32))
    assert order.tolist() == [[0, 2, 4, 1, 3]] * 5


@pytest.mark.parametrize("wrong", [{"k1": 19}, {"k2": 5}, {"weight": 0.301}])
def test_a_wrong_re_ranking_is_not_timed(monkeypatch, wrong):
    monkeypatch.setattr(reranking, "reranked_blocks", partial(reranking.reranked_blocks, **wrong))
    with pytest.raises(BenchmarkError, match=r"re-rank 20 \+ 100: expected results that differ by at most 2e-06"):
        run()

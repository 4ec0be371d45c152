from functools import partial

import pytest
import torch

from partalign.benchmarks import loss
from partalign.errors import BenchmarkError
from partalign.training.triplet import all_triplet_loss

run = partial(loss.run, sizes=(20, 25), large=60, channels=16, rounds=1)


def test_runs_and_agrees_at_every_size():
    lines = run()
    assert [(line.what[-6:], line.against) for line in lines] == [
        *[("N = 20", "N x N x N"), ("N = 20", "N x K x N")],
        *[("N = 25", "N x N x N"), ("N = 25", "N x K x N")],
        ("N = 60", "anchor by anchor, value"),
    ]
    assert all(line.difference < 1e-5 for line in lines)
    assert [line.ratio is None for line in lines] == [False] * 4 + [True]


@pytest.mark.parametrize("form", [loss.cube, loss.gathered, lambda X, labels: loss.anchor_by_anchor(X, labels)[0]])
def test_references_are_the_sum_over_all_triplets(form):
    X, labels = loss.batch(13, 16)
    S = (X @ X.T).tolist()
    losses = [
        max(loss.MARGIN + S[q][n] - S[q][p], 0)
        for q in range(13)
        for p in range(13)
        for n in range(13)
        if p != q and labels[p] == labels[q] != labels[n]
    ]
    assert any(value > 0 for value in losses)
    assert any(value == 0 for value in losses)
    assert form(X, labels).item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def wrong_value(X, labels, margin):
    return all_triplet_loss(X, labels, margin * 1.01)


def wrong_gradient(X, labels, margin):
    result = all_triplet_loss(X, labels, margin)
    return result._replace(loss=1.01 * result.loss - 0.01 * result.loss.detach())


@pytest.mark.parametrize("wrong", [wrong_value, wrong_gradient])
def test_a_wrong_loss_is_not_timed(monkeypatch, wrong):
    monkeypatch.setattr(loss, "all_triplet_loss", wrong)
    with pytest.raises(BenchmarkError, match="both passes, N = 20"):
        run()


def test_the_large_batch_is_checked_too(monkeypatch):
    monkeypatch.setattr(loss, "all_triplet_loss", wrong_value)
    with pytest.raises(BenchmarkError, match="N = 60"):
        run(sizes=())


def test_batches_hold_crops_of_each_identity():
    X, labels = loss.batch(250, 8)
    assert labels.bincount().tolist() == [10] * 25
    torch.testing.assert_close(X.norm(dim=1), torch.ones(250))

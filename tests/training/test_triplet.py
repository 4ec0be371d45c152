"""The all-triplet loss against the plain sum over all triplets, in float64."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from partalign.errors import ShapeError
from partalign.training import triplet
from partalign.training.triplet import all_triplet_loss


def brute_force(X, labels, margin, reduction, comparison="similarity"):
    """Every triplet in one N x N x N tensor: value, violating triplets, all triplets."""
    close = X @ X.T if comparison == "similarity" else -(torch.cdist(X, X) ** 2)
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    valid = positive[:, :, None] & ~same[:, None, :]
    losses = (margin + close[:, None, :] - close[:, :, None]).clamp(min=0)[valid]
    violating, triplets = int((losses > 0).sum()), int(valid.sum())
    divisor = triplets if reduction == "mean" else violating
    return losses.sum() / max(divisor, 1), violating, triplets


@st.composite
def batches(draw):
    """Unit vectors from a coarse grid (so that similarities tie) and labels of uneven frequency."""
    count = draw(st.integers(1, 24))
    labels = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    grid = draw(st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=count, max_size=count))
    vectors = torch.tensor(grid, dtype=torch.float64) + torch.tensor([0.5, 0.0, 0.0, 0.0], dtype=torch.float64)
    return F.normalize(vectors), torch.tensor(labels)


@given(batches(), st.sampled_from(["mean", "violating"]), st.sampled_from([0.03, 0.2, 0.5]))
@settings(max_examples=200, deadline=None)
def test_value_and_gradient_equal_brute_force(batch, reduction, margin):
    X, labels = batch[0].clone().requires_grad_(), batch[1]
    fast = all_triplet_loss(X, labels, margin, reduction)
    fast.loss.backward()
    gradient, X.grad = X.grad, None
    slow = brute_force(X, labels, margin, reduction)
    slow[0].backward()
    assert (fast.violating, fast.triplets) == slow[1:]
    assert fast.loss.item() == pytest.approx(slow[0].item(), abs=1e-9)
    torch.testing.assert_close(gradient, X.grad, atol=1e-9, rtol=0)


def test_blocks_give_the_same_as_one_piece(monkeypatch):
    X = F.normalize(torch.randn(90, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    labels = torch.arange(90) % 13
    values = []
    for numbers in (1 << 20, 90 * 7, 1):
        monkeypatch.setattr(triplet, "BLOCK_NUMBERS", numbers)
        Y = X.clone().requires_grad_()
        loss = all_triplet_loss(Y, labels).loss
        loss.backward()
        values.append((loss.item(), Y.grad))
    for value, gradient in values[1:]:
        assert value == pytest.approx(values[0][0], abs=1e-12)
        torch.testing.assert_close(gradient, values[0][1], atol=1e-12, rtol=0)


def test_distances_on_unit_vectors_are_the_released_form():
    X = F.normalize(torch.randn(40, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    labels = torch.arange(40) // 5
    expected = brute_force(X, labels, 0.2, "violating", "distance")
    found = all_triplet_loss(X, labels, 0.2, "violating", "distance")
    assert found.loss.item() == pytest.approx(expected[0].item(), abs=1e-9)
    assert found.violating == expected[1]


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0], [0]])
def test_without_any_triplet_the_loss_is_zero(labels):
    X = F.normalize(torch.randn(len(labels), 4)).requires_grad_()
    result = all_triplet_loss(X, torch.tensor(labels))
    result.loss.backward()
    assert result == (0, 0, 0)
    assert not X.grad.any()


def test_well_separated_identities_cost_nothing_with_either_normalisation():
    X = torch.eye(4).repeat_interleave(3, dim=0).requires_grad_()
    for reduction in ("mean", "violating"):
        result = all_triplet_loss(X, torch.arange(12) // 3, reduction=reduction)
        assert result.loss.item() == 0
        assert result.triplets == 12 * 2 * 9


def test_the_papers_batch_has_the_papers_number_of_triplets():
    # Section 5: 180 crops, 18 identities with 10 crops each, about 3 x 10^5 triplets.
    X = F.normalize(torch.randn(180, 8))
    assert all_triplet_loss(X, torch.arange(180) // 10).triplets == 18 * 10 * 9 * 170


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"\(3, 4\) and \(2,\)"):
        all_triplet_loss(torch.zeros(3, 4), torch.zeros(2))


PROGRAM = """
import resource, torch
from partalign.training.triplet import all_triplet_loss
X = torch.nn.functional.normalize(torch.randn(4096, 512)).requires_grad_()
all_triplet_loss(X[:64], torch.arange(64) // 4).loss.backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
all_triplet_loss(X, torch.arange(4096) // 10).loss.backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_batch_of_4096_takes_a_fraction_of_its_similarity_matrix_times_positives():
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    # The N x N matrix alone is 64 MB, one number per (anchor, positive, negative) would be 600 MB.
    assert float(found.stdout) < 200, "MB beyond the descriptors"

"""The all-triplet loss against forms that hold every triplet.

References: one N x N x N tensor of losses (as in the authors' code), and N x K x N (each anchor's positives gathered
first, K of them), both differentiated by autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from partalign.benchmarks.measure import Bar, Comparison, alone, compare
from partalign.training.triplet import all_triplet_loss

MARGIN = 0.2
MEMBERS = 10  # crops of each identity, as in the paper's batches


def run(
    sizes: Sequence[int] = (180, 250), large: int = 4096, channels: int = 512, rounds: int = 7, threads: int = 1
) -> list[Comparison]:
    """Forward and backward pass at the batch sizes of the paper and of the authors' code, and of a `large` batch.

    Raises BenchmarkError where the forms do not agree.
    """
    lines = []
    for size in (*sizes, large):
        what, (X, labels) = f"both passes, N = {size}", batch(size, channels)
        ours = partial(both_passes, fast, X, labels)
        if size == large:
            value = partial(anchor_by_anchor, X, labels)
            bar = Bar(peak=200 * 2**20)
            lines.append(alone(what, "anchor by anchor, value", ours, value, threads=threads, bar=bar))
            continue
        for against, form in (("N x N x N", cube), ("N x K x N", gathered)):
            bar = Bar(speed=50) if size == 250 and form is cube else Bar()
            reference = partial(both_passes, form, X, labels)
            lines.append(compare(what, against, ours, reference, threads=threads, rounds=rounds, bar=bar))
    return lines


def batch(size: int, channels: int) -> tuple[Tensor, Tensor]:
    """Unit vectors (N, channels) in loose clusters, about half of their triplets violating; labels in random order."""
    draw = torch.Generator().manual_seed(0)
    labels = (torch.arange(size) // MEMBERS)[torch.randperm(size, generator=draw)]
    centres = torch.randn(size // MEMBERS + 1, channels, generator=draw)
    X = F.normalize(centres[labels] / 2 + torch.randn(size, channels, generator=draw))
    return X.requires_grad_(), labels


def fast(X: Tensor, labels: Tensor) -> Tensor:
    """Return the product's loss, the mean over all triplets."""
    return all_triplet_loss(X, labels, MARGIN).loss


def cube(X: Tensor, labels: Tensor) -> Tensor:
    """The loss of every triplet in one (N, N, N) tensor, those that are none masked out."""
    S = X @ X.T
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    mask = positive[:, :, None] & ~same[:, None, :]
    return ((MARGIN + S[:, None, :] - S[:, :, None]).clamp(min=0) * mask).sum() / mask.sum()


def gathered(X: Tensor, labels: Tensor) -> Tensor:
    """The same in (N, K, N): identities must be of one size, but for the last."""
    S = X @ X.T
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    K = int(positive.sum(1).max())
    there, rows = positive.to(torch.int8).topk(K, dim=1)
    mask = (there > 0)[:, :, None] & ~same[:, None, :]
    return ((MARGIN + S[:, None, :] - S.gather(1, rows)[:, :, None]).clamp(min=0) * mask).sum() / mask.sum()


@torch.no_grad()
def anchor_by_anchor(X: Tensor, labels: Tensor) -> tuple[Tensor]:
    """The value only, one (K, N) tensor at a time, summed in float64."""
    total, triplets = torch.zeros((), dtype=torch.float64), 0
    for anchor, similar in enumerate(X @ X.T):
        same = labels == labels[anchor]
        negative = similar[~same]
        same[anchor] = False
        losses = MARGIN + negative[None] - similar[same][:, None]
        total += losses.clamp(min=0).sum(dtype=torch.float64)
        triplets += losses.numel()
    return (total / max(triplets, 1),)


def both_passes(form: Callable[[Tensor, Tensor], Tensor], X: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Return the loss and its gradient (N, channels)."""
    loss = form(X, labels)
    return loss, *torch.autograd.grad(loss, X)

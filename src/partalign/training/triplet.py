"""The all-triplet loss (eq. 6-7): every (query, positive, negative) of the batch, exactly, without listing them.

For one anchor only the K thresholds s(q, p) - m are sorted; how many of them lie under s(q, n) is at once the number of
violating triplets of that negative and the gradient with respect to s(q, n). O(N^2 log K) time, O(N * block) memory.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from partalign.errors import ShapeError

Reduction = Literal["mean", "violating"]
Comparison = Literal["similarity", "distance"]

BLOCK_NUMBERS = 1 << 20
"""Similarities held at once: a block of anchors against the whole batch."""


class TripletLoss(NamedTuple):
    """loss: scalar, differentiable. violating: triplets with a positive loss. triplets: all there are in the batch."""

    loss: Tensor
    violating: int
    triplets: int


def all_triplet_loss(
    descriptors: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    reduction: Reduction = "mean",
    comparison: Comparison = "similarity",
) -> TripletLoss:
    """Sum max(m + s(q,n) - s(q,p), 0) over all triplets of the batch, divided by their number.

    descriptors: (N, D) float, of unit length. labels: (N,) integers.
    reduction: "mean" divides by the number of all triplets (eq. 7), "violating" by the number of those with a positive
    loss (the released code). comparison: "distance" puts squared Euclidean distances in place of similarities, which
    on unit vectors is twice the loss with half the margin. Without any triplet, or any violating one, the loss is 0.
    Raises ShapeError.
    """
    if descriptors.ndim != 2 or labels.shape != descriptors.shape[:1]:
        raise ShapeError(
            f"expected descriptors (N, D) and labels (N,), found {tuple(descriptors.shape)} and {tuple(labels.shape)}"
        )
    scale = 2.0 if comparison == "distance" else 1.0
    loss, counts = _AllTriplets.apply(descriptors, labels, margin / scale, reduction)  # type: ignore[misc]
    violating, triplets = counts
    return TripletLoss(loss * scale, violating, triplets)


class _AllTriplets(torch.autograd.Function):
    """The gradient with respect to the similarities comes out with the value, so it is folded into dX at once."""

    @staticmethod
    def forward(ctx, X: Tensor, labels: Tensor, margin: float, reduction: Reduction):  # type: ignore[override]
        partners = _positives(labels)
        gradient = torch.zeros_like(X) if ctx.needs_input_grad[0] else None
        total, violating = 0.0, 0
        rows = max(1, BLOCK_NUMBERS // max(len(X), 1))
        for start in range(0, len(X) if partners.shape[1] else 0, rows):
            block = slice(start, start + rows)
            value, count = _add_block(X, labels, margin, block, partners[block], gradient)
            total, violating = total + value, violating + count
        triplets = _count_triplets(labels)
        divisor = max(triplets if reduction == "mean" else violating, 1)
        if gradient is not None:
            ctx.save_for_backward(gradient.div_(divisor))
        return X.new_tensor(total / divisor), (violating, triplets)

    @staticmethod
    def backward(ctx, outer: Tensor, _):  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None, None


def _add_block(
    X: Tensor, labels: Tensor, margin: float, block: slice, partners: Tensor, gradient: Tensor | None
) -> tuple[float, int]:
    """Loss sum and violating triplets of a block of anchors; adds their share to `gradient` (N, D)."""
    S = X[block] @ X.T
    missing = partners < 0
    thresholds = S.gather(1, partners.clamp(min=0)).sub_(margin).masked_fill_(missing, torch.inf)
    thresholds, order = thresholds.sort(dim=1)
    partners = partners.gather(1, order)
    same = labels[block, None] == labels[None]
    below = torch.searchsorted(thresholds, S).masked_fill_(same, 0)  # positives that a negative violates
    histogram = S.new_zeros(len(S), thresholds.shape[1] + 1)
    histogram.scatter_add_(1, below, torch.ones((), dtype=S.dtype, device=S.device).expand_as(S))
    counts = histogram.flip(1).cumsum(1).flip(1)[:, 1:]  # negatives that violate a positive
    counts = counts.masked_fill(thresholds.isinf(), 0)
    G = below.to(S.dtype).scatter_add_(1, partners.clamp(min=0), -counts)
    violating = counts.sum(dtype=torch.float64)
    value = (G * S).sum(dtype=torch.float64) + margin * violating
    if gradient is not None:
        gradient[block] += G @ X
        gradient += G.T @ X[block]
    return float(value), int(violating)


def _positives(labels: Tensor) -> Tensor:
    """(N, K) rows of the other members of each row's identity, padded with -1."""
    order = labels.argsort(stable=True)
    _, sizes = labels[order].unique_consecutive(return_counts=True)
    largest = int(sizes.max()) if len(sizes) else 0
    starts = sizes.cumsum(0) - sizes
    slot = torch.arange(largest, device=labels.device)
    group = (starts[:, None] + slot).clamp(max=max(len(labels) - 1, 0))
    members = torch.where(slot < sizes[:, None], order[group], -1) if largest else group
    of_row = torch.empty_like(order)
    of_row[order] = torch.repeat_interleave(torch.arange(len(sizes), device=labels.device), sizes)
    rows = members[of_row]
    itself = rows == torch.arange(len(labels), device=labels.device)[:, None]
    # Everybody's row holds itself once: move it to the end of the row and cut it off.
    kept = itself.to(torch.int8).argsort(dim=1, stable=True)[:, : max(largest - 1, 0)]
    return rows.gather(1, kept)


def _count_triplets(labels: Tensor) -> int:
    sizes = labels.unique(return_counts=True)[1].double()
    return int((sizes * (sizes - 1) * (len(labels) - sizes)).sum())

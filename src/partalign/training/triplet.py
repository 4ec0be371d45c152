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
        partners, missing, sizes = _positives(labels)
        gradient = torch.zeros_like(X) if ctx.needs_input_grad[0] else None
        total, violating = 0.0, 0
        rows = max(1, BLOCK_NUMBERS // max(len(X), 1))
        for start in range(0, len(X), rows):
            block = slice(start, start + rows)
            value, count = _add_block(X, labels, margin, block, partners[block], missing[block], gradient)
            total, violating = total + value, violating + count
        triplets = int((sizes * (sizes - 1) * (len(X) - sizes)).sum())
        divisor = max(triplets if reduction == "mean" else violating, 1)
        if gradient is not None:
            ctx.save_for_backward(gradient.div_(divisor))
        return X.new_tensor(total / divisor), (violating, triplets)

    @staticmethod
    def backward(ctx, outer: Tensor, _):  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None, None


def _add_block(
    X: Tensor, labels: Tensor, margin: float, block: slice, partners: Tensor, missing: Tensor, gradient: Tensor | None
) -> tuple[float, int]:
    """Loss sum and violating triplets of a block of anchors; adds their share to `gradient` (N, D)."""
    S = X[block] @ X.T
    thresholds = S.gather(1, partners).sub_(margin).masked_fill_(missing, torch.inf)
    thresholds, order = thresholds.sort(dim=1)
    same = labels[block, None] == labels[None]
    below = torch.searchsorted(thresholds, S).masked_fill_(same, 0)  # positives that a negative violates
    one = torch.ones((), dtype=S.dtype, device=S.device)
    histogram = S.new_zeros(len(S), thresholds.shape[1] + 1).scatter_add_(1, below, one.expand_as(S))
    counts = histogram.flip(1).cumsum(1).flip(1)[:, 1:]  # negatives that violate a positive
    counts = counts.masked_fill(thresholds.isinf(), 0)
    G = below.to(S.dtype).scatter_add_(1, partners.gather(1, order), -counts)
    violating = counts.sum(dtype=torch.float64)
    value = (G * S).sum(1).sum(dtype=torch.float64) + margin * violating
    if gradient is not None and len(S) == len(X):
        gradient += (G + G.T) @ X  # the whole batch is one block: one product does for both sides
    elif gradient is not None:
        gradient[block] += G @ X
        gradient += G.T @ X[block]
    return float(value), int(violating)


def _positives(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, K) rows of each row's identity; (N, K) whether that is the row itself or padding; sizes of the identities."""
    _, group, sizes = labels.unique(return_inverse=True, return_counts=True)
    order = group.argsort(stable=True)
    first = sizes.cumsum(0) - sizes
    slot = torch.arange(int(sizes.max()) if len(sizes) else 0, device=labels.device)
    rows = order[(first[group, None] + slot).clamp_(max=len(labels) - 1)]
    itself = rows == torch.arange(len(labels), device=labels.device)[:, None]
    return rows, itself | (slot >= sizes[group, None]), sizes

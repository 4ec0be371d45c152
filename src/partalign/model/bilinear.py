"""Poolings: appearance maps and part maps -> one descriptor (section 3.2, eq. 3 and 4), and the baselines' poolings.

Every pooling takes `(appearance (B, C_a, H, W), parts (B, C_p, H, W) or None)` and returns (B, D), not normalised.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partalign.errors import ShapeError

Hashes = Literal["released"] | int


CHUNK = 16
"""Crops whose outer products are held at once in training: so few that they never leave the processor's cache."""


def outer_product_pool(appearance: Tensor, parts: Tensor) -> Tensor:
    """Average over the places of the outer products (eq. 3): (B, C_a, C_p). Raises ShapeError if the maps differ."""
    a, p = _places(appearance, parts)
    return torch.bmm(a, p.mT) / a.shape[2]


def _places(appearance: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) twice -> (B, C, H * W) twice."""
    if appearance.shape[0] != parts.shape[0] or appearance.shape[2:] != parts.shape[2:]:
        raise ShapeError(
            f"appearance maps {tuple(appearance.shape)} and part maps {tuple(parts.shape)} must agree in all but "
            "channels: give both streams the same dilation and a picture whose sides are multiples of their stride"
        )
    return appearance.flatten(2), parts.flatten(2)


class FullBilinear(nn.Module):
    """The whole outer product as descriptor: D = C_a * C_p (eq. 3)."""

    def __init__(self, appearance_channels: int, part_channels: int):
        super().__init__()
        self.channels = appearance_channels * part_channels

    def forward(self, appearance: Tensor, parts: Tensor) -> Tensor:  # noqa: D102
        with torch.autocast(appearance.device.type, enabled=False):
            return outer_product_pool(appearance.float(), parts.float()).flatten(1)


class CompactBilinear(nn.Module):
    """The outer product, sketched to D numbers whose inner products estimate the full ones (Gao et al. 2016).

    hashes: "released" for the hashes of the authors' code, or any seed. They are part of the model: descriptors made
    with other hashes cannot be compared, so they are saved with the weights.
    """

    h1: Tensor
    h2: Tensor
    s1: Tensor
    s2: Tensor
    bins: Tensor
    members: Tensor

    def __init__(self, appearance_channels: int, part_channels: int, dimension: int = 512, hashes: Hashes = "released"):
        super().__init__()
        self.channels = dimension
        drawn = draw_hashes(appearance_channels, part_channels, dimension, hashes)
        for name, values in zip(("h1", "s1", "h2", "s2"), drawn, strict=True):
            self.register_buffer(name, torch.from_numpy(values))
        for name in ("bins", "members"):
            self.register_buffer(name, torch.empty(0, dtype=torch.long), persistent=False)
        self.set_bins()
        self.register_load_state_dict_post_hook(lambda module, _: module.set_bins())

    def set_bins(self) -> None:
        """Derive the bin of every channel pair from the hashes, and the pairs of every bin.

        Pairs of negative sign go to a second row of bins. Bins with fewer pairs than others are filled up with a number
        behind the last pair's.
        """
        place = (self.h1[:, None] + self.h2[None]) % self.channels
        self.bins = torch.where(self.s1[:, None] * self.s2[None] < 0, place + self.channels, place)
        sizes = self.bins.flatten().bincount(minlength=2 * self.channels)
        pairs = self.bins.flatten().argsort(stable=True).split(sizes.tolist())
        self.members = nn.utils.rnn.pad_sequence(list(pairs), batch_first=True, padding_value=self.bins.numel())

    def forward(self, appearance: Tensor, parts: Tensor) -> Tensor:  # noqa: D102
        # Sums of thousands of products: always in float32.
        with torch.autocast(appearance.device.type, enabled=False):
            a, p = _places(appearance.float(), parts.float())
            if torch.compiler.is_exporting():
                return _gathered_sketch(a, p, self.members)
            return _SketchedPool.apply(a, p, self.bins, self.channels)  # type: ignore[no-any-return]


def draw_hashes(appearance_channels: int, part_channels: int, dimension: int, hashes: Hashes) -> list[np.ndarray]:
    """Return h1, s1 (C_a,) and h2, s2 (C_p,): bins in [0, D), and signs. The released ones have seeds 1, 3, 5, 7."""
    seeds = (1, 3, 5, 7) if hashes == "released" else tuple(4 * hashes + 11 + i for i in range(4))
    widths = (appearance_channels, appearance_channels, part_channels, part_channels)
    ranges = (dimension, 2, dimension, 2)
    drawn = [
        np.random.RandomState(seed).randint(top, size=width).astype(np.int64)
        for seed, width, top in zip(seeds, widths, ranges, strict=True)
    ]
    return [drawn[0], 2 * drawn[1] - 1, drawn[2], 2 * drawn[3] - 1]


def _sketch(a: Tensor, p: Tensor, bins: Tensor, dimension: int) -> Tensor:
    """Places (B, C_a, n) and (B, C_p, n) -> (B, D): one scatter into 2 D bins; the sign lives in the bin."""
    outer = torch.bmm(a, p.mT).flatten(1)
    both = outer.new_zeros(outer.shape[0], 2 * dimension).index_add(1, bins.flatten(), outer)
    return (both[:, :dimension] - both[:, dimension:]) / a.shape[2]


def _gathered_sketch(a: Tensor, p: Tensor, members: Tensor) -> Tensor:
    """`_sketch` for exported networks: every bin fetches its pairs.

    ONNX Runtime lets threads that add to one bin at the same time overwrite each other, and pieces would fix the batch.
    """
    outer = F.pad(torch.bmm(a, p.mT).flatten(1), (0, 1))  # the last, 0, is what bins are filled up with
    positive, negative = outer.index_select(1, members.flatten()).view(-1, *members.shape).sum(2).chunk(2, dim=1)
    return (positive - negative) / a.shape[2]


class _SketchedPool(torch.autograd.Function):
    """`_sketch` that keeps only the maps for the backward pass, and few outer products at a time in either pass."""

    @staticmethod
    def forward(ctx, a: Tensor, p: Tensor, bins: Tensor, dimension: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(a, p, bins)
        pieces = zip(a.split(CHUNK), p.split(CHUNK), strict=True)
        return torch.cat([_sketch(*piece, bins, dimension) for piece in pieces])

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        a, p, bins = ctx.saved_tensors
        gradient = gradient / a.shape[2]
        both = torch.cat((gradient, -gradient), dim=1)
        # In the maps' own memory layout: the layers before would otherwise rearrange them once more.
        grad_a, grad_p = (
            torch.empty_like(x) if needed else None for x, needed in zip((a, p), ctx.needs_input_grad, strict=False)
        )
        for start in range(0, len(a), CHUNK):
            rows = slice(start, start + CHUNK)
            outer = both[rows].index_select(1, bins.flatten()).view(-1, *bins.shape)
            if grad_a is not None:
                torch.bmm(outer, p[rows], out=grad_a[rows])
            if grad_p is not None:
                torch.bmm(outer.mT, a[rows], out=grad_p[rows])
        return grad_a, grad_p, None, None


class ConcatLinear(nn.Module):
    """Fig. 6c's other aggregation: both maps side by side, averaged over the places, one linear layer."""

    def __init__(self, appearance_channels: int, part_channels: int, dimension: int = 512):
        super().__init__()
        self.channels = dimension
        self.linear = _linear(appearance_channels + part_channels, dimension)

    def forward(self, appearance: Tensor, parts: Tensor) -> Tensor:  # noqa: D102
        return self.linear(torch.cat((appearance.mean((2, 3)), parts.mean((2, 3))), dim=1))


class AverageLinear(nn.Module):
    """The paper's baseline: appearance maps averaged over the whole picture, one linear layer (section 6.3)."""

    def __init__(self, appearance_channels: int, dimension: int = 512):
        super().__init__()
        self.channels = dimension
        self.linear = _linear(appearance_channels, dimension)

    def forward(self, appearance: Tensor, parts: Tensor | None = None) -> Tensor:  # noqa: ARG002, D102
        return self.linear(appearance.mean((2, 3)))


class StripeLinear(nn.Module):
    """Horizontal stripes in place of body parts: the average of each stripe, side by side, one linear layer."""

    def __init__(self, appearance_channels: int, stripes: int = 6, dimension: int = 512):
        super().__init__()
        self.channels, self.stripes = dimension, stripes
        self.linear = _linear(appearance_channels * stripes, dimension)

    def forward(self, appearance: Tensor, parts: Tensor | None = None) -> Tensor:  # noqa: ARG002, D102
        return self.linear(F.adaptive_avg_pool2d(appearance, (self.stripes, 1)).flatten(1))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear

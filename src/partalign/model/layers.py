"""Layers that keep less for the backward pass than torch's own, with the same values and gradients.

In training most memory goes into what layers keep. Torch's max pooling keeps its input and eight bytes for each output,
though that input, four times as large, is nothing that another layer needs; a formula keeps every step of its way.
Where no gradient is recorded, and for exporters, these are torch's plain operations.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_Window = tuple[int, int, int, bool]  # size, stride, padding, ceil mode


def max_pool(
    x: Tensor, window: int, stride: int, padding: int = 0, *, ceil_mode: bool = False, relu: bool = False
) -> Tensor:
    """(B, C, H, W) -> largest value of every window; relu: those below 0 are 0.

    Keeps two bytes (four for maps of 32,768 places and more) for each output, and the outputs where there is a ReLU.
    """
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_exporting():
        return _MaxPool.apply(x, (window, stride, padding, ceil_mode), relu)  # type: ignore[no-any-return]
    return F.max_pool2d(F.relu(x) if relu else x, window, stride, padding, ceil_mode=ceil_mode)


class _MaxPool(torch.autograd.Function):
    """The ReLU comes after the pooling, where there are fewer values: the largest is the same either way."""

    @staticmethod
    def forward(ctx, x: Tensor, window: _Window, relu: bool) -> Tensor:  # type: ignore[override]
        size, stride, padding, ceil_mode = window
        pooled, places = F.max_pool2d(x, size, stride, padding, ceil_mode=ceil_mode, return_indices=True)
        if relu:
            pooled.relu_()
        small = x.shape[2] * x.shape[3] <= torch.iinfo(torch.int16).max
        ctx.save_for_backward(places.to(torch.int16 if small else torch.int32), pooled if relu else None)
        ctx.window, ctx.shape = window, x.shape
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        places, pooled = ctx.saved_tensors
        if pooled is not None:
            gradient = torch.where(pooled > 0, gradient, 0)
        size, stride, padding, ceil_mode = ctx.window
        channels_last = gradient.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        # Only the shape and the layout of the input are looked at.
        x = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout)
        sides = [[side] * 2 for side in (size, stride, padding, 1)]
        back = torch.ops.aten.max_pool2d_with_indices_backward(gradient, x, *sides, ceil_mode, places.long())
        return back, None, None


def recomputed(layers: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `layers(x)`, keeping x only: the layers run again in the backward pass.

    All but the last one run again, as what it gives is needed by nobody: for cheap layers with large results before
    it. They must be functions of x alone: no dropout, no batch normalisation.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_exporting():
        return checkpoint(layers, x, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
    return layers(x)


def local_response_norm(x: Tensor, band: Tensor, one: Tensor) -> Tensor:
    """(B, C, H, W) -> x / t^0.75, where t is 1 + the sum over channels j of band[i, j] x_j^2.

    band: (C, C, 1, 1). one: (C,) ones. Keeps x.
    """
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_exporting():
        return _LocalResponseNorm.apply(x, band, one)  # type: ignore[no-any-return]
    return x / _three_quarters(F.conv2d(x * x, band, one))


class _LocalResponseNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, band: Tensor, one: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, band, one)
        return x / _three_quarters(F.conv2d(x * x, band, one))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        x, band, one = ctx.saved_tensors
        t = F.conv2d(x * x, band, one)
        direct = gradient / _three_quarters(t)
        through = F.conv2d(direct * x / t, band.transpose(0, 1))
        return direct.addcmul_(x, through, value=-1.5), None, None


def _three_quarters(t: Tensor) -> Tensor:
    """t to the power 0.75, by square roots, which every engine knows and computes fast."""
    root = t.sqrt()
    return root * root.sqrt()

"""A pooling split into its places: every pooling of ours is the sum of one vector for each place (eq. 3).

Those of the full outer product are long, and only their inner products are asked for (eq. 9), so places are held as
factors: the inner product of two places is the product, over the factors, of their rows' inner products.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partalign.errors import ExplanationError
from partalign.model.bilinear import AverageLinear, CompactBilinear, ConcatLinear, FullBilinear, StripeLinear

Factors = tuple[Tensor, ...]
"""Matrices (S, C_k) of the same S places: two, <a, a'> and <p, p'> of eq. 9, or the places' vectors themselves."""


def place_factors(pooling: nn.Module, appearance: Tensor, parts: Tensor | None) -> Factors:
    """Split a pooling into its places: one vector for each.

    appearance: (C_a, h, w); parts: (C_p, h, w) or None. Returns matrices (S, C_k) float64 on the CPU. The sum of the
    places' vectors is what the pooling returns; a linear layer's bias is shared out evenly. Raises ExplanationError for
    a pooling that is not ours.
    """
    height, width = appearance.shape[1:]
    count = height * width
    a, p = (None if maps is None else maps.double().cpu().flatten(1).T for maps in (appearance, parts))
    match pooling, a, p:
        case FullBilinear(), Tensor(), Tensor():
            return a / count, p
        case CompactBilinear(), Tensor(), Tensor():
            return (_sketches(pooling, a, p) / count,)
        case ConcatLinear(), Tensor(), Tensor():
            return (_linear(pooling.linear, torch.cat((a, p), dim=1)) / count,)
        case AverageLinear(), Tensor(), _:
            return (_linear(pooling.linear, a) / count,)
        case StripeLinear(), Tensor(), _:
            rows = torch.eye(height, dtype=torch.float64).view(height, 1, height, 1)
            shares = F.adaptive_avg_pool2d(rows, (pooling.stripes, 1)).view(height, 1, 1, -1) * height
            spread = a.reshape(height, width, -1, 1) * shares
            return (_linear(pooling.linear, spread.reshape(count, -1)) / count,)
    raise ExplanationError(
        f"expected a pooling that is a sum over places (compact, full, concat, average, stripes), found "
        f"{type(pooling).__name__}"
    )


def inner_products(a: Factors, b: Factors) -> Tensor:
    """Return the inner product of every place of A with every place of B, (S, S')."""
    return reduce(torch.mul, (x @ y.T for x, y in zip(a, b, strict=True)))


def to_unit_length(factors: Factors) -> Factors:
    """Scale the places so that their sum, the descriptor, has unit length (eq. 4)."""
    first, *others = factors
    length = inner_products(factors, factors).sum().clamp(min=0).sqrt()
    return first / length.clamp(min=1e-12), *others


def _sketches(pooling: CompactBilinear, a: Tensor, p: Tensor) -> Tensor:
    """(S, C_a), (S, C_p) -> (S, D): the sketch of every place's outer product (Pham and Pagh 2013).

    The convolution of the two count sketches, by FFT: without a sum over places first, that is the cheapest way.
    """
    spectra = []
    for values, bins, signs in ((a, pooling.h1, pooling.s1), (p, pooling.h2, pooling.s2)):
        counts = values.new_zeros(len(values), pooling.channels).index_add(1, bins.cpu(), values * signs.cpu())
        spectra.append(torch.fft.rfft(counts))
    return torch.fft.irfft(spectra[0] * spectra[1], n=pooling.channels)


def _linear(layer: nn.Linear, rows: Tensor) -> Tensor:
    return F.linear(rows, layer.weight.double().cpu(), layer.bias.double().cpu())

"""Compact bilinear pooling against the tensor sketch by FFT at every place, and against pooling without a sketch.

References: the authors' code (sketch matrices, complex FFT of both sketches at every place, inverse FFT at every
place, average); the same with direct sketches and the real FFT; and the plain batched product of the maps, which is
what any form has to do at least. All get the maps in the memory layout that the network produces (channels last).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from partalign.benchmarks.measure import Bar, Comparison, compare
from partalign.model.bilinear import CompactBilinear, outer_product_pool

Pool = Callable[[Tensor, Tensor], Tensor]

BARS = {
    (32, False, "complex FFT per place"): Bar(speed=8),
    (32, False, "plain product, no sketch"): Bar(speed=1 / 1.35),
    (180, True, "complex FFT per place"): Bar(speed=10, saving=6),
    (180, True, "plain product, no sketch"): Bar(speed=1 / 1.35),
}
"""By batch, backward pass or not, and reference."""


def run(
    cases: tuple[tuple[int, bool], ...] = ((1, False), (32, False), (180, True)),
    appearance: int = 512,
    parts: int = 128,
    places: tuple[int, int] = (20, 10),
    dimension: int = 512,
    rounds: int = 7,
    threads: int = 1,
) -> list[Comparison]:
    """Pool maps of (batch, with backward pass or without) at the size of the dilated network.

    Raises BenchmarkError where the forms do not agree.
    """
    pooling = CompactBilinear(appearance, parts, dimension)
    references: dict[str, tuple[Pool, float | None]] = {
        "complex FFT per place": (complex_fft(pooling), 1e-4),
        "real FFT per place": (real_fft(pooling), 1e-4),
        "plain product, no sketch": (lambda a, p: outer_product_pool(a, p).flatten(1), None),
    }
    lines = []
    for batch, backward in cases:
        A, P = maps(batch, (appearance, parts), places, backward)
        what = f"{'both passes' if backward else 'forward'}, B = {batch}"
        for against, (pool, tolerance) in references.items():
            lines.append(
                compare(
                    what,
                    against,
                    partial(run_once, pooling, A, P),
                    partial(run_once, pool, A, P),
                    tolerance=tolerance,
                    rounds=rounds,
                    threads=threads,
                    bar=BARS.get((batch, backward, against), Bar()),
                )
            )
    return lines


def maps(batch: int, channels: tuple[int, int], places: tuple[int, int], gradient: bool) -> tuple[Tensor, Tensor]:
    """Random appearance and part maps, (B, C, H, W), channels last."""
    draw = torch.Generator().manual_seed(0)
    a, p = (
        torch.randn(batch, count, *places, generator=draw).contiguous(memory_format=torch.channels_last)
        for count in channels
    )
    return a.requires_grad_(gradient), p.requires_grad_(gradient)


def complex_fft(pooling: CompactBilinear) -> Pool:
    """Return the authors' form with the hashes of `pooling`."""
    sketches = []
    for h, s in ((pooling.h1, pooling.s1), (pooling.h2, pooling.s2)):
        matrix = torch.zeros(len(h), pooling.channels)
        matrix[torch.arange(len(h)), h] = s.float()
        sketches.append(matrix)

    def pool(appearance: Tensor, parts: Tensor) -> Tensor:
        batch = len(appearance)
        rows = [x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) for x in (appearance, parts)]
        sketched = [x @ matrix for x, matrix in zip(rows, sketches, strict=True)]
        a, p = (torch.fft.fft(torch.complex(x, torch.zeros_like(x))) for x in sketched)
        real = a.real * p.real - a.imag * p.imag
        imaginary = a.real * p.imag + a.imag * p.real
        return torch.fft.ifft(torch.complex(real, imaginary)).real.view(batch, -1, pooling.channels).mean(1)

    return pool


def real_fft(pooling: CompactBilinear) -> Pool:
    """Return the leaner form that starts from direct sketches and uses that all numbers are real."""

    def sketch(x: Tensor, h: Tensor, s: Tensor) -> Tensor:
        x = x.flatten(2).mT
        return x.new_zeros(*x.shape[:2], pooling.channels).index_add(2, h, x * s)

    def pool(appearance: Tensor, parts: Tensor) -> Tensor:
        a = torch.fft.rfft(sketch(appearance, pooling.h1, pooling.s1))
        p = torch.fft.rfft(sketch(parts, pooling.h2, pooling.s2))
        return torch.fft.irfft(a * p, n=pooling.channels).mean(1)

    return pool


def run_once(pool: Pool, A: Tensor, P: Tensor) -> tuple[Tensor, ...]:
    """Return the pooled vectors (B, D), and the maps' gradients where the maps want them."""
    if not A.requires_grad:
        with torch.no_grad():
            return (pool(A, P),)
    pooled = pool(A, P)
    # Any gradient does; a ramp differs from bin to bin.
    ramp = torch.linspace(-1, 1, pooled.shape[1]).expand_as(pooled)
    return pooled, *torch.autograd.grad(pooled, (A, P), ramp)

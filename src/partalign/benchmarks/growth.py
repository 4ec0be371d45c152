"""How time and memory grow: with the crops of a batch, the identities in it, the size of the gallery.

The forms of `loss`, `sketch`, `network` and `ranking` at many sizes. A straightforward form that becomes too slow or
too large is left out from there on, and the fast form is measured alone, after smaller sizes have been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from partalign.benchmarks import loss, network, ranking, sketch
from partalign.benchmarks.measure import Comparison, Results, compare, once
from partalign.crops import Embeddings
from partalign.embedding import Embedder
from partalign.model.bilinear import CompactBilinear
from partalign.model.input import network_input
from partalign.training.triplet import all_triplet_loss


@dataclass(frozen=True)
class Growth:
    """One curve: what grows, the sizes, until which the reference takes part, and both forms made for a size."""

    what: str
    against: str
    axis: str
    sizes: Sequence[int]
    until: int
    forms: Callable[[int], tuple[Callable[[], Results], Callable[[], Results]]]
    tolerance: float = 1e-4


def run(rounds: int = 3, threads: int = 1, most: int | None = None) -> list[Comparison]:
    """Measure every curve, at sizes up to `most` where that is given. Raises BenchmarkError."""
    lines = []
    for curve in (losses(), identities(), sketches(), networks(), galleries()):
        for size in curve.sizes if most is None else [size for size in curve.sizes if size <= most]:
            ours, reference = curve.forms(size)
            if size <= curve.until:
                measured = partial(compare, tolerance=curve.tolerance, rounds=rounds, threads=threads)
                line = measured(curve.what, curve.against, ours, reference)
            else:
                line = once(curve.what, curve.against, ours, threads=threads)
            lines.append(replace(line, what=f"{curve.what}, {size:,}", axis=curve.axis, size=size))
    return lines


def losses() -> Growth:
    """The loss of batches with ten crops of each identity."""

    def forms(size: int):
        X, labels = loss.batch(size, 512)
        return partial(loss.both_passes, loss.fast, X, labels), partial(loss.both_passes, loss.cube, X, labels)

    sizes = (40, 80, 160, 320, 640, 1280, 2560, 5120)
    # In float32 one of millions of triplets may violate the margin in one form only; in float64 both agree to 1e-15.
    return Growth("loss, both passes", "N x N x N", "crops in a batch", sizes, 320, forms, tolerance=2e-3)


def identities() -> Growth:
    """The loss of 480 crops that belong to few or many identities."""

    def forms(size: int):
        draw = torch.Generator().manual_seed(0)
        X = torch.nn.functional.normalize(torch.randn(480, 512, generator=draw)).requires_grad_()
        labels = (torch.arange(480) % size)[torch.randperm(480, generator=draw)]

        def fast(X: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return all_triplet_loss(X, labels, loss.MARGIN).loss

        return partial(loss.both_passes, fast, X, labels), partial(loss.both_passes, loss.gathered, X, labels)

    return Growth(
        "loss of 480 crops", "N x K x N", "identities in a batch", (4, 8, 16, 32, 60, 120, 240), 240, forms, 2e-3
    )


def sketches() -> Growth:
    """The sketch of a batch, both passes."""
    pooling = CompactBilinear(512, 128)

    def forms(size: int):
        A, P = sketch.maps(size, (512, 128), (20, 10), gradient=True)
        return partial(sketch.run_once, pooling, A, P), partial(sketch.run_once, sketch.complex_fft(pooling), A, P)

    sizes = (1, 4, 16, 64, 180)
    return Growth("sketch, both passes", "complex FFT per place", "crops in a batch", sizes, 180, forms)


def networks() -> Growth:
    """Embedding a batch with GoogLeNet and R-CPM."""
    settings = network.PAIRS["R-CPM"]
    ours, plain = network.both_networks(settings)
    plain.eval()
    embedder = Embedder(ours)

    def forms(size: int):
        x = network.pictures(size, settings)
        reference = partial(network.descriptors, plain, network_input(x).contiguous())
        return partial(network.described, embedder, x), reference

    return Growth("network, R-CPM", network.AGAINST, "crops in a batch", (1, 2, 4, 8, 16, 32, 64), 64, forms)


def galleries() -> Growth:
    """Scoring 256 queries against galleries."""
    sizes = (2_000, 5_000, 20_000, 50_000, 100_000)
    query, rows = ranking.data(256, 200, (max(sizes) - 2_000, 1_000, 1_000), 512)

    def forms(size: int):
        part: Embeddings = rows.select(np.arange(size))
        return (
            partial(ranking.figures, query, part),
            partial(ranking.by_full_sort, query, part, ranking.in_numpy),
        )

    return Growth("scoring 256 queries", "full sort, numpy", "crops in the gallery", sizes, 20_000, forms)

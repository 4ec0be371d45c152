"""The network as the product runs it against the same network run plainly, and against what the machine can do.

Ours: `Embedder` (channels-last memory, our LRN, no gradient records) on pixels; on a GPU in half precision. Reference:
the same weights in torch's default memory layout (NCHW) with torch's own local response normalisation; and the roofline
of `benchmarks.roofline`. Weights are random: they change no time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from partalign.benchmarks.measure import Bar, Comparison, compare, torch_threads
from partalign.benchmarks.roofline import copies, count_convolutions, products
from partalign.embedding import Embedder
from partalign.engines.eager import NetworkEngine
from partalign.model.appearance import LocalResponseNorm
from partalign.model.input import network_input
from partalign.model.network import NetworkSettings, PartAlignedNetwork, build_network

PAIRS = {
    "OpenPose, dilated": NetworkSettings.model_validate({"dilation": True}),
    "R-CPM": NetworkSettings.model_validate({"parts": "rcpm"}),
}
AGAINST, OPERATIONS, BYTES = "NCHW, torch's LRN", "matrix products", "copies"


def run(
    pairs: dict[str, NetworkSettings] = PAIRS,
    batches: Sequence[int] = (1, 32),
    rounds: int = 3,
    threads: int = 2,
    device: str | None = None,
) -> list[Comparison]:
    """Embed batches; the last of them is also held against the roofline. Raises BenchmarkError.

    device: by default a GPU, where there is one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    name: Literal["torch", "torch-bf16"] = "torch" if device == "cpu" else "torch-bf16"
    tolerance = 1e-4 if device == "cpu" else 0.1
    lines = []
    for pair, settings in pairs.items():
        ours, plain = both_networks(settings)
        plain.eval().to(device)
        with torch_threads(threads):
            embedder = Embedder(NetworkEngine(ours, device, name))
        measured = partial(compare, rounds=rounds, threads=threads)
        for batch in batches:
            x = pictures(batch, settings)
            reference = partial(descriptors, plain, network_input(x).contiguous().to(device))
            bar = Bar(speed=1.4) if batch == 32 else Bar()
            work = partial(described, embedder, x)
            lines.append(measured(f"{pair}, batch {batch}", AGAINST, work, reference, tolerance=tolerance, bar=bar))
        lines += _against_ceilings(f"{pair}, batch {batches[-1]}", embedder, pictures(batches[-1], settings), measured)
    return lines


def _against_ceilings(
    what: str, embedder: Embedder, pixels: np.ndarray, measured: Callable[..., Comparison]
) -> list[Comparison]:
    """Compare an embedding with products of as many operations and copies of as many bytes as its convolutions."""
    device = str(embedder.device)
    dtype, bar = (torch.float32, Bar()) if device == "cpu" else (torch.bfloat16, Bar(speed=0.6))
    count = count_convolutions(embedder.network, network_input(pixels).to(device))
    work = partial(described, embedder, pixels)
    return [
        measured(what, OPERATIONS, work, products(count.operations, device, dtype), tolerance=None, bar=bar),
        measured(what, BYTES, work, copies(count.numbers * dtype.itemsize, device), tolerance=None),
    ]


def both_networks(settings: NetworkSettings) -> tuple[PartAlignedNetwork, PartAlignedNetwork]:
    """Return the network, and one of the same weights with torch's LRN in place of ours."""
    torch.manual_seed(0)
    ours = build_network(settings)
    return ours, with_torchs_lrn(ours)


def with_torchs_lrn(network: PartAlignedNetwork) -> PartAlignedNetwork:
    """Return a copy of a network with torch's LRN in place of ours."""
    plain = copy.deepcopy(network)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, LocalResponseNorm):
                setattr(module, name, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
    return plain


def pictures(batch: int, settings: NetworkSettings) -> np.ndarray:
    """Return random pixels (B, H, W, 3), uint8."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (batch, settings.height, settings.width, 3), dtype=np.uint8)


def described(embedder: Embedder, pixels: np.ndarray) -> tuple[np.ndarray]:
    """Return the descriptors (B, D) of pixels (B, H, W, 3)."""
    return (embedder(pixels),)


@torch.no_grad()
def descriptors(network: PartAlignedNetwork, x: Tensor) -> tuple[Tensor]:
    """Return (B, D) descriptors without recording gradients."""
    return (network(x).cpu(),)

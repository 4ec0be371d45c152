"""The network as the product runs it against the same network run plainly.

Ours: `Embedder` (channels-last memory, our LRN, no gradient records) on pixels; for training,
channels-last memory and our LRN. Reference: the same weights in torch's default memory layout (NCHW) with torch's own
local response normalisation. Weights are random: they change no time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from partalign.benchmarks.measure import Bar, Comparison, compare
from partalign.embedding import Embedder
from partalign.model.appearance import LocalResponseNorm
from partalign.model.input import network_input
from partalign.model.network import NetworkSettings, PartAlignedNetwork, build_network
from partalign.training.triplet import all_triplet_loss

PAIRS = {
    "OpenPose, dilated": NetworkSettings.model_validate({"dilation": True}),
    "R-CPM": NetworkSettings.model_validate({"parts": "rcpm"}),
}
AGAINST = "NCHW, torch's LRN"


def run(
    pairs: dict[str, NetworkSettings] = PAIRS,
    batches: Sequence[int] = (1, 32),
    train_batch: int = 4,
    rounds: int = 5,
    threads: int = 2,
) -> list[Comparison]:
    """Embed batches with `threads` threads; then training steps of the first pair with one. Raises BenchmarkError."""
    lines = []
    for name, settings in pairs.items():
        ours, plain = both_networks(settings)
        embedder = Embedder(ours)
        plain.eval()
        for batch in batches:
            x = pictures(batch, settings)
            lines.append(
                compare(
                    f"{name}, batch {batch}",
                    AGAINST,
                    partial(described, embedder, x),
                    partial(descriptors, plain, network_input(x).contiguous()),
                    rounds=rounds,
                    threads=threads,
                    bar=Bar(speed=1.4) if batch == 32 else Bar(),
                )
            )
    name, settings = next(iter(pairs.items()))
    ours, plain = both_networks(settings)
    x = network_input(pictures(train_batch, settings))
    training = compare(
        f"{name}, training step of {train_batch}",
        AGAINST,
        partial(training_step, ours.to(memory_format=torch.channels_last), x),  # type: ignore[call-overload]
        partial(training_step, plain, x.contiguous()),
        tolerance=1e-2,  # batch normalisation over so few crops enlarges the last bits of either
        rounds=min(rounds, 3),
    )
    return [*lines, training]


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
    return (network(x),)


def training_step(network: PartAlignedNetwork, x: Tensor) -> tuple[Tensor]:
    """Forward and backward pass of crops in pairs; returns the gradient of the first convolution."""
    network.zero_grad()
    # A margin that every triplet violates: the work is that of a step at the start of training.
    all_triplet_loss(network(x), torch.arange(len(x)) // 2, margin=2.0).loss.backward()
    return (next(network.parameters()).grad,)  # type: ignore[return-value]

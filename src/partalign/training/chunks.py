"""A batch that passes the network in chunks: the same descriptors and gradients in a fraction of the memory.

Every chunk passes the streams twice: once without a graph, to collect the maps of the whole batch before their batch
normalisation, and once more to take the maps' gradients back. In between normalisation, pooling and loss see all crops
at once. A stream with batch normalisation further inside (the light ones) uses the statistics of each chunk there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from partalign.model.network import PartAlignedNetwork


def describe(
    network: PartAlignedNetwork, chunks: Sequence[Tensor], mixed_precision: bool = False
) -> tuple[Tensor, Callable[[Tensor], None]]:
    """Return the descriptors (N, D) of all chunks, and the function that takes their gradient back to the weights.

    chunks: network input, (n, 3, H, W) each; a single one passes once, with its graph. mixed_precision: in bfloat16.
    """

    def precision() -> torch.autocast:
        return torch.autocast(chunks[0].device.type, torch.bfloat16, enabled=mixed_precision)

    if len(chunks) == 1:
        with precision():
            descriptors = network(chunks[0])
        return descriptors, descriptors.backward
    with precision(), torch.no_grad(), _still(network):
        features = zip(*(network.features(chunk) for chunk in chunks), strict=True)
        joined = [torch.cat(maps).requires_grad_() for maps in features]
    with precision():
        descriptors = network.join(*network.finish(joined))

    def backward(gradient: Tensor) -> None:
        descriptors.backward(gradient)
        sizes = [len(chunk) for chunk in chunks]
        gradients = zip(*(maps.grad.split(sizes) for maps in joined), strict=True)  # type: ignore[union-attr]
        for chunk, parts in zip(chunks, gradients, strict=True):
            with precision():
                again = network.features(chunk)
            learning = [(maps, part) for maps, part in zip(again, parts, strict=True) if maps.requires_grad]
            torch.autograd.backward([maps for maps, _ in learning], [part for _, part in learning])

    return descriptors, backward


@contextmanager
def _still(network: nn.Module) -> Iterator[None]:
    """Hold the running statistics: the second pass moves them, and twice would be once too often."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count

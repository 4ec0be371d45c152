"""A step of training against the same step written down straightforwardly.

Ours: what `Trainer` does with a batch, whole and in chunks. Reference: the formulas of both networks with torch's own
layers in its default memory layout, a tensor sketch by FFT at every place, the loss of every triplet in one tensor, and
autograd. Random weights and pixels; the work is that of a step at the start of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from partalign.benchmarks.loss import cube
from partalign.benchmarks.measure import Bar, Comparison, compare
from partalign.benchmarks.network import PAIRS, pictures
from partalign.benchmarks.sketch import Pool, complex_fft
from partalign.model.appearance import INCEPTIONS, GoogLeNet
from partalign.model.input import network_input
from partalign.model.network import NetworkSettings, PartAlignedNetwork, build_network
from partalign.model.parts import OpenPose
from partalign.training.chunks import describe
from partalign.training.triplet import all_triplet_loss

AGAINST = "straightforward"
SETTINGS = PAIRS["OpenPose, dilated"]
MEMBERS = 10
PAPER = 180
"""Crops in the paper's batch."""


def run(
    settings: NetworkSettings = SETTINGS,
    batches: Sequence[int] = (20,),
    chunk: int = 10,
    rounds: int = 2,
    threads: int = 1,
) -> list[Comparison]:
    """One step for each size of batch, at once and in chunks; settings: of GoogLeNet and OpenPose.

    Raises BenchmarkError where loss or gradients differ.
    """
    torch.manual_seed(0)
    network = build_network(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.manual_seed(0)
    plain = build_network(settings)
    pool = complex_fft(plain.pooling)  # type: ignore[arg-type]
    lines = []
    for batch in batches:
        x = network_input(pictures(batch, settings))
        labels = torch.arange(batch) // min(MEMBERS, batch // 2)
        reference = partial(straightforward_step, plain, pool, x.contiguous(), labels)
        for what, pieces, bar in (
            (f"training step, B = {batch}", 1, Bar(speed=1.15, saving=2)),
            (f"training step, B = {batch}, in chunks of {chunk}", -(-batch // chunk), Bar(saving=2)),
        ):
            # Of few crops weights, and memory that is freed and not given back, take more than what layers keep.
            bar = bar if batch >= PAPER else Bar()
            ours = partial(step, network, list(x.tensor_split(pieces)), labels)
            # Batch normalisation enlarges the last bits of either.
            lines.append(
                compare(what, AGAINST, ours, reference, tolerance=1e-2, rounds=rounds, threads=threads, bar=bar)
            )
    return lines


def long(rounds: int = 1, threads: int = 1, **options: Any) -> list[Comparison]:
    """Run with the paper's batch of 180 crops."""
    return run(batches=(PAPER,), chunk=30, rounds=rounds, threads=threads, **options)


def step(network: PartAlignedNetwork, chunks: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, ...]:
    """Return the loss and some gradients, as `Trainer.step` comes to them."""
    network.zero_grad()
    descriptors, backward = describe(network, chunks)
    leaf = descriptors.detach().requires_grad_()
    loss = all_triplet_loss(leaf, labels).loss
    loss.backward()
    backward(leaf.grad)  # type: ignore[arg-type]
    return loss.detach(), *_gradients(network)


def straightforward_step(network: PartAlignedNetwork, pool: Pool, x: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Return the same from formulas with torch's own layers, the whole batch at once."""
    network.zero_grad()
    appearance = googlenet(network.appearance, x)  # type: ignore[arg-type]
    parts = openpose(network.parts, x)  # type: ignore[arg-type]
    loss = cube(F.normalize(pool(appearance, parts)), labels)
    loss.backward()
    return loss.detach(), *_gradients(network)


def googlenet(net: GoogLeNet, x: Tensor) -> Tensor:
    """GoogLeNet's maps from its weights, with torch's own layers."""

    def inception(x: Tensor, module: Any) -> Tensor:
        three = module.three(F.relu(module.three_reduce(x)))
        five = module.five(F.relu(module.five_reduce(x)))
        pooled = module.pool_proj(F.max_pool2d(x, module.window, 1, module.window // 2))
        return F.relu(torch.cat((module.one(x), three, five, pooled), dim=1))

    x = F.max_pool2d(F.relu(net.conv1(x)), 3, 2, ceil_mode=True)
    x = F.relu(net.conv2_reduce(F.local_response_norm(x, 5, 1e-4, 0.75)))
    x = F.local_response_norm(F.relu(net.conv2(x)), 5, 1e-4, 0.75)
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    for name in list(INCEPTIONS)[: len(net.modules_in_order)]:
        if name in net.pooled_before:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = inception(x, net.get_submodule(f"inception_{name}"))
    return net.norm(net.feature(x))


def openpose(net: OpenPose, x: Tensor) -> Tensor:
    """OpenPose's part maps from its weights, with torch's own layers."""
    x = (x + net.mean) / 256 - 0.5
    for name in net.trunk:
        x = F.relu(net.get_submodule(name)(x))
        if name in ("conv1_2", "conv2_2", "conv3_4"):
            x = F.max_pool2d(x, 2)

    def stage(number: int, x: Tensor) -> list[Tensor]:
        ends = []
        for branch in ("L1", "L2"):
            *hidden, last = net.branches[number, branch]
            y = x
            for name in hidden:
                y = F.relu(net.get_submodule(name)(y))
            ends.append(net.get_submodule(last)(y))
        return ends

    maps = torch.cat((*stage(2, torch.cat((*stage(1, x), x), dim=1)), x), dim=1)
    return net.norm(net.feature(F.max_pool2d(maps, 2, ceil_mode=True) if net.pool else maps))


def _gradients(network: PartAlignedNetwork) -> list[Tensor]:
    """Of the first and the added layer of both streams."""
    names = ("appearance.conv1", "parts.conv1_1", "appearance.feature", "parts.feature")
    return [network.get_submodule(name).weight.grad for name in names]  # type: ignore[misc]

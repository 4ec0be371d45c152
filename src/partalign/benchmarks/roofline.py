"""How near the networks come to what the machine can do: the roofline of their convolutions.

Counts the operations that the convolutions of a network take and the bytes that they have to move at the least, and
makes matrix products of as many operations and copies of as many bytes: the ceilings, measured in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SIDE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices whose product is the ceiling."""


@dataclass(frozen=True)
class Work:
    """operations: additions and multiplications. numbers: inputs, weights and outputs, each counted once."""

    operations: int
    numbers: int


@torch.no_grad()
def count_convolutions(network: nn.Module, x: Tensor) -> Work:
    """Count the work of all 2-d convolutions that `network(x)` runs as layers."""
    operations = numbers = 0

    def count(module: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal operations, numbers
        operations += 2 * output.numel() * module.weight[0].numel()
        numbers += inputs[0].numel() + module.weight.numel() + output.numel()

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    handles = [layer.register_forward_hook(count) for layer in layers]  # type: ignore[arg-type]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    return Work(operations, numbers)


def products(operations: int, device: str, dtype: torch.dtype) -> Callable[[], tuple[Tensor, ...]]:
    """Return a step that multiplies matrices, with about so many operations."""
    side = SIDE[torch.device(device).type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    whole, rest = divmod(operations, 2 * side**3)
    rows = round(rest / (2 * side**2))

    def step() -> tuple[Tensor, ...]:
        for _ in range(whole):
            torch.mm(a, b, out=out)
        if rows:
            torch.mm(a[:rows], b, out=out[:rows])
        _wait_for(device)
        return ()

    return step


def copies(count: int, device: str) -> Callable[[], tuple[Tensor, ...]]:
    """Return a step that moves so many bytes: half of them are read, half are written."""
    piece = min(count // 2, 2**28)
    source = torch.ones(piece, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    whole, rest = divmod(count // 2, max(piece, 1))

    def step() -> tuple[Tensor, ...]:
        for _ in range(whole):
            target.copy_(source)
        target[:rest].copy_(source[:rest])
        _wait_for(device)
        return ()

    return step


def _wait_for(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()

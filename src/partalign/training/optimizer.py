"""Optimisers, rates per kind of parameter, and how the rates fall."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from partalign.training.settings import OptimizerSettings, ScheduleSettings


class CaffeSGD(torch.optim.Optimizer):
    """Momentum as Caffe has it: v = momentum v + rate (g + decay w); w -= v. A falling rate keeps its old steps."""

    def __init__(self, params, lr: float, momentum: float = 0.9, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]  # noqa: ARG002
        """Make one step; closures are not supported."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["velocity"] = torch.zeros_like(weight)
                step = weight.grad.add(weight, alpha=group["weight_decay"])
                state["velocity"].mul_(group["momentum"]).add_(step, alpha=group["lr"])
                weight.sub_(state["velocity"])


def make_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], is_new: Callable[[str], bool], settings: OptimizerSettings
) -> torch.optim.Optimizer:
    """Build the optimiser with one group for each of (new, pre-trained) x (bias, weight)."""
    s = settings
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups.setdefault((is_new(name), parameter.ndim == 1), []).append(parameter)
    listed = [
        {
            "params": members,
            "lr": (s.new_rate or s.rate if new else s.rate) * (s.bias_rate if bias else 1.0),
            "weight_decay": s.weight_decay if s.bias_decay or not bias else 0.0,
        }
        for (new, bias), members in sorted(groups.items())
    ]
    for group in listed:
        group["full_rate"] = group["lr"]
    match s.name:
        case "sgd":
            return torch.optim.SGD(listed, momentum=s.momentum)
        case "caffe-sgd":
            return CaffeSGD(listed, lr=s.rate, momentum=s.momentum)
        case "adam":
            return torch.optim.Adam(listed, betas=(s.momentum, 0.999))
        case _:
            return torch.optim.AdamW(listed, betas=(s.momentum, 0.999))


def rate_share(schedule: ScheduleSettings, iteration: int) -> float:
    """The share of the full rate that holds at `iteration` (0-based)."""
    warm = min(1.0, (iteration + 1) / schedule.warmup) if schedule.warmup else 1.0
    match schedule.kind:
        case "step":
            return warm / schedule.factor ** (iteration // schedule.every)
        case "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * iteration / schedule.iterations))
        case _:
            return warm


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Give every group its share of its full rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_rate"] * share


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything an optimiser remembers, as tensors named `parameter.kind`."""
    states = optimizer.state_dict()["state"]
    return {f"{i}.{kind}": value for i, state in states.items() for kind, value in state.items() if value is not None}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser the memory that `optimizer_state` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, kind = name.partition(".")
        state.setdefault(int(index), {})[kind] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

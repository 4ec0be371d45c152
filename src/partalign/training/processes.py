"""Several processes, on one machine or many, that train one network as a single process would.

Started by `torchrun`, on torch's own engine. Every process describes its share of each batch; the descriptors of all
meet in one loss, whose gradient flows back into the shares; batch normalisation counts all crops. So the weights are
those of one process with the whole batch, to float precision, and stay alike without being sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from partalign.errors import TrainingError
from partalign.model.device import checked_device

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, who may be evaluating."""


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and which of them this is. Alone, nothing is sent."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the run's files and evaluates."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Which of `total` crops are this process's: shares follow each other and differ by one crop at most."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def gather(self, own: Tensor, total: int) -> Tensor:
        """(n, ...) of each process's share -> (total, ...) of all, the same everywhere; without gradients."""
        if self.count == 1:
            return own
        full = own.new_zeros(total, *own.shape[1:])
        full[self.share(total)] = own
        distributed.all_reduce(full)
        return full

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the processes' gradients, each of its own crops."""
        if self.count > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            distributed.all_reduce(flat)
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.count > 1:
            distributed.barrier()

    def share_statistics(self, network: nn.Module) -> None:
        """Let the batch normalisation in `network` count the crops of all processes."""
        if self.count > 1:
            for module in list(network.modules()):
                for name, child in module.named_children():
                    if type(child) is nn.BatchNorm2d:
                        setattr(module, name, SharedBatchNorm.of(child))


ALONE = Processes()


def first_process() -> bool:
    """Whether this is the one of the processes that `torchrun` started that speaks for all."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the processes that `torchrun` started; yields them and the device that this one computes on.

    On GPUs ("cuda") every process takes the one of its place on its machine. Raises DeviceError where it has
    none, TrainingError where the others cannot be met.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE, device
        return
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if checked_device(device).type == "cuda":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"the {count} processes of this training cannot meet: {told}: start it with torchrun"
        ) from None
    try:
        yield Processes(distributed.get_rank(), count), device
    finally:
        distributed.destroy_process_group()


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the crops of all processes (torch's own needs GPUs). Plain in evaluation mode."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> SharedBatchNorm:
        """Take the place of `norm`, with its parameters and statistics."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        shared.weight, shared.bias = norm.weight, norm.bias
        shared._buffers = norm._buffers
        shared.training = norm.training
        return shared

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        if not self.training:
            return super().forward(input)
        maps = input
        values = maps.float()
        count = _Sum.apply(values.new_tensor([maps.numel() / self.num_features]))
        mean = _Sum.apply(values.sum((0, 2, 3))) / count
        variance = _Sum.apply((values - mean[:, None, None]).square().sum((0, 2, 3))) / count
        if self.running_mean is not None and self.running_var is not None:
            momentum = 0.0 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_((variance * count / (count - 1)).detach(), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        unit = (values - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            unit = unit * self.weight[:, None, None] + self.bias[:, None, None]
        return unit.to(maps.dtype)


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total

"""The training loop: batches in, weights out; stopped at any moment, it goes on as if nothing had happened.

Batches, augmentation and rates are functions of the iteration, so a checkpoint needs only tensors and one number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from partalign import progress
from partalign.crops import Crop, Split
from partalign.embedding import Embedder, OnError, evaluate
from partalign.errors import TrainingError, WeightsError
from partalign.evaluation.scores import Scores
from partalign.images import Pictures
from partalign.model.device import checked_device
from partalign.model.input import network_input
from partalign.model.network import PartAlignedNetwork, build_network
from partalign.training.augmentation import augment
from partalign.training.chunks import describe
from partalign.training.optimizer import (
    make_optimizer,
    optimizer_state,
    rate_share,
    restore_optimizer,
    set_rates,
)
from partalign.training.processes import ALONE, Processes, joined
from partalign.training.run import Run, under
from partalign.training.sampler import BalancedSampler, IdentitySampler, Sampler
from partalign.training.settings import TrainSettings
from partalign.training.triplet import all_triplet_loss
from partalign.weights.checkpoint import load_stream, load_strictly, read_checkpoint

ADDED_LAYERS = ("feature.", "norm.")
COLLAPSED_SIMILARITY = 0.9999

Prepare = Callable[[TrainSettings], PartAlignedNetwork]
"""Builds the network that training starts from; `prepare_network`, or an experiment's own."""


class IdentityHead(nn.Module):
    """BNNeck and a linear classifier over the training persons (Luo et al. 2019); thrown away after training."""

    def __init__(self, dimension: int, persons: int, smoothing: float):
        super().__init__()
        self.neck = nn.BatchNorm1d(dimension)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(dimension, persons, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)
        self.smoothing = smoothing

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """(N, D) descriptors and (N,) labels -> mean cross-entropy with smoothed labels."""
        return F.cross_entropy(self.classifier(self.neck(descriptors)), labels, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class Step:
    """What one iteration showed.

    loss: the triplet loss. violating: share of the triplets with a positive loss. similarity: mean of all pairs of
    descriptors, 1 where all are alike. identity: the identity loss (0 where there is none).
    """

    loss: float
    violating: float
    similarity: float
    identity: float = 0.0


class Trainer:
    """A network, its optimiser and its data. `step(i)` makes iteration i; nothing else depends on time or order.

    processes: those that train it together, each with its share of every batch.
    """

    def __init__(
        self,
        settings: TrainSettings,
        crops: Sequence[Crop],
        device: str = "cpu",
        on_error: OnError = "refuse",
        prepare: Prepare | None = None,
        processes: Processes = ALONE,
    ):
        self.settings, self.device, self.processes = settings, checked_device(device), processes
        if settings.batch.size < 2 * processes.count:
            raise TrainingError(
                f"expected at least two crops of a batch for each process, found {settings.batch.size} for "
                f"{processes.count}: start fewer processes or enlarge the batch"
            )
        torch.manual_seed(settings.seed)
        network = (prepare or prepare_network)(settings)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        processes.share_statistics(self.network)
        self.pictures = Pictures(crops, self.network.input_size, on_error=on_error)
        # A damaged crop is met now, not hours later.
        self.rows = self.pictures.readable
        persons, labels = np.unique([str(crops[row].person) for row in self.rows], return_inverse=True)
        self.labels = torch.from_numpy(labels).to(self.device)
        self.head = None
        if settings.loss.identity_weight:
            self.head = IdentityHead(self.network.channels, len(persons), settings.loss.smoothing).to(self.device)
        self.sampler = _make_sampler(settings, labels, [crops[row].camera for row in self.rows])
        self.optimizer = make_optimizer(
            self._named_parameters(), lambda name: _is_new(name, settings), settings.optimizer
        )
        self.network.train()
        self._averaged = None
        if settings.average:
            mean = get_ema_multi_avg_fn(settings.average)
            self._averaged = AveragedModel(self.network, multi_avg_fn=mean, use_buffers=True)

    @property
    def result(self) -> PartAlignedNetwork:
        """The network that training is for: the average over iterations, where one is taken, or the trained one."""
        return self.network if self._averaged is None else self._averaged.module  # type: ignore[return-value]

    def step(self, iteration: int) -> Step:
        """Make one iteration. Raises TrainingError where the loss is not a number or all descriptors are alike."""
        s = self.settings
        rows = self.sampler.batch(iteration)
        set_rates(self.optimizer, rate_share(s.schedule, iteration))
        own = self.processes.share(len(rows))
        pictures = network_input(self.pictures.batch(self.rows[rows[own]])).to(self.device)
        pictures = augment(pictures, s.augment, np.random.default_rng([s.seed, 4, iteration]), own, len(rows))
        self.optimizer.zero_grad(set_to_none=True)
        descriptors, backward = describe(self.network, self._chunks(pictures), s.mixed_precision)
        labels = self.labels[torch.from_numpy(rows).to(self.device)]
        step, gradient = self._losses(self.processes.gather(descriptors.detach(), len(rows)), labels, iteration)
        _refuse_collapse(step, iteration)
        backward(gradient[own])
        # The head has seen all descriptors: its gradients are whole already.
        self.processes.sum_gradients(self.network.parameters())
        if s.optimizer.clip is not None:
            nn.utils.clip_grad_norm_([p for _, p in self._named_parameters()], s.optimizer.clip)
        self.optimizer.step()
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)
        return step

    def state(self) -> dict[str, Tensor]:
        """All tensors that decide how training goes on, by name."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.head is not None:
            tensors |= {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        if self._averaged is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self._averaged.state_dict().items()}
        return tensors | {f"optimizer.{name}": tensor for name, tensor in optimizer_state(self.optimizer).items()}

    def restore(self, tensors: dict[str, Tensor], source: Path) -> None:
        """Take up the state that `state` gave. Raises WeightsError."""
        load_strictly(self.network, under("network.", tensors), source=source)
        if self.head is not None:
            load_strictly(self.head, under("head.", tensors), source=source)
        if self._averaged is not None:
            load_strictly(self._averaged, under("average.", tensors), source=source)
        restore_optimizer(self.optimizer, under("optimizer.", tensors))

    def _named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        named = list(self.network.named_parameters())
        return named if self.head is None else named + [(f"head.{n}", p) for n, p in self.head.named_parameters()]

    def _chunks(self, rows: Tensor) -> list[Tensor]:
        """Divide a process's share of a batch; all make the same number of chunks, since they wait for each other."""
        share, largest = -(-self.settings.batch.size // self.processes.count), self.settings.batch.chunk
        return list(rows.tensor_split(1 if largest is None else -(-share // largest)))

    def _losses(self, descriptors: Tensor, labels: Tensor, iteration: int) -> tuple[Step, Tensor]:
        """The loss of the batch and its gradient with respect to the descriptors; fills the head's gradients."""
        s = self.settings.loss
        leaf = descriptors.requires_grad_()
        triplet = all_triplet_loss(leaf, labels, s.margin, s.reduction, s.comparison)
        total, identity = triplet.loss, 0.0
        if self.head is not None and iteration >= s.identity_from * self.settings.schedule.iterations:
            cross_entropy = self.head(leaf, labels)
            total, identity = total + s.identity_weight * cross_entropy, float(cross_entropy.detach())
        total.backward()
        fixed = leaf.detach()
        similarity = 1 - float((fixed - fixed.mean(0)).square().sum(1).mean())
        share = triplet.violating / max(triplet.triplets, 1)
        return Step(float(triplet.loss.detach()), share, similarity, identity), leaf.grad  # type: ignore[return-value]


def prepare_network(settings: TrainSettings) -> PartAlignedNetwork:
    """Build the network, load the weights it starts from, freeze what the recipe freezes. Raises WeightsError."""
    network = build_network(settings.network)
    weights = settings.weights
    streams = {"appearance": weights.appearance, "parts": weights.parts}
    for name, path in streams.items() if weights.network is None else [("network", weights.network)]:
        if path is not None and not path.exists():
            raise WeightsError(
                f"{path}: no such file; the recipe starts from it: make it with `partalign convert` or `partalign "
                f"pretrain-parts`, or name another with --set weights.{name}=FILE"
            )
    if weights.network is not None:
        load_strictly(network, read_checkpoint(weights.network)[0], source=weights.network)
    else:
        for stream, path in ((network.appearance, weights.appearance), (network.parts, weights.parts)):
            if path is not None and stream is not None:
                load_stream(stream, path)
    freeze(network, settings.freeze)
    return network


def freeze(network: PartAlignedNetwork, prefixes: Sequence[str]) -> None:
    """Keep the parameters that start with a prefix as they are; added layers always learn. Raises TrainingError."""
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            tops = sorted({".".join(name.split(".")[:2]) for name in names})
            raise TrainingError(f'freeze: no parameter starts with "{prefix}"; known are {", ".join(tops)}')
    for name, parameter in network.named_parameters():
        added = name.split(".", 1)[1].startswith(ADDED_LAYERS)
        parameter.requires_grad_(added or not name.startswith(tuple(prefixes)) if prefixes else True)


def train(
    settings: TrainSettings,
    split: Split,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    on_error: OnError = "refuse",
    prepare: Prepare = prepare_network,
) -> tuple[Path, Scores | None]:
    """Train on `split.train`, writing checkpoints, a log and at the end `model.safetensors` into `out`.

    on_error: whether a crop that cannot be read stops the work ("refuse") or is named and left out ("skip").
    prepare: builds the network and loads what it starts from, once the random generator is seeded.
    Started by `torchrun`, processes train together; the first one writes and evaluates.
    Returns the model's path and its scores on the split's query and gallery (None where there are none, and in other
    processes than the first).
    Raises TrainingError, PictureError, WeightsError, DeviceError, SaveError; what was saved before stays.
    """
    with joined(device) as (processes, device):
        run = Run(out, settings, resume=resume, writes=processes.first)
        processes.wait()  # before the first one claims the folder
        trainer = Trainer(settings, split.train, device, on_error, prepare, processes)
        _go_on(run, trainer, split)
        scores = _evaluate(trainer, split) if processes.first else None
        model = run.finish(trainer.result, scores)
        processes.wait()  # for the model to be there
        return model, scores


def _go_on(run: Run, trainer: Trainer, split: Split) -> None:
    """Make the iterations that a run still lacks."""
    settings, writes = trainer.settings, trainer.processes.first
    total, first = settings.schedule.iterations, run.restore(trainer)
    with progress.bar("training", total, completed=first) as advance, run:
        for iteration in range(first, total):
            began = time.perf_counter()
            step = trainer.step(iteration)
            speed = settings.batch.size / (time.perf_counter() - began)
            run.log(iteration + 1, **asdict(step), speed=speed)
            advance(1, f"loss {step.loss:.4f}  violating {step.violating:.1%}  {speed:.0f} images/s")
            done = iteration + 1
            if writes and settings.evaluate_every and done % settings.evaluate_every == 0 and done < total:
                run.log_scores(done, _evaluate(trainer, split))
            if done % settings.save_every == 0 or done == total:
                run.save(trainer, done)


def _evaluate(trainer: Trainer, split: Split) -> Scores | None:
    """Scores on the split's query and gallery; None where one of them is empty. Leaves the network training."""
    if not split.query or not split.gallery:
        return None
    scores = evaluate(Embedder(trainer.result, device=trainer.device, on_error=trainer.pictures.on_error), split)
    trainer.result.train()
    return scores


def _make_sampler(settings: TrainSettings, labels: np.ndarray, cameras: Sequence[str | None]) -> Sampler:
    b = settings.batch
    if b.sampler == "identities":
        return IdentitySampler(labels, b.size, settings.seed)
    numbers = np.unique([str(camera) for camera in cameras], return_inverse=True)[1] if b.sampler == "cameras" else None
    return BalancedSampler(labels, b.persons, b.crops, settings.seed, numbers)


def _is_new(name: str, settings: TrainSettings) -> bool:
    """Whether a parameter starts untrained, and learns at `optimizer.new_rate`."""
    if settings.weights.network is not None:
        return name.startswith("head.")
    stream, _, rest = name.partition(".")
    loaded = {"appearance": settings.weights.appearance, "parts": settings.weights.parts}
    return loaded.get(stream) is None or rest.startswith(ADDED_LAYERS)


def _refuse_collapse(step: Step, iteration: int) -> None:
    total = step.loss + step.identity
    if not np.isfinite(total):
        raise TrainingError(f"iteration {iteration + 1}: the loss is {total}: lower the rate or set optimizer.clip")
    if step.similarity > COLLAPSED_SIMILARITY:
        raise TrainingError(
            f"iteration {iteration + 1}: all descriptors are alike ({step.similarity:.5f}), training has collapsed: "
            "lower optimizer.rate, lengthen schedule.warmup or use batches of 150 crops and more"
        )

"""The part stream as a pose network: pre-training on key points, and how well it finds them (PCK).

Targets follow Cao et al. 2017: a Gaussian per joint, a unit vector along each limb, and a background map. A joint that
an annotator did not find says nothing, so its maps are left out of the loss instead of being taught as absent.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from partalign import progress
from partalign.datasets.keypoints import LIMBS, MIRROR, PoseExamples
from partalign.errors import RecipeError, TrainingError
from partalign.images import Pictures
from partalign.model.device import checked_device
from partalign.model.input import network_input
from partalign.model.joints import find_joints
from partalign.model.network import build_network
from partalign.model.parts import PartStream, PoseMaps
from partalign.training.optimizer import optimizer_state, rate_share, restore_optimizer, set_rates
from partalign.training.run import Run, under
from partalign.training.settings import PoseSettings, ScheduleSettings
from partalign.weights.checkpoint import load_stream, load_strictly, save_checkpoint

HEAD = (0, 14, 15, 16, 17)
"""Nose, eyes and ears of the 18 joints: their mean is the head of R-CPM's 14."""


def joint_targets(joints: Tensor, size: tuple[int, int], sigma: float) -> tuple[Tensor, Tensor]:
    """Draw a Gaussian per joint, and the background: what a perfect pose network would give.

    joints: (B, J, 3) x, y as fractions of the crop and visibility. size: (h, w) of the maps. sigma: in cells.
    Returns maps (B, J + 1, h, w) and which of them are known (B, J + 1).
    """
    x, y, seen = _in_cells(joints, size)
    cells_y = torch.arange(size[0], device=joints.device)[:, None]
    cells_x = torch.arange(size[1], device=joints.device)[None]
    squared = (cells_x - x[..., None, None]) ** 2 + (cells_y - y[..., None, None]) ** 2
    heat = torch.exp(-squared / (2 * sigma**2)) * seen[..., None, None]
    background = 1 - heat.amax(1, keepdim=True)
    return torch.cat((heat, background), dim=1), torch.cat((seen, torch.ones_like(seen[:, :1])), dim=1)


def limb_targets(joints: Tensor, size: tuple[int, int], half_width: float) -> tuple[Tensor, Tensor]:
    """Draw a unit vector in every cell along each limb (part affinity fields).

    joints: (B, 18, 3) as above; half_width: in cells. Returns maps (B, 38, h, w) and which are known (B, 38).
    """
    x, y, seen = _in_cells(joints, size)
    start, end = torch.tensor(LIMBS, device=joints.device).T
    dx, dy = x[:, end] - x[:, start], y[:, end] - y[:, start]
    length = (dx**2 + dy**2).sqrt().clamp(min=1e-6)
    ux, uy = (dx / length)[..., None, None], (dy / length)[..., None, None]
    rel_x = torch.arange(size[1], device=joints.device)[None] - x[:, start][..., None, None]
    rel_y = torch.arange(size[0], device=joints.device)[:, None] - y[:, start][..., None, None]
    along, across = rel_x * ux + rel_y * uy, (rel_x * uy - rel_y * ux).abs()
    # At half a cell on either side even a short limb touches one cell.
    margin = max(half_width, 0.5)
    on = (along >= -margin) & (along <= length[..., None, None] + margin) & (across <= margin)
    known = seen[:, start] & seen[:, end]
    inside = on & known[..., None, None]
    limbs = torch.stack((ux * inside, uy * inside), dim=2).flatten(1, 2)
    return limbs, known.repeat_interleave(2, dim=1)


def reduced_joints(joints: Tensor) -> Tensor:
    """(B, 18, 3) OpenPose joints -> (B, 14, 3), R-CPM's: the head is the mean of what is seen of nose, eyes, ears."""
    face = joints[:, HEAD]
    weight = (face[..., 2:] > 0).to(face.dtype)
    seen = weight.sum(1).clamp(max=1)
    head = torch.cat(((face[..., :2] * weight).sum(1) / weight.sum(1).clamp(min=1), seen), dim=1)
    return torch.cat((head[:, None], joints[:, 1:14]), dim=1)


def pose_loss(stages: list[PoseMaps], joints: Tensor, sigma: float, half_width: float) -> Tensor:
    """Squared error of every stage, summed over channels, averaged over places and crops; unknown joints left out."""
    height, width = stages[0].joints.shape[2:]
    heat, heat_mask = joint_targets(_for_stream(joints, stages[0].joints), (height, width), sigma)
    total = sum(_masked_error(stage.joints, heat, heat_mask) for stage in stages)
    if stages[0].limbs is not None:
        limbs, limb_mask = limb_targets(joints, (height, width), half_width)
        total += sum(_masked_error(stage.limbs, limbs, limb_mask) for stage in stages)  # type: ignore[arg-type]
    return total  # type: ignore[return-value]


def pck(found: Tensor, true: Tensor, size: tuple[int, int], share: float = 0.1) -> tuple[float, np.ndarray]:
    """Share of the seen joints that are found within `share` of the body's height: over all, and per joint.

    found: (B, J, 2), true: (B, J, 3), both as fractions; size: (height, width) of the crop in pixels. The body's height
    is the vertical extent of its seen joints, or the crop's height where fewer than two thirds of them are seen.
    """
    scale = torch.tensor([size[1], size[0]], dtype=torch.float32, device=true.device)
    seen = true[..., 2] > 0
    error = ((found - true[..., :2]) * scale).norm(dim=2)
    y = true[..., 1] * size[0]
    extent = torch.where(seen, y, -torch.inf).amax(1) - torch.where(seen, y, torch.inf).amin(1)
    extent = torch.where(seen.float().mean(1) >= 2 / 3, extent, float(size[0]))
    hit = (error <= share * extent[:, None]) & seen
    per_joint = hit.sum(0) / seen.sum(0).clamp(min=1)
    return float(hit.sum() / seen.sum().clamp(min=1)), per_joint.cpu().numpy()


class PoseTrainer:
    """A part stream, its optimiser and its examples; `step(i)` makes iteration i."""

    def __init__(self, settings: PoseSettings, examples: PoseExamples, device: str = "cpu"):
        self.settings, self.device = settings, checked_device(device)
        torch.manual_seed(settings.seed)
        stream = build_network(settings.network).parts
        if stream is None:
            raise RecipeError(
                "pretrain-parts needs a network with a part stream: set network.parts and a pooling that uses it"
            )
        self.stream: PartStream = stream.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.weights.parts is not None:
            load_stream(stream, settings.weights.parts)
        self.training, self.held_out = _split_by_person(examples, settings.held_out, settings.seed)
        self.size = (settings.network.height, settings.network.width)
        self.pictures = Pictures(examples.paths, self.size, boxes=examples.boxes)
        self.joints = torch.from_numpy(examples.joints)
        self.per_epoch = len(self.training) // settings.batch
        if not self.per_epoch:
            raise TrainingError(
                f"{len(self.training)} training crops do not fill one batch of {settings.batch}: lower batch"
            )
        self.iterations = self.per_epoch * settings.epochs
        self.schedule = ScheduleSettings(kind="cosine", iterations=self.iterations, warmup=settings.warmup)  # type: ignore[call-arg]
        parameters = [(n, p) for n, p in stream.named_parameters() if not n.startswith(("feature.", "norm."))]
        rate = settings.rate * (settings.trunk_rate if settings.weights.parts else 1.0)
        self.optimizer = torch.optim.Adam([{"params": [p for _, p in parameters], "lr": rate, "full_rate": rate}])
        self.parameters = [p for _, p in parameters]
        self.stream.train()

    def step(self, iteration: int) -> float:
        """Make one iteration; returns the loss. Raises TrainingError where it is not a number."""
        s = self.settings
        epoch, place = divmod(iteration, self.per_epoch)
        order = np.random.default_rng([s.seed, 5, epoch]).permutation(self.training)
        rows = order[place * s.batch :][: s.batch]
        flipped = np.random.default_rng([s.seed, 6, iteration]).random(len(rows)) < 0.5
        pictures, joints = self._batch(rows, flipped)
        set_rates(self.optimizer, rate_share(self.schedule, iteration))
        self.optimizer.zero_grad(set_to_none=True)
        loss = pose_loss(self.stream.stages(pictures)[0], joints, s.joint_sigma, s.limb_width)
        if not torch.isfinite(loss):
            raise TrainingError(f"iteration {iteration + 1}: the loss is {float(loss)}: lower rate")
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, s.clip)
        self.optimizer.step()
        return float(loss.detach())

    @torch.inference_mode()
    def measure(self) -> tuple[float, np.ndarray]:
        """PCK@0.1 of body height on the held-out crops: over all, and per joint."""
        self.stream.eval()
        found, true = [], []
        for start in range(0, len(self.held_out), 64):
            rows = self.held_out[start : start + 64]
            pictures, joints = self._batch(rows, np.zeros(len(rows), bool))
            heat = self.stream.stages(pictures)[0][-1].joints
            found.append(torch.from_numpy(find_joints(heat.cpu().numpy())[..., :2]).to(joints))
            true.append(_for_stream(joints, heat))
        self.stream.train()
        return pck(torch.cat(found), torch.cat(true), self.size)

    def state(self) -> dict[str, Tensor]:
        """All tensors that decide how training goes on, by name."""
        tensors = {f"stream.{name}": tensor for name, tensor in self.stream.state_dict().items()}
        return tensors | {f"optimizer.{name}": tensor for name, tensor in optimizer_state(self.optimizer).items()}

    def restore(self, tensors: dict[str, Tensor], source: Path) -> None:
        """Take up the state that `state` gave. Raises WeightsError."""
        load_strictly(self.stream, under("stream.", tensors), source=source)
        restore_optimizer(self.optimizer, under("optimizer.", tensors))

    def _batch(self, rows: np.ndarray, flipped: np.ndarray) -> tuple[Tensor, Tensor]:
        pictures = network_input(self.pictures.batch(rows)).to(self.device)
        joints = self.joints[torch.from_numpy(rows)].to(self.device)
        turn = torch.from_numpy(flipped).to(self.device)
        pictures = torch.where(turn[:, None, None, None], pictures.flip(3), pictures)
        mirrored = joints[:, MIRROR] * torch.tensor([-1.0, 1.0, 1.0], device=self.device)
        mirrored[..., 0] += 1
        return pictures, torch.where(turn[:, None, None], mirrored, joints)


def pretrain_parts(
    settings: PoseSettings, examples: PoseExamples, out: Path, *, resume: bool = False, device: str = "cpu"
) -> tuple[Path, dict[str, Any]]:
    """Train the part stream of `settings.network` on key points; writes `parts.safetensors` into `out`.

    Returns its path and {"pck": over all joints, "per_joint": {name: share}} on the held-out persons' crops.
    """
    run = Run(out, settings, resume=resume)
    trainer = PoseTrainer(settings, examples, device)
    first = run.restore(trainer)
    with progress.bar("pose", trainer.iterations, completed=first) as advance, run:
        for iteration in range(first, trainer.iterations):
            began = time.perf_counter()
            loss = trainer.step(iteration)
            speed = settings.batch / (time.perf_counter() - began)
            run.log(iteration + 1, loss=loss, speed=speed)
            advance(1, f"loss {loss:.4f}  {speed:.0f} images/s")
            if (iteration + 1) % settings.save_every == 0 or iteration + 1 == trainer.iterations:
                run.save(trainer, iteration + 1)
    share, per_joint = trainer.measure()
    results = {
        "pck": share,
        "per_joint": dict(zip(trainer.stream.joint_names, per_joint.round(4).tolist(), strict=False)),
    }
    path = Path(out) / "parts.safetensors"
    description = {
        "format": 1,
        "kind": "stream",
        "stream": settings.network.parts,
        "trained": settings.model_dump(mode="json"),
        "results": results,
    }
    kept = {n: t for n, t in trainer.stream.state_dict().items() if not n.startswith(("feature.", "norm."))}
    save_checkpoint(path, kept, description)
    return path, results


def _split_by_person(examples: PoseExamples, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out; all crops of a person (name up to "_") are on one side."""
    of_crop = np.array([path.stem.split("_")[0] for path in examples.paths])
    persons = np.unique(of_crop)
    chosen = np.random.default_rng([seed, 7]).permutation(persons)[: max(1, round(share * len(persons)))]
    held = np.isin(of_crop, chosen)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _in_cells(joints: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Fractions -> cell coordinates, cell centres at whole numbers; and which joints are seen."""
    return joints[..., 0] * size[1] - 0.5, joints[..., 1] * size[0] - 0.5, joints[..., 2] > 0


def _for_stream(joints: Tensor, heat: Tensor) -> Tensor:
    """The joints that a stream with these maps knows: OpenPose's 18 or R-CPM's 14."""
    return reduced_joints(joints) if heat.shape[1] == 15 else joints


def _masked_error(maps: Tensor, target: Tensor, known: Tensor) -> Tensor:
    return ((maps - target) ** 2 * known[..., None, None]).sum(1).mean()

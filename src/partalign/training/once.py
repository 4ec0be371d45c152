"""Training as a step of longer work: done once, gone on with where it was stopped, taken up where it is finished."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from partalign.crops import Split
from partalign.datasets.keypoints import PoseExamples
from partalign.progress import say
from partalign.training.pose import pretrain_parts
from partalign.training.run import headline
from partalign.training.settings import PoseSettings, TrainSettings
from partalign.training.trainer import Prepare, prepare_network, train
from partalign.weights.checkpoint import read_checkpoint

S = TypeVar("S", TrainSettings, PoseSettings)


def train_once(
    settings: TrainSettings,
    split: Split,
    folder: Path,
    *,
    prepare: Prepare = prepare_network,
    device: str = "cpu",
) -> tuple[Path, dict[str, float]]:
    """Train in `folder`, unless it holds the finished run; return the model's path and its figures as fractions.

    The figures are those of `run.headline`, none where the split has nothing to search. Raises as `train`.
    """
    path = folder / "model.safetensors"
    results = finished(path, settings)
    if results is None:
        began = time.perf_counter()
        path, scores = train(settings, split, folder, resume=True, prepare=prepare, device=device)
        results = headline(scores) if scores else {}
        say(f"  {time.perf_counter() - began:.0f} s")
    return path, results


def pretrain_once(
    settings: PoseSettings, examples: Callable[[], PoseExamples], folder: Path, *, device: str = "cpu"
) -> tuple[Path, dict[str, Any]]:
    """Train the part stream as a pose network in `folder`, unless that was finished; returns as `pretrain_parts`.

    examples: reads the key points; not called where nothing is left to do. Raises as `pretrain_parts`.
    """
    path = folder / "parts.safetensors"
    results = finished(path, settings)
    if results is None:
        began = time.perf_counter()
        path, results = pretrain_parts(settings, examples(), folder, resume=True, device=device)
        say(f"  {time.perf_counter() - began:.0f} s")
    return path, results


def finished(path: Path, settings: S) -> dict[str, Any] | None:
    """Return the results in a finished run's file, and say so; None where it is missing or of other settings.

    Titles may differ, and settings that the run did not know yet count as their defaults.
    """
    if not path.is_file():
        return None
    _, description = read_checkpoint(path)
    try:
        theirs = type(settings).model_validate(description.get("trained"))
    except ValueError:
        return None
    if theirs.model_copy(update={"title": settings.title}) != settings:
        return None
    say("  finished before")
    return description["results"]

"""partalign train, partalign pretrain-parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Changes = Annotated[list[str] | None, Parameter(name="--set", negative="")]


def train(
    recipe: str,
    *,
    data: Path,
    out: Path,
    extra: Annotated[list[str] | None, Parameter(negative="")] = None,
    set_: Changes = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    corrupt: Literal["refuse", "skip"] = "refuse",
    device: str = "cpu",
) -> None:
    """Train a network by a recipe, and score it on the data set's query and gallery.

    Example: partalign train market1501-rcpm --data ~/data --out runs/rcpm --set seed=1

    On several GPUs or machines: torchrun --nproc-per-node 4 -m partalign train ... --device cuda

    Args:
        recipe: a shipped recipe's name (see `partalign recipes`) or a TOML file
        data: the folder of the data set that the recipe names
        out: the run's folder: settings, log, checkpoints, model.safetensors
        extra: a further data set to train on, NAME=PATH (market1501=people for generated people); its persons are added
            to the others, its query and gallery are not used; may be repeated
        set_: change one setting of the recipe, KEY=VALUE; may be repeated
        resume: go on with the run in --out
        corrupt: what a picture that cannot be read does: stop the work, or be named and left out
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.datasets import load_dataset
    from partalign.training.processes import first_process
    from partalign.training.settings import TrainSettings, read_recipe
    from partalign.training.trainer import train as run

    settings = read_recipe(recipe, TrainSettings, set_ or ())
    s = settings
    split = load_dataset(s.dataset, data, protocol=s.protocol, boxes=s.boxes, test_set=s.test_set)
    split = split.with_training(*(load_dataset(*_named_folder(entry)) for entry in extra or ()))
    model, scores = run(settings, split, out, resume=resume, device=device, on_error=corrupt)
    if scores is not None:
        print(scores.table())
    if first_process():
        print(f"model: {model}")


def _named_folder(entry: str) -> tuple[str, str]:
    from partalign.errors import DatasetError

    name, equals, folder = entry.partition("=")
    if not (equals and folder):
        raise DatasetError(f"--extra: expected NAME=PATH, as in market1501=people, found {entry!r}")
    return name, folder


def pretrain_parts(
    recipe: str,
    *,
    data: Path,
    out: Path,
    keypoints: Path | None = None,
    set_: Changes = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    device: str = "cpu",
) -> None:
    """Train the part stream as a pose network on key points; reports PCK@0.1 of body height on held-out persons.

    Example: partalign pretrain-parts pose-rcpm --data ~/data --keypoints joints.csv --out runs/pose

    Args:
        recipe: a shipped recipe's name (see `partalign recipes`) or a TOML file
        data: the folder of the crops (Market-1501 layout), or of COCO's pictures
        out: the run's folder; the result is parts.safetensors
        keypoints: joints of the crops: a CSV (name:keypoints_y:keypoints_x) or COCO's person_keypoints JSON; by default
            DATA/keypoints.csv, which `partalign generate` writes
        set_: change one setting of the recipe, KEY=VALUE; may be repeated
        resume: go on with the run in --out
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.datasets.keypoints import load_examples
    from partalign.training.pose import pretrain_parts as run
    from partalign.training.settings import PoseSettings, read_recipe

    settings = read_recipe(recipe, PoseSettings, set_ or ())
    examples = load_examples(keypoints or data / "keypoints.csv", data)
    path, results = run(settings, examples, out, resume=resume, device=device)
    for name, share in results["per_joint"].items():
        print(f"{name:16}{share:7.1%}")
    print(f"PCK@0.1 of body height, held-out persons: {results['pck']:.1%}")
    print(f"part stream: {path}")

"""Where studies are made: generated people, a world for each seed, or a data set, one training for each seed.

A ground turns a variant and a seed into settings, pictures and weights to start from. It keeps what it makes in one
folder, for all studies: `people-0`, `pose-0`, and the runs `baseline-0`, `trained-2` ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from partalign.crops import Split
from partalign.datasets import load_dataset
from partalign.datasets.generated import World
from partalign.datasets.keypoints import PoseExamples, examples_from_csv, load_examples
from partalign.progress import say
from partalign.studies.claims import PEOPLE, RESIDUAL, Variant
from partalign.training.once import finished, pretrain_once
from partalign.training.settings import PoseSettings, TrainSettings, read_recipe

_SMALL = ("network.height=64", "network.width=32")


@dataclass(frozen=True)
class Size:
    """How large a study on generated people is; the last two are changes to recipes, as with `--set`."""

    persons: int = 240
    train_fraction: float = 2 / 3
    crops_per_person: int = 10
    pose: tuple[str, ...] = (*_SMALL, "epochs=30", "save_every=500")
    training: tuple[str, ...] = (*_SMALL, "schedule.iterations=120", "save_every=500", "evaluate_every=0")


class GeneratedPeople:
    """Worlds of generated people; of each seed another world, other weights to start from, another pose network."""

    name, each = "generated people", "world"

    def __init__(self, out: Path, changes: Sequence[str] = (), size: Size | None = None):
        # Runs remember the file that their weights came from: a full path serves from any folder.
        self.out, self.changes, self.size = Path(out).resolve(), tuple(changes), size or Size()
        self.pck: dict[str, float] = {}
        self.split = cache(self._split)

    def check(self) -> None:
        """Raise an error, before anything is trained, where what a study starts from cannot be read."""

    def lacks(self, variant: Variant) -> str | None:  # noqa: ARG002
        """Say why a variant cannot be made here; None where it can."""
        return None

    def settings(self, variant: Variant, seed: int, *, make: bool = True) -> TrainSettings:
        """Return the variant's settings; makes what they start from, where it is missing and `make` says so."""
        changes = [*self.size.training, *self.changes, *variant.changes, f"seed={seed}"]
        if variant.pose is not None:
            changes.append(f"weights.parts={self._pose(variant.pose, seed, make)}")
        return _named(read_recipe(f"light-{variant.network}", TrainSettings, changes), variant)

    def _split(self, people: str, seed: int) -> Split:
        s = self.size
        world = World(
            seed=seed,
            persons=s.persons,
            crops_per_person=s.crops_per_person,
            height=64,
            width=32,
            **PEOPLE[people],  # type: ignore[arg-type]
        )
        return world.write(self._folder("people", people, seed), train_fraction=s.train_fraction)

    def _pose(self, people: str, seed: int, make: bool) -> Path:
        """Pre-train the part stream on one kind of people, unless that was done; returns the file."""
        folder = self._folder("pose", people, seed)
        path = folder / "parts.safetensors"
        if folder.name not in self.pck:
            settings = read_recipe("light-pose", PoseSettings, (*self.size.pose, f"seed={seed}"))
            if make:
                say(f"{folder.name}: {settings.epochs} passes over the joints of training persons")
                self.split(people, seed)
                results = pretrain_once(settings, lambda: self._joints(people, seed), folder)[1]
            else:
                results = finished(path, settings)
            if results is not None:
                self.pck[folder.name] = results["pck"]
        return path

    def _joints(self, people: str, seed: int) -> PoseExamples:
        crops = self._folder("people", people, seed)
        return load_examples(crops / "keypoints.csv", crops)

    def _folder(self, what: str, people: str, seed: int) -> Path:
        return self.out / "-".join(filter(None, (what, people, str(seed))))


class SmallRealPeople(GeneratedPeople):
    """A data set of the user's with joints, and the small streams of generated people: minutes in place of hours.

    keypoints: a CSV with the joints of training crops, which the pose networks learn from. Of each seed other weights
    to start from and another pose network. Raises as `load_dataset` and `examples_from_csv`.
    """

    each = "seed"

    def __init__(
        self,
        out: Path,
        data: Path,
        keypoints: Path,
        dataset: str = "market1501",
        changes: Sequence[str] = (),
        size: Size | None = None,
    ):
        # As many crops pass through the pose network as on generated people, and twice as many through training.
        pose = (*_SMALL, "epochs=5", "save_every=500")
        training = (*_SMALL, "schedule.iterations=240", "save_every=500", "evaluate_every=0")
        size = size or Size(pose=pose, training=training)
        super().__init__(out, changes, replace(size, training=(*size.training, f"dataset={dataset}")))
        self.name, self.keypoints = f"{dataset}, small streams", Path(keypoints)
        self._all = cache(lambda: load_dataset(dataset, Path(data)))

    def check(self) -> None:
        """Read the data set and the joints of its training crops. Raises as the class says."""
        self._joints("", 0)

    def lacks(self, variant: Variant) -> str | None:
        """Say why a variant cannot be made here; None where it can."""
        return "it needs generated people" if variant.generated else None

    def _split(self, people: str, seed: int) -> Split:  # noqa: ARG002
        return self._all()

    def _joints(self, people: str, seed: int) -> PoseExamples:  # noqa: ARG002
        return examples_from_csv(self.keypoints, self._all().train)


class RealPeople:
    """A data set of the user's; of each seed other weights to start from. Recipes are the `short-` ones.

    changes: to all variants, such as the files of weights. Raises RecipeError for unknown ones, and as `load_dataset`.
    """

    each = "seed"

    def __init__(self, out: Path, data: Path, dataset: str = "market1501", changes: Sequence[str] = ()):
        self.out, self.data, self.dataset = Path(out), Path(data), dataset
        self.name, self.changes = dataset, tuple(changes)
        self.pck: dict[str, float] = {}
        self._all = cache(lambda: load_dataset(dataset, self.data))

    def check(self) -> None:
        """Read the data set. Raises as `load_dataset`."""
        self._all()

    def lacks(self, variant: Variant) -> str | None:
        """Say why a variant cannot be made here; None where it can."""
        if variant.generated:
            return "it needs generated people"
        if RESIDUAL in variant.changes:
            return "no weights to start from; among small streams, with --keypoints, it is there"
        settings = self.settings(variant, 0)
        if settings.network.maps == "limbs" and settings.network.parts == "rcpm":
            return "R-CPM has no limb maps; with OpenPose's weights, set network.parts=openpose and weights.parts"
        return None

    def split(self, people: str, seed: int) -> Split:  # noqa: ARG002
        """Read the data set."""
        return self._all()

    def settings(self, variant: Variant, seed: int, *, make: bool = True) -> TrainSettings:  # noqa: ARG002
        """Return the variant's settings."""
        recipe = "short-baseline" if variant.network == "baseline" else "short-trained"
        without = ["weights.parts="] if recipe == "short-trained" and variant.pose is None else []
        # What makes a variant comes last: no change of the user's may undo it.
        changes = [f"dataset={self.dataset}", *self.changes, *without, *variant.changes, f"seed={seed}"]
        return _named(read_recipe(recipe, TrainSettings, changes), variant)


Ground = GeneratedPeople | SmallRealPeople | RealPeople


def _named(settings: TrainSettings, variant: Variant) -> TrainSettings:
    freeze = (*settings.freeze, "parts") if variant.frozen else settings.freeze
    return settings.model_copy(update={"title": f"Study: {variant.label}", "freeze": freeze})

"""The work of the demonstration, stage by stage; each uses what it finds finished, and goes on with what is half done.

Says on standard error what it does. Knows recipes by name, and nothing of the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from partalign.crops import Embeddings, Split
from partalign.datasets.generated import World
from partalign.datasets.keypoints import load_examples
from partalign.embedding import Embedder
from partalign.evaluation.evaluate import score, top_matches
from partalign.evaluation.scores import Scores
from partalign.progress import say
from partalign.training.once import pretrain_once, train_once
from partalign.training.settings import PoseSettings, TrainSettings, read_recipe
from partalign.weights.checkpoint import load_model

RECIPES = ("light-pose", "light-baseline", "light-proposed")

SHOWN = 10
"""Matches of a query that are kept for the ranked lists."""


@dataclass(frozen=True)
class Size:
    """How large a demonstration is.

    pose, training: changes to the recipe of the pose network, and to those of both networks, as with `--set`.
    """

    persons: int = 450
    train_fraction: float = 2 / 3
    crops_per_person: int = 12
    pose: tuple[str, ...] = ()
    training: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pose:
    """The part stream trained as a pose network; pck: share of the joints of held-out persons that it finds."""

    folder: Path
    path: Path
    settings: PoseSettings
    pck: float


@dataclass(frozen=True)
class Trained:
    """A trained network."""

    name: str
    folder: Path
    path: Path
    settings: TrainSettings


@dataclass(frozen=True, eq=False)
class Searched(Trained):
    """A trained network and the descriptors that it gives to unseen persons."""

    query: Embeddings
    gallery: Embeddings

    @cached_property
    def scores(self) -> Scores:
        """CMC, mAP, and the ranks of all matches."""
        return score(self.query, self.gallery)

    @cached_property
    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """(Q, 10) gallery rows, best first, and their similarities."""
        return top_matches(self.query, self.gallery, count=SHOWN)


def make_world(seed: int, size: Size) -> World:
    """The world of a demonstration; pictures are larger than the networks' input, to look at."""
    return World(seed=seed, persons=size.persons, crops_per_person=size.crops_per_person)


def make_people(world: World, folder: Path, size: Size) -> Split:
    """Write the generated people."""
    say(f"People: {world.persons} generated persons, {len(world):,} pictures in {folder}")
    split = world.write(folder, train_fraction=size.train_fraction)
    persons = len({crop.person for crop in split.train})
    say(f"  {persons} persons to train on; {world.persons - persons} others to test with")
    return split


def train_pose(people: Path, folder: Path, seed: int, size: Size) -> Pose:
    """Train the part stream as a pose network on the training persons' joints."""
    settings = read_recipe("light-pose", PoseSettings, (*size.pose, f"seed={seed}"))
    say(f"Part stream: {settings.epochs} passes over the joints of the training persons")
    path, results = pretrain_once(settings, lambda: load_examples(people / "keypoints.csv", people), folder)
    say(f"  finds {results['pck']:.1%} of the joints of held-out persons (PCK@0.1 of body height)")
    return Pose(folder, path, settings, results["pck"])


def train_network(name: str, split: Split, folder: Path, pose: Pose | None, seed: int, size: Size) -> Trained:
    """Train the network of the recipe `light-NAME`, from the pose network's part stream where one is given."""
    changes = (*size.training, f"seed={seed}", *([f"weights.parts={pose.path}"] if pose else ()))
    settings = read_recipe(f"light-{name}", TrainSettings, changes)
    say(f"{settings.title}: {settings.schedule.iterations} iterations of {settings.batch.size} pictures")
    path, _ = train_once(settings, split, folder)
    return Trained(name, folder, path, settings)


def search(trained: Trained, split: Split) -> Searched:
    """Describe the queries and the gallery."""
    embedder = Embedder(load_model(trained.path))
    query, gallery = embedder.embed(split.query, "query"), embedder.embed(split.gallery, "gallery")
    return Searched(trained.name, trained.folder, trained.path, trained.settings, query, gallery)


def show_example(searched: Searched) -> None:
    """Search with the first query, and say what was found."""
    query, (rows, similarities) = searched.query.crops[0], searched.best
    say(f"Search: who is on {query.path}? The {searched.name} network's first five:")
    for place, (row, similarity) in enumerate(zip(rows[0, :5], similarities[0], strict=False), start=1):
        crop = searched.gallery.crops[row]
        verdict = "right" if crop.person == query.person else "wrong"
        say(f"  {place}  {crop.path.name}  similarity {similarity:.3f}  {verdict}")

"""A gallery that lies in shards: where a data set's crops are, and the strangers among them, counted where they lie."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from partalign.crops import JUNK, Crop, Embeddings, Split
from partalign.datasets.distractors import draw_order
from partalign.errors import EvaluationError
from partalign.evaluation.evaluate import Descriptors
from partalign.evaluation.protocols import Protocol
from partalign.evaluation.strangers import Crowd, Known
from partalign.progress import bar, say
from partalign.shards.store import Shards
from partalign.shards.workers import HERE, Workers

Place = tuple[int, int]  # shard, row


class Part(NamedTuple):
    """Strangers of one shard; steps: for each of its rows from which size of the gallery on it is in, -1 for never."""

    shards: Shards
    number: int
    steps: np.ndarray


@dataclass(frozen=True)
class Strangers:
    """Gallery rows in shards that show nobody who is searched for; crowds: how many each size of the gallery adds."""

    parts: tuple[Part, ...]
    crowds: tuple[Crowd, ...]

    def count(self, query: Embeddings, gallery: Embeddings, protocol: Protocol, workers: Workers = HERE) -> np.ndarray:
        """Count those that rank before each match in each size of the gallery: (sizes, matches of all queries) int64.

        query, gallery, protocol: as of `evaluation.strangers.Known`. Raises EvaluationError, ShardsError.
        """
        make = partial(CountWorker, query, gallery, protocol, len(self.crowds))
        total: np.ndarray | int = 0
        with bar("Ranking among shards", len(self.parts)) as advance:
            for counts in workers.run(make, self.parts):
                total = total + counts
                advance()
        return np.cumsum(total, axis=0)

    def crowd(self, step: int) -> Crowd:
        """Return how many there are in the gallery of this size."""
        return sum(self.crowds[: step + 1], Crowd())


class CountWorker:
    """Counts the strangers of one part after another."""

    def __init__(self, query: Embeddings, gallery: Embeddings, protocol: Protocol, steps: int):
        # A match and its rivals must come from products of one process: another number of threads may change last bits.
        self.known, self.steps = Known(query, gallery, protocol), steps

    def __call__(self, part: Part) -> np.ndarray:
        """(sizes, matches of all queries) int64: what each size of the gallery adds."""
        vectors = part.shards.read(part.number).vectors
        return np.array([self.known.rivals(vectors[part.steps == step]) for step in range(self.steps)])


def distractors(shards: Shards, sizes: Sequence[int]) -> Strangers:
    """Take all crops in shards for distractors, of whom each of `sizes`, ascending, draws the same as a folder's would.

    Size 0 is the gallery without them. Crops that could not be read are drawn, too, and then left out, as when a folder
    is described with `--corrupt skip`. Raises ShardsError.
    """
    shards.require_complete()
    drawn = np.empty(shards.manifest.crops, np.intp)
    drawn[draw_order(len(drawn))] = np.arange(len(drawn))
    parts, added = [], np.zeros(len(sizes) + 1, int)
    for number in range(shards.manifest.shards):
        steps = 1 + np.searchsorted(sizes, drawn[shards.places(number)], side="right")
        steps[steps > len(sizes)] = -1
        added += np.bincount(steps[steps > 0], minlength=len(added))
        parts.append(Part(shards, number, steps.astype(np.int16)))
    return Strangers(tuple(parts), tuple(Crowd(count, 0, count) for count in added.tolist()))


def pick(
    shards: Shards, split: Split, multi_query: bool = False, *, sizes: Sequence[int] = (), whole: bool = False
) -> tuple[Descriptors, Strangers | None]:
    """Find the query, gallery and, for multi-query, pool crops of `split` in shards, as `evaluate.match_saved` would.

    Only the gallery rows of persons who are searched for are read, and returned; the others are `Strangers`. sizes: how
    many of the first crops are in each size of the gallery, ascending; the last is all. whole: read all. Crops that
    could not be read when the shards were made are left out, and that is said. Raises EvaluationError where other
    crops are absent, or folder and name are those of several; ShardsError.
    """
    shards.require_complete()
    persons = {crop.person for crop in split.query} - {JUNK}
    sides = [split.query, split.gallery, split.pool if multi_query else ()]
    places = _locate(shards, [crop for side in sides for crop in side], split.name)
    query, gallery, pool = ([crop for crop in side if crop.path in places] for side in sides)
    known = gallery if whole else [crop for crop in gallery if crop.person in persons]
    found = Descriptors(*(_read(shards, crops, places) for crops in (query, known)))
    if multi_query:
        found = found._replace(pool=_read(shards, pool, places))
    ends = sizes or (len(split.gallery),)
    rest: list[list[Crop]] = [[] for _ in ends]
    for place, crop in enumerate(() if whole else split.gallery):
        if crop.path in places and crop.person not in persons:
            rest[bisect_right(ends, place)].append(crop)
    return found, _strangers(shards, rest, places) if any(rest) else None


def _strangers(shards: Shards, crops: Sequence[Sequence[Crop]], places: dict[Path, Place]) -> Strangers:
    """Note where the crops that each size of the gallery adds are."""
    steps: dict[int, np.ndarray] = {}
    for step, added in enumerate(crops):
        for crop in added:
            number, row = places[crop.path]
            if number not in steps:
                steps[number] = np.full(shards.about(number).crops, -1, np.int16)
            steps[number][row] = -1 if crop.person == JUNK else step
    parts = tuple(Part(shards, number, steps[number]) for number in sorted(steps))
    return Strangers(parts, tuple(map(Crowd.of, crops)))


def _read(shards: Shards, crops: Sequence[Crop], places: dict[Path, Place]) -> Embeddings:
    """Read the descriptors of crops, shard by shard."""
    vectors = np.empty((len(crops), shards.manifest.dimension), np.float32)
    by_shard: dict[int, list[int]] = {}
    for i, crop in enumerate(crops):
        by_shard.setdefault(places[crop.path][0], []).append(i)
    for number, wanted in sorted(by_shard.items()):
        vectors[wanted] = shards.read(number).vectors[[places[crops[i].path][1] for i in wanted]]
    return Embeddings(vectors, tuple(crops))


def _locate(shards: Shards, crops: Iterable[Crop], name: str) -> dict[Path, Place]:
    """Return where crops are, by their paths: that of the file, or where the files were moved, its folder and name."""
    paths = {crop.path: os.path.abspath(crop.path) for crop in crops}  # noqa: PTH100 - as in the list of crops
    keys = {path: Crop(path).key for path in paths}
    by_path: dict[str, Place | None] = dict.fromkeys(paths.values())
    by_key: dict[str, Place | None] = dict.fromkeys(keys.values())
    copies: Counter[str] = Counter()
    for number in range(shards.manifest.shards):
        for row, path in enumerate(shards.paths(number)):
            key = "/".join(path.replace(os.sep, "/").rsplit("/", 2)[-2:])
            if path in by_path:
                by_path[path] = number, row
            if key in by_key:
                by_key[key] = number, row
                copies[key] += 1
    moved = {path: key for path, key in keys.items() if by_path[paths[path]] is None}
    copies.update(key for key, n in Counter(moved.values()).items() if n > 1)
    found = {path: by_path[full] or by_key[keys[path]] for path, full in paths.items()}
    absent = [path for path, place in found.items() if place is None]
    _refuse_absent(shards, absent, len(paths), name)
    if shared := sorted(key for key in moved.values() if copies[key] > 1):
        raise EvaluationError(
            f"{shards.folder}: {len(shared)} crops cannot be told apart by folder and file name, the first is "
            f"{shared[0]}: embed the data set where it lies now, or give the files names of their own"
        )
    return {path: place for path, place in found.items() if place is not None}


def _refuse_absent(shards: Shards, absent: Sequence[Path], count: int, name: str) -> None:
    """Raise where crops are absent that were not left out as corrupt; else say how many were."""
    if not absent:
        return
    corrupt: set[str] = set()
    for number in range(shards.manifest.shards):
        if places := shards.about(number).corrupt:
            listed = shards.listed(number)
            corrupt |= {form for place in places for form in (str(listed[place].path), listed[place].key)}
    missing = [p for p in absent if not {os.path.abspath(p), Crop(p).key} & corrupt]  # noqa: PTH100
    if missing:
        first = ", ".join(Crop(path).key for path in missing[:3])
        raise EvaluationError(
            f"{shards.folder}: {len(missing)} of {count} query and gallery crops of {name} are not in its shards, the "
            f"first are {first}: embed the query and the gallery folders"
        )
    say(f"{len(absent)} of {count} crops of {name} could not be read when they were embedded, and are left out")

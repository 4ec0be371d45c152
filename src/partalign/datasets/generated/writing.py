"""Write a world to a folder as one more data set in Market-1501's layout.

`world.json` holds the settings and is written first, key points last; each file takes its name only when it is
complete: an interrupted run can go on, and a folder never mixes two worlds.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from partalign.crops import Split
from partalign.datasets import keypoints, market1501
from partalign.datasets.generated.world import World, settings
from partalign.errors import DatasetError
from partalign.files import atomic_file
from partalign.progress import track

VERSION = 1
"""Of the pictures: it grows with each change that alters a pixel, so that two kinds do not end up in one folder."""

SETTINGS, KEYPOINTS = "world.json", "keypoints.csv"
_CHUNK = 128  # pictures that one process renders and writes at a time


def write(world: World, folder: Path, *, train_fraction: float = 0.5, quality: int = 92, workers: int = 1) -> Split:
    """Write all pictures of a world as JPEG files, their joints as `keypoints.csv`, the settings as `world.json`.

    The first persons are for training, whole groups of them, `train_fraction` of all; of each other person the first
    picture of each camera is a query, the rest is the gallery. Key points are in the pixels of a 128 x 64 picture,
    as in Market-1501's own. Pictures that are there already are kept. With several `workers` (processes), a script
    needs its `if __name__ == "__main__":`. Raises DatasetError where the folder holds something else or a setting is
    out of range, SaveError where it cannot be written.
    """
    folder = Path(folder)
    _check(world, train_fraction, quality, workers)
    made_with = {"version": VERSION, **settings(world), "train_fraction": train_fraction, "quality": quality}
    _claim(folder, json.loads(json.dumps(made_with)))
    paths = _paths(world, folder, train_fraction)
    missing = np.array([i for i, path in enumerate(paths) if not _is_there(path)], int)
    chunks = [missing[k : k + _CHUNK] for k in range(0, len(missing), _CHUNK)]
    if chunks:
        save = partial(_save, world, quality)
        with _mapper(min(workers, len(chunks))) as run:
            done = run(save, chunks, [[paths[i] for i in chunk] for chunk in chunks])
            for _ in track(done, "generating people", len(chunks)):
                pass
    if chunks or not (folder / KEYPOINTS).is_file():
        _write_keypoints(world, folder / KEYPOINTS, paths)
    return _split(paths)


def _check(world: World, train_fraction: float, quality: int, workers: int) -> None:
    for name, value, low, high in (
        ("quality", quality, 1, 100),
        ("workers", workers, 1, 64),
        ("the number of pictures", len(world), 1, 999_999),
    ):
        if not low <= value <= high:
            raise DatasetError(f"expected {name} to be from {low:,} to {high:,}, found {value!r}; change it")
    if not 0 < train_fraction < 1:
        raise DatasetError(f"expected train_fraction to be between 0 and 1, found {train_fraction!r}; change it")
    if world.cameras < 2 or world.crops_per_person < world.cameras + 2:
        raise DatasetError(
            "expected at least 2 cameras, and 2 crops of each person more than cameras, so that each query has a match "
            f"from another camera; found {world.cameras} and {world.crops_per_person}; change them"
        )
    if world.persons <= world.group_size:
        raise DatasetError(
            f"expected more persons than group_size, {world.group_size}, some for training and some for testing, "
            f"found {world.persons}; change one of them"
        )


def _claim(folder: Path, made_with: dict[str, object]) -> None:
    """Put the settings into an empty folder; refuse one that holds anything but a world of the same settings."""
    try:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.exists() else []
    except OSError as error:
        raise DatasetError(f"{folder}: expected a folder, cannot read it: {error.strerror}") from None
    if not entries:
        with atomic_file(folder / SETTINGS) as file:
            file.write((json.dumps(made_with, indent=2) + "\n").encode())
        return
    try:
        found = json.loads((folder / SETTINGS).read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise DatasetError(
            f"{folder}: expected an empty folder or one with {SETTINGS}, found {len(entries)} other entries; choose "
            "another folder"
        )
    if found != made_with:
        names = [name for name in {**made_with, **found} if found.get(name) != made_with.get(name)]
        other = ", ".join(f"{name} {found.get(name)!r} instead of {made_with.get(name)!r}" for name in names)
        raise DatasetError(
            f"{folder}: expected generated people of the same settings, found {other}; choose another folder"
        )


def _is_there(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _paths(world: World, folder: Path, train_fraction: float) -> list[Path]:
    groups = -(-world.persons // world.group_size)
    train_groups = min(max(int(train_fraction * groups + 0.5), 1), groups - 1)
    seen: set[tuple[str, str]] = set()
    paths = []
    for index in range(len(world)):
        person, camera = world.person(index), world.camera(index)
        if index // world.crops_per_person < train_groups * world.group_size:
            part = market1501.TRAIN
        elif (person, camera) in seen:
            part = market1501.GALLERY
        else:
            part = market1501.QUERY
            seen.add((person, camera))
        paths.append(folder / part / f"{person}_{camera}s1_{index:06d}_01.jpg")
    return paths


@contextmanager
def _mapper(workers: int) -> Iterator:
    """`map`, or one over several processes."""
    if workers == 1:
        yield map
        return
    # spawned, not forked: a fork of a process with threads (torch has some) can hang
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def _save(world: World, quality: int, numbers: np.ndarray, paths: list[Path]) -> None:
    pictures, _ = world.render(numbers)
    for picture, path in zip(pictures, paths, strict=True):
        with atomic_file(path, sync=False) as file:
            Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0)


def _write_keypoints(world: World, path: Path, pictures: list[Path]) -> None:
    """Joints in pixels of 128 x 64 pictures, as the reader expects them; the middle of a pixel stays one."""
    joints = world.joints(range(len(world)))
    for axis, (size, target) in enumerate(
        ((world.width, keypoints.CSV_SIZE[1]), (world.height, keypoints.CSV_SIZE[0]))
    ):
        joints[..., axis] = np.clip((joints[..., axis] + 0.5) * (target / size) - 0.5, 0, target - 1)
    keypoints.write_csv(path, {picture.name: values for picture, values in zip(pictures, joints, strict=True)})


def _split(paths: list[Path]) -> Split:
    crops = [crop for path in sorted(paths) if (crop := market1501.parse_name(path))]
    train, query, gallery = (
        tuple(crop for crop in crops if crop.path.parent.name == part)
        for part in (market1501.TRAIN, market1501.QUERY, market1501.GALLERY)
    )
    return Split("generated", train, query, gallery)

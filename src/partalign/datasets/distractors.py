"""Crops of nobody who is searched for, to make a gallery larger: Market-1501's `distractors_500k`, or any folder.

Every crop is of person 0000, whatever its name or folder, so that it is an ordinary non-match. The paper adds 0, 100,
200 and 500 thousand of them to Market-1501's gallery; which ones was not published, so `sample` draws them by a seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from partalign.crops import DISTRACTOR, Crop
from partalign.datasets.listing import find_pictures
from partalign.errors import DatasetError

SERIES = (0, 100_000, 200_000, 500_000)
"""How many distractors the paper adds to the gallery of Market-1501."""

T = TypeVar("T")

_CAMERA = re.compile(r"(?<![A-Za-z0-9])(c[0-9]+)(?:s[0-9]+)?(?![A-Za-z0-9])")


def load(folder: Path) -> tuple[Crop, ...]:
    """Read all JPEG files of a folder and of those below it, sorted by their place; no picture is opened.

    `Crop.camera` is None but where the name says one, as in Market-1501's (`_c3s1_`). Raises DatasetError where there
    is no such folder, or no JPEG file in it.
    """
    return load_with_notes(folder)[0]


def load_with_notes(folder: Path) -> tuple[tuple[Crop, ...], tuple[str, ...]]:
    """Do as `load`, and also return notes on what was left out, and why."""
    root = Path(folder)
    if not root.is_dir():
        raise DatasetError(f"{root}: expected a folder of distractors, no such folder; check the path")
    names, notes = find_pictures(root, suffixes=(".jpg", ".jpeg"))
    if not names:
        raise DatasetError(f"{root}: expected .jpg files, found none{'; '.join(['', *notes])}; unpack the distractors")
    return tuple(_crop(root, name) for name in names), tuple(notes)


def sample(crops: Sequence[T], sizes: Sequence[int] = SERIES, seed: int = 0) -> tuple[tuple[T, ...], ...]:
    """Draw a random subset of each size, in the order of `sizes`; a larger one holds all of a smaller one.

    The same crops, seed and size give the same subset on every machine and Python, whatever other sizes are asked for.
    A subset keeps the order of `crops`. Raises DatasetError where there are fewer crops than the largest size, or a
    size is negative.
    """
    if min(sizes, default=0) < 0 or max(sizes, default=0) > len(crops):
        wanted = ", ".join(f"{size:,}" for size in sizes)
        raise DatasetError(
            f"expected sizes from 0 to the {len(crops):,} distractors there are, found {wanted}; "
            "ask for fewer, or give the folder with all of them"
        )
    order = draw_order(len(crops), seed).tolist()
    return tuple(tuple(crops[row] for row in sorted(order[:size])) for size in sizes)


def draw_order(count: int, seed: int = 0) -> np.ndarray:
    """Return the numbers of so many distractors in the order in which `sample` draws them, (count,) int."""
    # Of the whole library only random() is promised to give the same numbers for ever.
    draw = random.Random(seed)
    luck = np.fromiter((draw.random() for _ in range(count)), np.float64, count)
    return np.argsort(luck, kind="stable")


def growing(crops: Sequence[T], sizes: Sequence[int] = SERIES, seed: int = 0) -> tuple[T, ...]:
    """Return the largest subset that `sample` draws, so ordered that its first rows are the smaller ones.

    Raises DatasetError as `sample` does.
    """
    return tuple(dict.fromkeys(crop for subset in sample(crops, sorted(sizes), seed) for crop in subset))


def _crop(root: Path, name: str) -> Crop:
    camera = _CAMERA.search(name, name.rfind("/") + 1)
    return Crop(root / name, DISTRACTOR, camera and camera[1])

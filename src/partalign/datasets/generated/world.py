"""A world of generated people before cameras: its settings, its pictures by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from partalign.crops import Split
from partalign.datasets.generated.clothes import LARGEST_GROUP
from partalign.datasets.generated.draws import Draws
from partalign.datasets.generated.render import Arrangement, Studio, arrange, paint
from partalign.errors import DatasetError

_AT_ONCE = 256  # pictures to work on at a time: more are no faster, and take more memory

_RANGES = {
    "seed": (0, 2**32 - 1),
    "persons": (1, 9999),
    "cameras": (1, 9),
    "crops_per_person": (1, 100_000),
    "height": (32, 512),
    "width": (16, 256),
    "misalignment": (0.0, 1.5),
    "occlusion": (0.0, 1.0),
    "group_size": (1, LARGEST_GROUP),
}


@dataclass(frozen=True)
class World:
    """People, cameras and how they are framed; it has `persons * crops_per_person` pictures, numbered from 0.

    The pictures of a person follow each other and go from camera to camera. Each depends on the settings and its number
    only. The same persons come back when `persons` grows, the same cameras when `cameras` grows. Raises DatasetError
    where a setting is out of range.

    height, width: of a picture, in pixels; even numbers, people fit best at 2 : 1.
    misalignment: how badly the boxes fit, 0 (tight and centred) to 1 (a poor detector's); up to 1.5.
    occlusion: share of the pictures with a thing or a stranger before the person; 0.6 times as many have a stranger
        behind. Tight and free crops, misalignment and occlusion near 0, are another domain to pre-train on.
    group_size: so many persons share one set of colours in different places; with 1, people dress without a plan.
    """

    seed: int = 0
    persons: int = 200
    cameras: int = 6
    crops_per_person: int = 12
    height: int = 128
    width: int = 64
    misalignment: float = 1.0
    occlusion: float = 0.25
    group_size: int = 4

    def __post_init__(self):
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            whole = isinstance(low, int)
            if (
                isinstance(value, bool)
                or not isinstance(value, int if whole else (int, float))
                or not low <= value <= high
            ):
                kind = "a whole number" if whole else "a number"
                raise DatasetError(f"expected {name} to be {kind} from {low} to {high}, found {value!r}; change it")
        if self.height % 2 or self.width % 2:
            raise DatasetError(f"expected an even height and width, found {self.height} x {self.width}; change them")

    def __len__(self) -> int:
        """Number of pictures."""
        return self.persons * self.crops_per_person

    def person(self, index: int) -> str:
        """Who is in a picture, four digits as Market-1501 writes persons, from "0001"."""
        return f"{self._who(self._check([index]))[0] + 1:04d}"

    def camera(self, index: int) -> str:
        """Which camera took a picture, as Market-1501's names have it, from "c1"."""
        return f"c{self._where(self._check([index]))[0] + 1}"

    def render(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Render pictures by number, in the given order.

        Returns (B, H, W, 3) uint8 RGB and (B, 18, 3) float32 joints in OpenPose's order: x and y in pixels (0 is the
        middle of the first pixel), and 1 where the joint can be seen, 0 where it lies outside or something hides it.
        Raises DatasetError for a number that the world does not have.
        """
        numbers = self._check(indices)
        pictures = np.empty((len(numbers), self.height, self.width, 3), np.uint8)
        joints = np.empty((len(numbers), 18, 3), np.float32)
        for start in range(0, len(numbers), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            arrangement = self._arrange(numbers[rows])
            pictures[rows] = paint(_studio(self), arrangement)
            joints[rows] = arrangement.joints
        return pictures, joints

    def scenery(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Render the same pictures with nobody and nothing before the background, (B, H, W, 3) uint8 RGB."""
        numbers = self._check(indices)
        parts = np.split(numbers, range(_AT_ONCE, len(numbers), _AT_ONCE))
        return np.concatenate([paint(_studio(self), self._arrange(part), empty=True) for part in parts])

    def joints(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The joints (B, 18, 3) that `render` returns, without the pictures: many times faster."""
        numbers = self._check(indices)
        parts = np.split(numbers, range(_AT_ONCE, len(numbers), _AT_ONCE))
        return np.concatenate([self._arrange(part).joints for part in parts])

    def write(self, folder: str | Path, *, train_fraction: float = 0.5, quality: int = 92, workers: int = 1) -> Split:
        """Write all pictures as a data set in Market-1501's layout; see `generated.writing.write`."""
        from partalign.datasets.generated.writing import write  # it needs Pillow, the rest only numpy

        return write(self, Path(folder), train_fraction=train_fraction, quality=quality, workers=workers)

    def _who(self, numbers: np.ndarray) -> np.ndarray:
        return numbers // self.crops_per_person

    def _where(self, numbers: np.ndarray) -> np.ndarray:
        # persons start at different cameras: with few crops, all cameras still see as many
        return (numbers % self.crops_per_person + self._who(numbers)) % self.cameras

    def _check(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        numbers = np.asarray(indices)
        if numbers.ndim != 1 or not (numbers.dtype.kind in "iu" or numbers.size == 0):
            raise DatasetError(f"expected a list of picture numbers, found {indices!r:.60}")
        wrong = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(wrong):
            raise DatasetError(f"expected picture numbers from 0 to {len(self) - 1}, found {wrong[0]}")
        return numbers.astype(np.int64)

    def _arrange(self, numbers: np.ndarray) -> Arrangement:
        person, camera = self._who(numbers), self._where(numbers)
        # whoever walks away from a camera does so in all of its pictures, as in one passage
        away = Draws(self.seed, "passage", person * 16 + camera).chance("away", 0.5)
        draws = Draws(self.seed, "picture", numbers)
        size = (self.height, self.width)
        return arrange(_studio(self), draws, person, camera, away, size, self.misalignment, self.occlusion)


@lru_cache(maxsize=4)
def _studio(world: World) -> Studio:
    return Studio.build(world.seed, world.persons, world.group_size, world.cameras, world.height, world.width)


def settings(world: World) -> dict[str, int | float]:
    """A world's settings by name, as `world.json` keeps them."""
    return {field.name: getattr(world, field.name) for field in fields(world)}

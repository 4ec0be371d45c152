"""Which crops make up which batch: a pure function of (seed, iteration), so that resuming needs no random state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from partalign.errors import TrainingError


class Sampler(Protocol):
    """Something that names the rows of each batch."""

    def batch(self, iteration: int) -> np.ndarray:
        """Rows of the training set that form batch number `iteration`."""
        ...


class BalancedSampler:
    """P persons x K crops (section 5: 18 x 10 = 180). Over one epoch every person comes once.

    A person with fewer than K crops gives some of them twice; one with a single crop has no positive and is left out.
    cameras: of each row, where a person's crops are to be drawn as evenly over its cameras as they go.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        persons: int,
        crops: int,
        seed: int = 0,
        cameras: Sequence[int] | np.ndarray | None = None,
    ):
        self._members = [rows for rows in _rows_of(labels) if len(rows) > 1]
        self._cameras = None if cameras is None else np.asarray(cameras)
        if len(self._members) < persons:
            raise TrainingError(
                f"batches of {persons} persons need as many with at least two crops, found {len(self._members)}: "
                "lower batch.persons or add crops"
            )
        self._persons, self._crops, self._seed = persons, crops, seed

    def batch(self, iteration: int) -> np.ndarray:
        """Rows of batch number `iteration`, person by person."""
        epoch, place = divmod(iteration, len(self._members) // self._persons)
        order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._members))
        chosen = order[place * self._persons :][: self._persons]
        draw = np.random.default_rng([self._seed, 2, iteration])
        return np.concatenate([self._draw(draw, self._members[person]) for person in chosen])

    def _draw(self, draw: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        rounds = [self._shuffled(draw, rows) for _ in range(-(-self._crops // len(rows)))]
        return np.concatenate(rounds)[: self._crops]

    def _shuffled(self, draw: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        rows = draw.permutation(rows)
        if self._cameras is None:
            return rows
        # The first crop of each camera, then the second of each, ...; cameras in a random order.
        cameras = self._cameras[rows]
        turn = np.array([np.count_nonzero(cameras[:i] == camera) for i, camera in enumerate(cameras)])
        return rows[np.argsort(turn, kind="stable")]


class IdentitySampler:
    """The released code's batches: persons shuffled, all crops of each in a row, cut every `size` crops."""

    def __init__(self, labels: Sequence[int] | np.ndarray, size: int, seed: int = 0):
        self._members = _rows_of(labels)
        self._rows, self._size, self._seed = len(labels), size, seed
        if self._rows < size or len(self._members) < 2:
            raise TrainingError(
                f"batches of {size} crops need as many and two persons, found {self._rows} crops of "
                f"{len(self._members)}: lower batch.persons"
            )

    def batch(self, iteration: int) -> np.ndarray:
        """Rows of batch number `iteration`."""
        epoch, place = divmod(iteration, self._rows // self._size)
        draw = np.random.default_rng([self._seed, 3, epoch])
        order = draw.permutation(len(self._members))
        rows = np.concatenate([draw.permutation(self._members[person]) for person in order])
        return rows[place * self._size :][: self._size]


def _rows_of(labels: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    labels = np.asarray(labels)
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]

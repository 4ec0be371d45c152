"""Random numbers that depend on nothing but (seed, what is drawn, for whom).

One draw is a hash of its address (SplitMix64, Steele et al. 2014), so the numbers of picture 17 are the same whether it
is drawn alone, in a batch, in any order or by another process; and a draw added later changes none of the others.
"""

from __future__ import annotations

import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: (any shape) uint64 -> uint64, a bijection with good avalanche."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Draws:
    """Draws for a batch of things of one kind ("picture", "person", "camera"), row by row.

    Each method takes a name first: equal names give equal numbers. They return (B,) or, with `size`, (B, size) float64.
    """

    def __init__(self, seed: int, kind: str, rows: np.ndarray):
        kind_key = _mix(np.array([(seed << 32) ^ zlib.crc32(kind.encode())], np.uint64) + _GOLDEN)
        self._keys = _mix(kind_key + (np.asarray(rows, np.uint64) + np.uint64(1)) * _GOLDEN)

    def take(self, rows: np.ndarray) -> Draws:
        """The draws of the given rows."""
        return self._with(self._keys[rows])

    def branch(self, name: str) -> Draws:
        """Draws for a second thing in each row: the same names give other numbers."""
        return self._with(_mix(self._keys ^ np.uint64(zlib.crc32(name.encode()))))

    def _with(self, keys: np.ndarray) -> Draws:
        other = object.__new__(Draws)
        other._keys = keys
        return other

    def __len__(self) -> int:
        return len(self._keys)

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, size: int | None = None) -> np.ndarray:
        """Uniform in [low, high)."""
        stream = _mix(np.array([zlib.crc32(name.encode())], np.uint64) + _GOLDEN)
        counter = np.arange(1, (size or 1) + 1, dtype=np.uint64) * _GOLDEN
        bits = _mix(_mix(self._keys + stream)[:, None] + counter)
        numbers = low + (high - low) * ((bits >> np.uint64(11)) * 2.0**-53)
        return numbers if size else numbers[:, 0].copy()

    def normal(self, name: str, mean: float = 0.0, sigma: float = 1.0, size: int | None = None) -> np.ndarray:
        """Nearly normal, never further than 3.5 sigma from the mean: the sum of four uniform draws."""
        u = self.uniform(name, size=4 * (size or 1)).reshape(len(self), size or 1, 4)
        total = u[..., 0] + u[..., 1] + u[..., 2] + u[..., 3]
        numbers = mean + sigma * np.sqrt(3.0) * (total - 2.0)
        return numbers if size else numbers[:, 0].copy()

    def chance(self, name: str, probability: float | np.ndarray) -> np.ndarray:
        """True with the given probability, (B,) bool."""
        return self.uniform(name) < probability

    def choice(self, name: str, weights: tuple[float, ...]) -> np.ndarray:
        """A number from 0 to len(weights) - 1, drawn in proportion to the weights, (B,) int."""
        edges = np.cumsum(weights) / np.sum(weights)
        return np.minimum(np.searchsorted(edges, self.uniform(name), side="right"), len(weights) - 1)

    def order(self, name: str, length: int) -> np.ndarray:
        """A random order of 0 .. length - 1, (B, length) int."""
        return np.argsort(self.uniform(name, size=length), axis=1, kind="stable")


class Table:
    """Base of dataclasses whose fields are arrays with one row for each thing."""

    def take(self, rows: np.ndarray):
        """The given rows, in the given order."""
        columns = vars(self).items()
        return type(self)(**{name: c.take(rows) if isinstance(c, Table) else c[rows] for name, c in columns})

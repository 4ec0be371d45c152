"""Pictures that were sent to search by, remembered for a while in memory, never on a disk."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from PIL import Image

from partalign.web.limits import Limits


class UnknownQueryError(Exception):
    """A query that was never made, or has been forgotten."""


@dataclass(frozen=True, eq=False)
class Query:
    """Pictures of one person and their descriptors (Q, D)."""

    pictures: tuple[Image.Image, ...]
    vectors: np.ndarray
    until: float


class Queries:
    """Remembers at most `Limits.queries` pictures, each for `Limits.lifetime` seconds; the oldest are forgotten."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic):
        self._limits, self._clock = limits, clock
        self._kept: OrderedDict[str, Query] = OrderedDict()
        self._lock = Lock()

    def keep(self, pictures: list[Image.Image], vectors: np.ndarray) -> str:
        """Remember a query; returns its name, which nobody can guess."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[name] = Query(tuple(pictures), vectors, self._clock() + self._limits.lifetime)
            held = sum(len(query.pictures) for query in self._kept.values())
            while self._kept and (held > self._limits.queries or self._oldest.until <= self._clock()):
                held -= len(self._kept.popitem(last=False)[1].pictures)
        return name

    def find(self, name: str) -> Query:
        """Return a query. Raises UnknownQueryError."""
        query = self._kept.get(name)
        if query is None or query.until <= self._clock():
            raise UnknownQueryError
        return query

    @property
    def _oldest(self) -> Query:
        return next(iter(self._kept.values()))

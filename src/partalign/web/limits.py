"""How much one client, and all of them together, may ask for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock


class BusyError(Exception):
    """Too many requests wait for the network."""


@dataclass(frozen=True)
class Limits:
    """What a request may hold, and how often one may come.

    picture_bytes, pixels: of one picture of a query; pictures: of one query; upload_bytes: of a request with pictures;
    body_bytes: of any other; arrival: seconds within which all of a request must come. rate: requests a second of one
    client, burst: how many at once. attempts: wrong tokens a minute from one address. waiting: requests that may wait
    for the network. queries: pictures of queries that are remembered; lifetime: for how many seconds.
    """

    picture_bytes: int = 16 * 2**20
    pictures: int = 8
    pixels: int = 32_000_000
    upload_bytes: int = 32 * 2**20
    body_bytes: int = 64 * 2**10
    arrival: float = 120.0
    rate: float = 50.0
    burst: int = 200
    attempts: int = 10
    waiting: int = 16
    queries: int = 100
    lifetime: float = 1800.0


class RateLimit:
    """A bucket of `burst` requests for each client, refilled at `rate` a second; the least recent are forgotten."""

    def __init__(self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic, clients: int = 10_000):
        self._rate, self._burst, self._clock, self._clients = rate, float(burst), clock, clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def wait(self, client: str, cost: float = 1.0) -> float:
        """Take from the client's bucket; returns 0, or the seconds until there is enough in it (nothing is taken)."""
        with self._lock:
            now = self._clock()
            left, since = self._buckets.pop(client, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._rate)
            short = cost - left
            self._buckets[client] = (left if short > 0 else left - cost, now)
            while len(self._buckets) > self._clients:
                self._buckets.popitem(last=False)
        return max(short, 0.0) / self._rate


class Turns:
    """One at a time, and at most `waiting` others in line: a network uses all cores, two at once only hold memory."""

    def __init__(self, waiting: int):
        self._places, self._lock = BoundedSemaphore(1 + waiting), Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn. Raises BusyError where the line is full."""
        if not self._places.acquire(blocking=False):
            raise BusyError
        try:
            with self._lock:
                yield
        finally:
            self._places.release()

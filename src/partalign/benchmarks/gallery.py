"""A gallery on a disk against plain numpy: a matrix product in memory, and the best by argpartition.

The gallery's times include everything from the call to its records: filters, the database, and reading the matched
records. numpy has vectors in memory and filters as arrays, and gives row numbers only. Descriptors are random, queries
lie near some of them. Needs twice the descriptors' size on the disk for temporary files and in memory: 5 GB for a
million.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from partalign.benchmarks.measure import Bar, Comparison, Cost, compare, once
from partalign.errors import BenchmarkError
from partalign.gallery import Filter, Gallery, ModelName, Record, open_gallery

CAMERAS = 8
PRODUCT, MASKED, BUDGET, ALONE = "product, argpartition", "rows by mask", "2 s, 3 GiB", "alone"
_CHUNK = 10_000
_OPEN_SECONDS = 2.0
_OPEN_BYTES = 3 * 2**30

# Run in a process of its own: opens, searches once, and says how long that took and how much memory.
_OPEN = """
import json, sys, time
import numpy as np
from partalign.gallery import ModelName, open_gallery
import partalign.gallery.embedded
folder, dimension = sys.argv[1], int(sys.argv[2])
wall, cpu = time.perf_counter(), time.process_time()
gallery = open_gallery(folder, model=ModelName("random", "1", dimension))
count = gallery.count()
opened = time.perf_counter() - wall, time.process_time() - cpu
query = np.zeros(dimension, np.float32); query[0] = 1
found = gallery.search(query, limit=50)
searched = time.perf_counter() - wall - opened[0], time.process_time() - cpu - opened[1]
try:  # the system's ru_maxrss counts what the parent had
    lines = open("/proc/self/status").read().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
except OSError:
    peak = None
print(json.dumps({"count": count, "found": len(found), "open": opened, "search": searched, "peak": peak}))
"""


def run(
    sizes: tuple[int, ...] = (100_000,),
    dimension: int = 512,
    queries: int = 100,
    count: int = 50,
    rounds: int = 3,
    threads: int = 1,
) -> list[Comparison]:
    """Make a gallery of each size and search it; `count`: best rows of a search. Raises BenchmarkError."""
    lines: list[Comparison] = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="partalign-bench-") as folder:
            lines += _one_size(Path(folder) / "gallery", size, dimension, queries, count, rounds, threads)
    return lines


def _one_size(
    folder: Path, size: int, dimension: int, queries: int, count: int, rounds: int, threads: int
) -> list[Comparison]:
    vectors, cameras, query = data(size, dimension, queries)
    what = f"{size:,} x {dimension}"
    with open_gallery(folder, model=ModelName("random", "1", dimension), create=True) as gallery:
        lines = [
            once(f"add {what}, {_CHUNK:,} at a time", ALONE, partial(fill, gallery, vectors, cameras), threads=threads)
        ]
        lines.append(_opened(folder, what, size, dimension))
        chosen = cameras == 3
        recent = np.arange(size) >= size - size // 10
        cases: list[tuple[str, str, np.ndarray, Filter, np.ndarray | None, Bar]] = [
            ("1 query", PRODUCT, query[:1], Filter(), None, Bar(speed=1)),
            (f"{queries} queries", PRODUCT, query, Filter(), None, Bar(speed=1)),
            ("1 query, 1 camera of 8", MASKED, query[:1], Filter(cameras=("c3",)), chosen, Bar()),
            ("1 query, not that camera", MASKED, query[:1], Filter(not_cameras=("c3",)), ~chosen, Bar()),
            ("1 query, last tenth in time", MASKED, query[:1], Filter(since=size - size // 10), recent, Bar()),
        ]
        for work, against, asked, where, mask, bar in cases:
            lines.append(
                compare(
                    f"best {count} of {what}, {work}",
                    against,
                    partial(by_gallery, gallery, asked, where, count),
                    partial(by_numpy, vectors, asked, mask, count),
                    tolerance=1e-5,
                    rounds=rounds,
                    threads=threads,
                    bar=bar,
                )
            )
    return lines


def data(size: int, dimension: int, queries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return descriptors (N, D), their cameras (N,), and queries (Q, D) near some of them; all of unit length."""
    draw = np.random.default_rng(0)
    vectors = np.empty((size, dimension), np.float32)
    for first in range(0, size, _CHUNK):
        part = vectors[first : first + _CHUNK]
        draw.standard_normal(out=part, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    near = vectors[draw.integers(0, size, queries)] + 0.8 * vectors[draw.integers(0, size, queries)]
    return vectors, draw.integers(0, CAMERAS, size), near / np.linalg.norm(near, axis=1, keepdims=True)


def fill(gallery: Gallery, vectors: np.ndarray, cameras: np.ndarray) -> tuple[ArrayLike, ...]:
    """Add all descriptors, with records, some thousand at a time."""
    for first in range(0, len(vectors), _CHUNK):
        rows = range(first, min(first + _CHUNK, len(vectors)))
        records = [
            Record(f"{row:08}", camera=f"c{cameras[row]}", time=float(row), source=f"{row}.jpg", tracklet=str(row // 8))
            for row in rows
        ]
        gallery.add(records, vectors[first : first + _CHUNK])
    return ()


def by_gallery(gallery: Gallery, query: np.ndarray, where: Filter, count: int) -> tuple[ArrayLike, ArrayLike]:
    """Return the similarities (Q, K), best first, and the sums (Q,) of the row numbers that were found."""
    found = gallery.search_many(query, where, limit=count)
    scores = np.array([[match.similarity for match in matches] for matches in found])
    return scores, np.array([sum(int(match.record.id) for match in matches) for matches in found])


def by_numpy(
    vectors: np.ndarray, query: np.ndarray, mask: np.ndarray | None, count: int
) -> tuple[ArrayLike, ArrayLike]:
    """Return the same by a product with all rows (or those of the mask) and argpartition."""
    rows = None if mask is None else np.flatnonzero(mask)
    scores = query @ (vectors if rows is None else vectors[rows]).T
    best = np.argpartition(scores, scores.shape[1] - count, axis=1)[:, -count:]
    found = np.sort(np.take_along_axis(scores, best, axis=1), axis=1)[:, ::-1]
    return found, (best if rows is None else rows[best]).sum(axis=1)


def _opened(folder: Path, what: str, size: int, dimension: int) -> Comparison:
    """Open a gallery in a new process and search it once. Raises BenchmarkError where that finds too little."""
    command = [sys.executable, "-c", _OPEN, str(folder), str(dimension)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # noqa: S603
    if told["count"] != size or told["found"] != min(50, size):
        raise BenchmarkError(f"open {what}: expected {size:,} records, found {told['count']:,}: repair the gallery")
    wall, cpu = told["open"]
    ours, budget = Cost(wall, cpu, told["peak"]), Cost(_OPEN_SECONDS, _OPEN_SECONDS, None)
    ratio = _OPEN_SECONDS / wall
    bar = Bar(speed=1, peak=_OPEN_BYTES)
    return Comparison(f"open {what}, then search", BUDGET, 1, None, ours, budget, ratio, (ratio, ratio), bar)

"""Two forms of one computation: do they agree, which is faster, what does each need in memory.

Times on a shared machine drift by more than the forms differ, so the forms run in turn in one process, and what is
reported is the median of the ratios of each round. Knows nothing of what is computed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from partalign.errors import BenchmarkError

Results = Sequence[ArrayLike]

Step = Callable[[], Results]
"""One run of the work; returns the arrays by which two forms are compared."""

TURN_SECONDS = 0.1
"""A short step is repeated for about this long before the other form has its turn."""

LONG_SECONDS = (5.0, 20.0)
"""Of a step that takes longer than the first, the run that is checked also tells the memory; of one that takes longer
than the second, it is a round, too: there is nothing to warm up."""


@dataclass(frozen=True)
class Bar:
    """What a comparison should reach: least speed-up, least saving of memory, most memory (bytes); None is no bar."""

    speed: float | None = None
    saving: float | None = None
    peak: int | None = None

    def __str__(self) -> str:
        words = {f">= {self.speed or 0:.3g}x": self.speed, f"1/{self.saving or 1:.3g} memory": self.saving}
        words[f"< {(self.peak or 0) / 2**20:.0f} MiB"] = self.peak
        return "\n".join(word for word, value in words.items() if value is not None)


@dataclass(frozen=True)
class Cost:
    """Medians of one call: wall-clock and processor seconds; peak: bytes the process grew by, None where unknown."""

    wall: float
    cpu: float
    peak: int | None

    @property
    def seconds(self) -> dict[str, float]:
        """Both by name, as a turn has them."""
        return {"wall": self.wall, "cpu": self.cpu}


@dataclass(frozen=True)
class Comparison:
    """One line of a benchmark.

    what: the work. against: the form of reference. difference: `largest_difference` of the results.
    ratio: median over the rounds of the reference's time by ours, in processor seconds with one thread and in
    wall-clock seconds with more; spread: smallest and largest of them. Without a reference it is None.
    axis, size: of what grows from line to line, such as "crops in a batch", and how much of it there is.
    """

    what: str
    against: str
    threads: int
    difference: float | None
    ours: Cost
    reference: Cost | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    bar: Bar = Bar()
    axis: str | None = None
    size: int | None = None

    @property
    def saving(self) -> float | None:
        """The reference's peak memory by ours; None where it is unknown."""
        if self.reference is None or self.reference.peak is None or self.ours.peak is None:
            return None
        return self.reference.peak / max(self.ours.peak, 1)

    @property
    def reached(self) -> bool | None:
        """Whether every bar is reached; None where there is none, or memory could not be measured."""
        values = (self.ratio, self.saving, None if self.ours.peak is None else -self.ours.peak)
        least = (self.bar.speed, self.bar.saving, None if self.bar.peak is None else -self.bar.peak)
        pairs = [(value, bar) for value, bar in zip(values, least, strict=True) if bar is not None]
        if not pairs or any(value is None for value, _ in pairs):
            return None
        return all(value >= bar for value, bar in pairs)  # type: ignore[operator]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as numbers and text."""
        return asdict(self) | {"saving": self.saving, "reached": self.reached}


def compare(
    what: str,
    against: str,
    ours: Step,
    reference: Step,
    *,
    tolerance: float | None = 1e-4,
    threads: int = 1,
    rounds: int = 7,
    bar: Bar = Bar(),
) -> Comparison:
    """Check that the two forms agree, run them in turn `rounds` times, then each once more for its memory.

    Steps that take long, see `LONG_SECONDS`, run less often.

    tolerance: as `largest_difference`; None for a reference that computes something else, such as a part of the work.
    Raises BenchmarkError where the forms do not agree.
    """
    clock: Literal["cpu", "wall"] = "cpu" if threads == 1 else "wall"
    with torch_threads(threads):
        results, own_first = _first(ours)
        expected, other_first = _first(reference)
        difference = largest_difference(what, results, expected, tolerance)
        del results, expected
        long = min(own_first.wall, other_first.wall) > LONG_SECONDS[1]
        turns = [(own_first.seconds, other_first.seconds)] if long else []
        turns += [(_turn(ours), _turn(reference)) for _ in range(rounds - len(turns))]
        own_cost = _cost(ours, [own for own, _ in turns], own_first)
        reference_cost = _cost(reference, [other for _, other in turns], other_first)
    ratios = [other[clock] / own[clock] for own, other in turns]
    ratio, spread = statistics.median(ratios), (min(ratios), max(ratios))
    return Comparison(what, against, threads, difference, own_cost, reference_cost, ratio, spread, bar)


def alone(what: str, against: str, ours: Step, reference: Step, *, threads: int = 1, bar: Bar = Bar()) -> Comparison:
    """Measure a form at a size at which its reference is too slow to time: the reference only checks it.

    Raises BenchmarkError where the forms do not agree.
    """
    with torch_threads(threads):
        difference = largest_difference(what, ours(), reference())
        cost = _cost(ours, [_turn(ours) for _ in range(3)])
    return Comparison(what, against, threads, difference, cost, bar=bar)


def once(what: str, against: str, ours: Step, *, threads: int = 1, bar: Bar = Bar()) -> Comparison:
    """Measure time and memory of a form in one call, where it takes too long for a second; nothing checks it."""
    with torch_threads(threads):
        cost = _first(ours)[1]
    return Comparison(what, against, threads, None, cost, bar=bar)


def largest_difference(what: str, found: Results, expected: Results, tolerance: float | None = 1e-4) -> float | None:
    """Return the largest difference of the arrays of results, by the largest number of each array expected.

    The reference may have fewer results than ours. Raises BenchmarkError where it is over `tolerance`; where that
    is None nothing is compared.
    """
    if tolerance is None:
        return None
    # numpy's maximum: Python's would lose a NaN.
    difference = float(np.max([_difference(what, x, y) for x, y in zip(found, expected, strict=False)]))
    if not difference <= tolerance:
        raise BenchmarkError(
            f"{what}: expected results that differ by at most {tolerance:.0e} of the largest number, found "
            f"{difference:.1e}: the times would say nothing; repair the form that is wrong"
        )
    return difference


def _difference(what: str, found: ArrayLike, expected: ArrayLike) -> float:
    found, expected = (
        np.asarray(x.detach() if isinstance(x, torch.Tensor) else x, dtype=np.float64) for x in (found, expected)
    )
    if found.shape != expected.shape:
        raise BenchmarkError(f"{what}: expected a result of shape {expected.shape}, found {found.shape}: repair it")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


def peak_bytes(step: Step) -> int | None:
    """Return by how many bytes the process grows at most during a step; None where the system (not Linux) cannot say.

    Counts whatever the step touches: tensors, arrays, workspaces of libraries, and a GPU's memory. A step that was
    never run before counts what it loads, too.
    """
    try:
        ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)  # freed memory that the process still holds
        Path("/proc/self/clear_refs").write_text("5")
        before, gpu = _status("VmRSS"), torch.cuda.is_initialized()
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated() if gpu else 0
        step()
        grown = torch.cuda.max_memory_allocated() - held if gpu else 0
        return max(_status("VmHWM") - before, 0) + grown
    except (OSError, AttributeError):
        return None


@contextmanager
def torch_threads(count: int):
    """Let torch use `count` threads; numpy's number is fixed when it is imported."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """Describe the machine and the libraries that the times depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _first(step: Step) -> tuple[Results, Cost]:
    """Run a step for the first time; with its results, what it cost."""
    results: list[Results] = []
    seconds: dict[str, float] = {}

    def timed() -> Results:
        began = time.perf_counter(), time.process_time()
        results.append(step())
        seconds.update(wall=time.perf_counter() - began[0], cpu=time.process_time() - began[1])
        return ()

    peak = peak_bytes(timed)
    if not results:  # the system cannot say how much memory it takes
        timed()
    return results[0], Cost(seconds["wall"], seconds["cpu"], peak)


def _turn(step: Step) -> dict[str, float]:
    """Seconds of one call, wall and processor; a short step is repeated, after one call that warms the caches."""
    first = _seconds(step, 1)
    return first if first["wall"] > TURN_SECONDS else _seconds(step, max(1, round(TURN_SECONDS / first["wall"])))


def _seconds(step: Step, repeats: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        step()
    return {"wall": (time.perf_counter() - wall) / repeats, "cpu": (time.process_time() - cpu) / repeats}


def _cost(step: Step, turns: Sequence[dict[str, float]], first: Cost | None = None) -> Cost:
    """Medians of the turns; a first run that was long tells the memory."""
    wall, cpu = (statistics.median(turn[clock] for turn in turns) for clock in ("wall", "cpu"))
    return Cost(wall, cpu, first.peak if first is not None and first.wall > LONG_SECONDS[0] else peak_bytes(step))


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status says nothing of {name}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())

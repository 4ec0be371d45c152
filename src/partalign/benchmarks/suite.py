"""The benchmarks by name, and their results as a table for people and as JSON for comparison over time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from partalign import __version__
from partalign.benchmarks import (
    decode,
    end_to_end,
    engines,
    gallery,
    growth,
    http,
    loss,
    network,
    ranking,
    reranking,
    scale,
    sketch,
    training,
)
from partalign.benchmarks.http import Load
from partalign.benchmarks.measure import Comparison, Cost, machine
from partalign.progress import say

BENCHMARKS: dict[str, Callable[..., list[Comparison]]] = {
    "loss": loss.run,
    "sketch": sketch.run,
    "network": network.run,
    "training": training.run,
    "decode": decode.run,
    "end-to-end": end_to_end.run,
    "ranking": ranking.run,
    "reranking": reranking.run,
    "gallery": gallery.run,
}

LONG: dict[str, Callable[..., list[Comparison]]] = {
    "training-180": training.long,
    "engines": engines.run,
    "gallery-million": partial(gallery.run, sizes=(1_000_000,)),
    "growth": growth.run,
    "scale": scale.run,
}
"""Run only where they are asked for by name."""

LOADS: dict[str, Callable[..., Iterator[Load]]] = {"http": http.run}
"""A server under load: compared with nothing, and run only by name, too."""

OF_FILES = ("decode", "end-to-end")
"""Those that read crops."""

Lines = Sequence[Comparison] | Sequence[Load]


def run(
    names: Sequence[str] = (), crops: Path | None = None, seconds: float | None = None, **options: Any
) -> Iterator[tuple[str, Lines]]:
    """Run the benchmarks of these names, by default `BENCHMARKS`, and yield each with its lines as it is done.

    crops: a folder of crops for those that read files. seconds: how long each kind of load lasts. options: `rounds`,
    `threads`. Where they are None a benchmark keeps its own; a load has no rounds and threads, the others no seconds.
    Raises BenchmarkError where a form does not agree with its reference, or a server answers nothing.
    """
    options = {name: value for name, value in options.items() if value is not None}
    names = names or tuple(BENCHMARKS)
    for number, name in enumerate(names, start=1):
        say(f"{name} ({number} of {len(names)})")
        if name in LOADS:
            yield name, list(LOADS[name]() if seconds is None else LOADS[name](seconds=seconds))
        else:
            own = {"crops": crops} if name in OF_FILES else {}
            yield name, (BENCHMARKS | LONG)[name](**own, **options)


def table(name: str, lines: Lines) -> Table:
    """Return one benchmark's results as a table, one row for each line."""
    loads = [line for line in lines if isinstance(line, Load)]
    return (
        _loads(name, loads) if loads else _comparisons(name, [line for line in lines if isinstance(line, Comparison)])
    )


def _comparisons(name: str, comparisons: Sequence[Comparison]) -> Table:
    threads = {line.threads for line in comparisons}
    times = " and ".join(
        "processor time of 1 thread" if count == 1 else f"wall-clock time of {count} threads" for count in threads
    )
    caption = f"{times}, medians; memory: what the process grows by; under a ratio: smallest and largest of the rounds"
    result = Table(title=name, caption=caption, show_lines=True, box=SIMPLE)
    result.add_column("what, against", min_width=28)
    for heading in ("ours", "reference", "ratio", "bar"):
        result.add_column(heading, justify="right")
    for line in comparisons:
        result.add_row(f"{line.what}\n  {line.against}", *_figures(line))
    return result


def _loads(name: str, loads: Sequence[Load]) -> Table:
    caption = f"wall-clock time; {loads[0].clients} clients, on the server's machine"
    result = Table(title=name, caption=caption, box=SIMPLE)
    result.add_column("what")
    for heading in ("answers", "a second", "p50", "p99", "errors"):
        result.add_column(heading, justify="right")
    for load in loads:
        p50, p99 = (f"{_digits(1e3 * load.percentile(share))} ms" for share in (50, 99))
        answers = len(load.seconds)
        errors = f"[red]{load.errors:,}[/]" if load.errors else "0"
        rate = _digits(answers / load.lasted)
        result.add_row(load.what, f"{answers:,}", rate, p50, p99, errors)
    return result


def to_json(results: Mapping[str, Lines], note: str = "") -> str:
    """Return everything that was measured, in seconds and bytes, with the date, the machine, and a note."""
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": note,
        "partalign": __version__,
        "machine": machine(),
        "benchmarks": {name: [line.as_dict() for line in lines] for name, lines in results.items()},
    }
    return json.dumps(content, indent=2)


def _figures(line: Comparison) -> list[str]:
    """Cells of two lines: ours, reference (time, memory), ratio (and its spread), verdict (and the bar)."""
    ratio = "-"
    if line.ratio is not None and line.spread is not None:
        ratio = f"{_digits(line.ratio)}x\n{_digits(line.spread[0])}-{_digits(line.spread[1])}"
    verdict = {True: "[green]reached[/]\n", False: "[red]missed[/]\n", None: ""}[line.reached]
    return [_cost(line.ours, line.threads), _cost(line.reference, line.threads), ratio, verdict + str(line.bar)]


def _cost(cost: Cost | None, threads: int) -> str:
    if cost is None:
        return "-"
    seconds = cost.cpu if threads == 1 else cost.wall
    time = f"{_digits(seconds)} s" if seconds >= 1 else f"{_digits(1e3 * seconds)} ms"
    return time if cost.peak is None else f"{time}\n{_digits(cost.peak / 2**20)} MiB"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

"""partalign bench."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveFloat, PositiveInt


def bench(
    *names: Literal[
        "loss",
        "sketch",
        "network",
        "training",
        "decode",
        "end-to-end",
        "ranking",
        "reranking",
        "gallery",
        "training-180",
        "engines",
        "gallery-million",
        "growth",
        "scale",
        "http",
    ],
    threads: PositiveInt | None = None,
    rounds: PositiveInt | None = None,
    seconds: PositiveFloat | None = None,
    crops: Path | None = None,
    json_: Annotated[Path | None, Parameter(name="--json")] = None,
    note: str = "",
    plot: Path | None = None,
) -> None:
    """Time the fast forms against straightforward ones in the same run, after checking that both agree.

    Example: partalign bench loss sketch --json bench.json

    Args:
        names: which benchmarks; by default all but training-180 (the paper's batch: some minutes, 9 GB of memory),
            engines (needs the extras onnx and openvino), gallery-million (minutes, 5 GB of memory, 3 GB of disk),
            growth (some minutes), scale (half an hour on two cores, 5 GB) and http (some minutes,
            needs the extra web)
        threads: by default 1, and 2 where the whole network describes crops
        rounds: how often the two forms take turns; by default 1 to 7, by the length of a turn
        seconds: how long the clients of http ask, for each kind of search; by default 60
        crops: a folder of crops for decode and end-to-end; by default generated people
        json_: also write everything, with the date and a description of the machine, to this file
        note: words to go into that file, such as what else ran at the time
        plot: also measure how time and memory grow, and draw the curves into this folder; needs the extra plot
    """
    # numpy reads this once, when it is imported.
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads or 1)

    from rich.console import Console

    from partalign.benchmarks import curves, suite
    from partalign.files import atomic_file
    from partalign.progress import say

    results = {}
    asked = names or tuple(suite.BENCHMARKS)
    if plot is not None and "growth" not in asked:
        asked = (*asked, "growth")
    for name, lines in suite.run(asked, crops, seconds, threads=threads, rounds=rounds):
        results[name] = lines
        Console().print(suite.table(name, lines))
    if json_ is not None:
        with atomic_file(json_) as file:
            file.write(suite.to_json(results, note).encode())
    if plot is not None:
        plot.mkdir(parents=True, exist_ok=True)
        grown = [line.as_dict() for line in results["growth"]]
        for path in curves.save(grown, plot):
            say(str(path))

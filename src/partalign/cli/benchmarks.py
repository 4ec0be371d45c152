"""partalign bench."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt


def bench(
    *names: Literal["loss", "sketch", "network", "ranking", "reranking", "engines", "gallery", "scale", "http"],
    threads: PositiveInt | None = None,
    rounds: PositiveInt | None = None,
    json_: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Time the fast forms against straightforward ones in the same run, after checking that both agree.

    Example: partalign bench loss sketch --json bench.json

    Args:
        names: which benchmarks; by default all but engines (needs the extras onnx and openvino), gallery (minutes,
            5 GB of memory and 3 GB of disk), scale (half an hour on two cores, 5 GB) and http (half a minute, needs
            the extra web)
        threads: by default 1, and 2 for embedding with the whole network
        rounds: how often the two forms take turns; by default 3 to 7, by the length of a turn
        json_: also write everything, with the date and a description of the machine, to this file
    """
    # numpy reads this once, when it is imported.
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads or 1)

    from rich.console import Console

    from partalign.benchmarks import suite
    from partalign.files import atomic_file

    results = {}
    for name, lines in suite.run(names, threads=threads, rounds=rounds):
        results[name] = lines
        Console().print(suite.table(name, lines))
    if json_ is not None:
        with atomic_file(json_) as file:
            file.write(suite.to_json(results).encode())

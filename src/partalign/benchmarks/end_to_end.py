"""From picture files to descriptors in a file, against the network alone.

Ours: `Embedder.embed` and `Embeddings.save`, as `partalign embed` does: reading, resizing, the network and writing.
Reference: the same engine on the same pixels, which lie in memory already.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from partalign.benchmarks.decode import jpg_files
from partalign.benchmarks.measure import Bar, Comparison, compare, torch_threads
from partalign.crops import Crop
from partalign.embedding import Embedder
from partalign.engines import Engine, EngineName, load_engine
from partalign.engines.exported import is_installed
from partalign.images import read_batch

AGAINST = "network alone"
_BAR = Bar(speed=1 / 1.1)


def run(
    model: str | Path | None = None,
    engines: Sequence[EngineName] = ("torch", "openvino"),
    crops: Path | None = None,
    count: int = 128,
    rounds: int = 5,
    threads: int = 2,
) -> list[Comparison]:
    """Describe `count` crops with the shipped model or another, in every engine that is installed.

    crops: a folder of them; by default generated people. Raises BenchmarkError, WeightsError.
    """
    lines = []
    with tempfile.TemporaryDirectory(prefix="partalign-bench-") as folder, jpg_files(crops, count) as paths:
        for name in engines:
            if name == "openvino" and not is_installed(name):
                continue
            with torch_threads(threads):
                engine = load_engine(model, name)
                pixels = read_batch(paths, engine.input_size)
                whole = partial(to_file, Embedder(engine), [Crop(path) for path in paths], Path(folder) / "out.npz")
                what = f"files to file, {name}, {len(paths)} crops"
                alone = partial(network_alone, engine, pixels)
                lines.append(compare(what, AGAINST, whole, alone, rounds=rounds, threads=threads, bar=_BAR))
    return lines


def to_file(embedder: Embedder, crops: Sequence[Crop], out: Path) -> tuple[ArrayLike]:
    """Write the descriptors of the crops to a file, and return them."""
    found = embedder.embed(crops)
    found.save(out)
    return (found.vectors,)


def network_alone(engine: Engine, pixels: np.ndarray, batch: int = 64) -> tuple[ArrayLike]:
    """Return the descriptors of pixels (N, H, W, 3), as many at a time as `Embedder` takes."""
    return (np.concatenate([engine(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]),)

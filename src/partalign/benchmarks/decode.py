"""Picture files to network input, against Pillow and torch crop by crop.

Ours: `read_batch` into one array of 8-bit numbers, turned into network input at once; and `Pictures` where it has the
crops in its cache, as in all passes of a training but the first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from partalign.benchmarks.measure import Comparison, compare
from partalign.datasets.folder import find_crops
from partalign.datasets.generated import World
from partalign.errors import BenchmarkError
from partalign.images import INPUT_SIZE, MEAN_BGR, Pictures, read_batch
from partalign.model.input import network_input

AGAINST = "Pillow, crop by crop"


def run(crops: Path | None = None, count: int = 256, rounds: int = 5, threads: int = 1) -> list[Comparison]:
    """Read `count` jpg files, those of generated people (128 x 64) or of a folder `crops`. Raises BenchmarkError."""
    with jpg_files(crops, count) as paths:
        pictures = Pictures(paths, threads=threads)
        cases = [("jpg to network input", partial(ours, paths)), ("again, from the cache", partial(cached, pictures))]
        return [
            compare(
                f"{what}, {len(paths)} crops",
                AGAINST,
                form,
                partial(one_by_one, paths),
                tolerance=1e-6,
                rounds=rounds,
                threads=threads,
            )
            for what, form in cases
        ]


@contextmanager
def jpg_files(folder: Path | None, count: int) -> Iterator[list[Path]]:
    """Yield paths of picture files: of the first in a folder, or of generated people in a temporary one."""
    if folder is not None:
        paths = [crop.path for crop in find_crops([folder])][:count]
        if not paths:
            raise BenchmarkError(f"{folder}: expected crops, found none: name another folder")
        yield paths
        return
    with tempfile.TemporaryDirectory(prefix="partalign-bench-") as temporary:
        paths = [Path(temporary) / f"{number:05}.jpg" for number in range(count)]
        different = min(count, 64)  # to draw a person takes longer than to read one
        pixels, _ = World(persons=different, crops_per_person=1, cameras=1).render(np.arange(different))
        for number, path in enumerate(paths):
            Image.fromarray(pixels[number % different]).save(path, quality=92)
        yield paths


def ours(paths: Sequence[Path]) -> tuple[Tensor]:
    """Return network input (B, 3, H, W)."""
    return (network_input(read_batch(paths)),)


def cached(pictures: Pictures) -> tuple[Tensor]:
    """Return the same of pictures that were read before."""
    return (network_input(pictures.batch(range(len(pictures)))),)


def one_by_one(paths: Sequence[Path]) -> tuple[Tensor]:
    """Return the same, each crop opened, resized and made a float tensor, all stacked at the end."""
    height, width = INPUT_SIZE
    mean = torch.tensor(MEAN_BGR)[:, None, None]
    tensors = []
    for path in paths:
        picture = Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        tensors.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().flip(0) - mean)
    return (torch.stack(tensors),)

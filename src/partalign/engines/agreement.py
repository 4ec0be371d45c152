"""Whether an engine gives the descriptors of the float32 network in torch: on random pictures, people, real crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from partalign.crops import Crop
from partalign.datasets.generated import World
from partalign.engines.base import CPU_CHUNK, Engine, cosines
from partalign.engines.exported import ExportedEngine
from partalign.errors import WeightsError
from partalign.images import read_batch, resize

_SAMPLES = 11
_SINGLY_AND_BY_FIVE = (1, 5)


@dataclass(frozen=True)
class Agreement:
    """Cosines of descriptors to those of the float32 network over `crops` pictures: least, what 95% exceed, median."""

    crops: int
    least: float
    low: float
    median: float

    @classmethod
    def of(cls, found: np.ndarray, expected: np.ndarray) -> Agreement:
        """Compare the rows of two matrices (N, D); NaN wherever one of them has a NaN."""
        least, low, median = (float(value) for value in np.quantile(cosines(found, expected), (0, 0.05, 0.5)))
        return cls(len(found), least, low, median)

    def require(self, engine: ExportedEngine, what: Path | str, advice: str) -> None:
        """Raise WeightsError where an engine's descriptors are too far off: any of float32, one in twenty of int8."""
        found = self.low if engine.model.is_int8 else self.least
        if not found > engine.least_cosine:
            asked = "19 of 20 crops" if engine.model.is_int8 else "every picture"
            raise WeightsError(
                f"{what}: expected {engine.name} to agree with the network on {asked} to a cosine of "
                f"{engine.least_cosine}, found {found:.5f} (least {self.least:.5f}, median {self.median:.5f} of "
                f"{self.crops:,}): {advice}"
            )


def agreement(engine: Engine, network: Engine, check: Sequence[Crop] = (), *, samples: bool = True) -> Agreement:
    """Describe pictures by an engine and by the network, and compare.

    network: it in torch, float32. check: crops. samples: also random pictures and generated people, which are taken
    singly and by five. Raises PictureError.
    """
    found, expected = [], []
    for pixels in _batches(engine.input_size, check, samples):
        found.append(engine(pixels))
        expected.append(network(pixels))
    compared = Agreement.of(np.concatenate(found), np.concatenate(expected))
    return replace(compared, crops=len(check) + (_SAMPLES if samples else 0))


def _batches(size: tuple[int, int], check: Sequence[Crop], samples: bool) -> Iterator[np.ndarray]:
    if samples:
        pixels = sample_pictures(size)
        for batch in _SINGLY_AND_BY_FIVE:
            yield from (pixels[start : start + batch] for start in range(0, len(pixels), batch))
    for start in range(0, len(check), CPU_CHUNK):
        yield read_batch([crop.path for crop in check[start : start + CPU_CHUNK]], size)


def sample_pictures(size: tuple[int, int]) -> np.ndarray:
    """Return random pictures and generated people, (11, H, W, 3) uint8."""
    noise = np.random.default_rng(0).integers(0, 256, (_SAMPLES - 8, *size, 3), dtype=np.uint8)
    people = World(seed=0, persons=8, crops_per_person=1).render(range(8))[0]
    return np.concatenate([noise, np.stack([resize(Image.fromarray(picture), size) for picture in people])])

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
from partalign.errors import WeightsError
from partalign.images import read_batch, resize
from partalign.progress import bar
from partalign.weights.formats import in_one_line
from partalign.weights.info import read_info
from partalign.weights.onnx import read_onnx
from partalign.weights.shipped import shipped_models

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

    def require(self, engine: Engine, what: Path | str, advice: str) -> None:
        """Raise WeightsError where an engine's descriptors are too far off: any of float32, one in twenty of int8."""
        found = self.low if engine.is_int8 else self.least
        if not found > engine.least_cosine:
            asked = "19 of 20 crops" if engine.is_int8 else "every picture"
            raise WeightsError(
                f"{what}: expected {engine.name} to agree with the network on {asked} to a cosine of "
                f"{engine.least_cosine}, found {found:.5f} (least {self.least:.5f}, median {self.median:.5f} of "
                f"{self.crops:,}): {advice}"
            )


class Reference:
    """The network in torch, float32, and what it makes of the pictures that engines are compared on.

    check: crops. samples: also random pictures and generated people, which engines describe singly and by five; not for
    int8, which fits the cameras that it was calibrated for. Raises PictureError.
    """

    def __init__(self, network: Engine, check: Sequence[Crop] = (), *, samples: bool = True):
        self.check, self.samples = check, samples
        self.crops = len(check) + (_SAMPLES if samples else 0)
        self.descriptors = self._described(network)

    def agreement(self, engine: Engine) -> Agreement:
        """Say how an engine's descriptors agree."""
        return replace(Agreement.of(self._described(engine), self.descriptors), crops=self.crops)

    def _described(self, engine: Engine) -> np.ndarray:
        with bar(f"comparing {engine.name}", self.crops) as advance:
            found = []
            for pixels, new in self._batches(engine.input_size):
                found.append(engine(pixels))
                advance(new)
        return np.concatenate(found)

    def _batches(self, size: tuple[int, int]) -> Iterator[tuple[np.ndarray, int]]:
        """Yield pictures, with how many of them were not yielded before."""
        if self.samples:
            pixels = sample_pictures(size)
            for batch in _SINGLY_AND_BY_FIVE:
                parts = (pixels[start : start + batch] for start in range(0, len(pixels), batch))
                yield from ((part, len(part) if batch == 1 else 0) for part in parts)
        for start in range(0, len(self.check), CPU_CHUNK):
            part = self.check[start : start + CPU_CHUNK]
            yield read_batch([crop.path for crop in part], size), len(part)


def source_of(exported: Path, named: Path | None = None) -> Path:
    """Return the network's file that a model was exported from: as named, or one beside it, or a shipped one.

    Raises WeightsError where none of these is that version.
    """
    source = read_onnx(exported).description["source"]
    beside = {exported.with_suffix(".safetensors"), exported.with_name(f"{source['name']}.safetensors")}
    for path in [named] if named else [*beside, shipped_models().get(source["name"])]:
        if path is not None and path.is_file() and read_info(path).version == source["version"]:
            return path
    raise WeightsError(
        f"{exported}: expected the network it was exported from, {in_one_line(source['name'])} of version "
        f"{in_one_line(source['version'])}, found {'another' if named else 'none'}: give --against FILE.safetensors"
    )


def sample_pictures(size: tuple[int, int]) -> np.ndarray:
    """Return random pictures and generated people, (11, H, W, 3) uint8."""
    noise = np.random.default_rng(0).integers(0, 256, (_SAMPLES - 8, *size, 3), dtype=np.uint8)
    people = World(seed=0, persons=8, crops_per_person=1).render(range(8))[0]
    return np.concatenate([noise, np.stack([resize(Image.fromarray(picture), size) for picture in people])])

"""What every engine is: pictures in, descriptors out."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from partalign.errors import ShapeError

TorchName = Literal["torch", "torch-bf16", "compiled", "compiled-bf16"]
ExportedName = Literal["onnx", "openvino", "openvino-bf16"]
EngineName = Literal["auto", TorchName, ExportedName]

LEAST_COSINE = {
    **{"torch": 0.9999, "compiled": 0.9999, "onnx": 0.9999, "openvino": 0.9999},
    **{"torch-bf16": 0.999, "compiled-bf16": 0.999, "openvino-bf16": 0.999},
}
"""How close an engine's descriptors must be to those of the float32 network, run plainly."""

# A CPU's caches hold the maps of a few crops: 8 at a time are a tenth faster than 32 for the dilated OpenPose pair, not
# slower for the others, and take a quarter of the memory.
CPU_CHUNK = 8


class Engine(Protocol):
    """Describes pictures: a network in torch, or an exported model."""

    name: str
    input_size: tuple[int, int]
    channels: int
    is_int8: bool

    @property
    def least_cosine(self) -> float:
        """How close its descriptors must be to those of the float32 network."""
        ...

    def __call__(self, pixels: np.ndarray, /) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB -> (B, D) float32 descriptors of unit length. Raises ShapeError."""
        ...

    def check(self) -> float:
        """Return the least cosine to the float32 network's descriptors of `probe_pixels`. Raises WeightsError."""
        ...


def require_pixels(pixels: np.ndarray, size: tuple[int, int]) -> None:
    """Raise ShapeError where an array is not pictures (B, H, W, 3), uint8, of a size."""
    if pixels.shape[1:] != (*size, 3) or pixels.dtype != np.uint8:
        raise ShapeError(
            f"expected pictures (B, {size[0]}, {size[1]}, 3), uint8, found {pixels.shape}, {pixels.dtype}: resize them "
            "to the model's size"
        )


def least_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the least cosine of the rows of two matrices; NaN where one has a NaN."""
    return float(cosines(found, expected).min())


def cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of a matrix to that of another, float64; NaN where one has a NaN."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        return (found * expected).sum(1) / np.maximum(lengths, 1e-12)

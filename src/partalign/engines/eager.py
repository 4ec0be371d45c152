"""Networks in torch, on the CPU or a GPU."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from partalign.engines.base import CPU_CHUNK, LEAST_COSINE, TorchName, least_cosine, require_pixels
from partalign.errors import WeightsError
from partalign.model.device import checked_device
from partalign.model.input import network_input
from partalign.model.network import PartAlignedNetwork
from partalign.weights.formats import in_one_line
from partalign.weights.onnx import probe_pixels

GPU_CHUNK = 256
"""Crops that pass a GPU at once, as long as its memory holds them."""


class NetworkEngine:
    """A network in torch; it is put into evaluation mode, onto the device and into channels-last memory.

    name: "torch" computes as the network's weights are; "compiled" by torch.compile, on a GPU with its launches
    recorded as CUDA graphs; either with "-bf16" in half precision where that is sound (autocast). Crops go to a GPU
    from pinned memory, the next while it computes. Where memory runs out, fewer pass at once from then on. source: the
    network's file, for messages.
    """

    is_int8 = False

    def __init__(
        self,
        network: PartAlignedNetwork,
        device: str | torch.device = "cpu",
        name: TorchName = "torch",
        source: Path | str = "the network",
    ):
        self.name, self.device, self.source = name, checked_device(device), source
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.input_size, self.channels = network.input_size, network.channels
        self.chunk = CPU_CHUNK if self.device.type == "cpu" else GPU_CHUNK
        graphs = "reduce-overhead" if self.device.type == "cuda" else "default"
        self._compiled, self._half = name.startswith("compiled"), name.endswith("-bf16")
        self._forward = torch.compile(self.network, mode=graphs) if self._compiled else self.network

    @property
    def least_cosine(self) -> float:
        """How close its descriptors must be to those of the network run plainly."""
        return LEAST_COSINE[self.name]

    def __call__(self, pixels: np.ndarray, /) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB -> (B, D) float32 descriptors of unit length. Raises ShapeError, WeightsError."""
        require_pixels(pixels, self.input_size)
        found, start = [torch.empty(0, self.channels, device=self.device)], 0
        while start < len(pixels):
            try:
                found.append(self._descriptors(pixels[start : start + self.chunk]))
            except torch.OutOfMemoryError:
                if self.chunk == 1:
                    raise WeightsError(f"{self.device} lacks memory for one crop: choose another device") from None
                self.chunk //= 2
                continue
            start += len(found[-1])
        return torch.cat(found).cpu().numpy()  # here a GPU is waited for, and not before

    def check(self) -> float:
        """Return the least cosine to the network run plainly. Raises WeightsError where it is too small."""
        probe = probe_pixels(self.input_size)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler remarks on what it leaves to Python
                found = self(probe)
        except Exception as error:  # a compiler's are of many kinds
            reason = in_one_line(error, 200)
            raise WeightsError(f"{self.source}: {self.name} cannot run it ({reason}): take another --engine") from None
        if self.name == "torch":
            return 1.0
        cosine = least_cosine(found, NetworkEngine(self.network, self.device)(probe))
        if not cosine > self.least_cosine:
            raise WeightsError(
                f"{self.source}: expected {self.name} to agree with the network, found a cosine of {cosine:.5f} (least "
                f"{self.least_cosine}): take another --engine"
            )
        return cosine

    @torch.inference_mode()
    def _descriptors(self, pixels: np.ndarray) -> Tensor:
        pictures = network_input(self._sent(pixels), self.device)
        if self._compiled:  # a compiled network is one for each size of batch
            pictures = torch.nn.functional.pad(pictures, (0, 0, 0, 0, 0, 0, 0, self.chunk - len(pixels)))
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            vectors: Tensor = self._forward(pictures)
        # A copy: a graph writes what it gives next into the same memory.
        return vectors[: len(pixels)].to(torch.float32, copy=True)

    def _sent(self, pixels: np.ndarray) -> np.ndarray | Tensor:
        """Return pictures on their way to a GPU, which copies from pinned memory by itself."""
        if self.device.type != "cuda":
            return pixels
        pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        pinned.numpy()[:] = pixels
        return pinned.to(self.device, non_blocking=True)

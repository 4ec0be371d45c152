"""Exported models in ONNX Runtime and OpenVINO, on the CPU; no torch is needed to run them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from partalign.engines.base import CPU_CHUNK, LEAST_COSINE, ExportedName, least_cosine, require_pixels
from partalign.errors import MissingExtraError, WeightsError
from partalign.images import network_values
from partalign.processors import thread_count
from partalign.weights.formats import in_one_line
from partalign.weights.onnx import OnnxModel, probe_pixels

Run = Callable[[np.ndarray], np.ndarray]

INT8_COSINE = 0.999
"""In place of LEAST_COSINE for int8, in whichever engine: they round at different places."""


class ExportedEngine:
    """An exported model in one of the engines, with `thread_count()` threads as of when it is started.

    file: OpenVINO's own form of the model (.xml), to run in its place. Raises WeightsError where the engine cannot run
    the model, MissingExtraError where it is not installed.
    """

    def __init__(self, model: OnnxModel, name: ExportedName, file: Path | None = None):
        self.model, self.name, self.is_int8 = model, name, model.is_int8
        self.input_size, self.channels = model.input_size, model.channels
        try:
            self._run = _onnx_runtime(model.content) if name == "onnx" else _openvino(file or model.content, name)
        except MissingExtraError:
            raise
        except Exception as error:  # each library has its own kinds
            reason = in_one_line(error, 200)
            raise WeightsError(f"{model.path}: {name} cannot run it ({reason}): export it again") from None

    def __call__(self, pixels: np.ndarray, /) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB -> (B, D) float32 descriptors of unit length. Raises ShapeError."""
        require_pixels(pixels, self.input_size)
        found = [np.empty((0, self.channels), np.float32)]
        for start in range(0, len(pixels), CPU_CHUNK):
            part = pixels[start : start + CPU_CHUNK]
            found.append(self._run(np.ascontiguousarray(part) if self.model.takes_pixels else network_values(part)))
        return np.concatenate(found)

    @property
    def least_cosine(self) -> float:
        """How close its descriptors must be to the probe's, and to the network's (`agreement.Agreement`)."""
        return INT8_COSINE if self.is_int8 else LEAST_COSINE[self.name]

    def check(self) -> float:
        """Return the least cosine to the model's probe. Raises WeightsError where it is too small."""
        expected = self.model.probe
        try:
            found = self(probe_pixels(self.input_size))
        except RuntimeError as error:  # of either library
            raise WeightsError(f"{self.model.path}: {self.name} cannot run it ({in_one_line(error, 200)})") from None
        if found.shape != expected.shape:
            raise WeightsError(f"{self.model.path}: {self.name} gives {found.shape}, expected {expected.shape}")
        cosine = least_cosine(found, expected)
        if not cosine > self.least_cosine:
            raise WeightsError(
                f"{self.model.path}: expected {self.name} to agree with the network it was exported from, found a "
                f"cosine of {cosine:.5f} (least {self.least_cosine}): take another --engine, or export it again"
            )
        return cosine


def is_installed(name: str) -> bool:
    """Whether an engine can be imported."""
    try:
        import_engine(name)
    except MissingExtraError:
        return False
    return True


def import_engine(name: str) -> Any:
    """Return the library of an engine. Raises MissingExtraError."""
    try:
        if name == "onnx":
            import onnxruntime

            return onnxruntime
        # openvino tells its makers of every import, by a package that it does without where it cannot be imported.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        return openvino
    except ImportError:
        extra = name.partition("-")[0]
        raise MissingExtraError(
            f'the engine {name} is not installed: pip install "partalign[{extra}]", or take another --engine'
        ) from None


def _onnx_runtime(content: bytes) -> Run:
    runtime = import_engine("onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = thread_count(), 1
    options.log_severity_level = 4  # what goes wrong is raised, too; its fallback would print to standard output
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    (name,) = (value.name for value in session.get_inputs())

    def run(pictures: np.ndarray) -> np.ndarray:
        return session.run(None, {name: pictures})[0]

    return run


def _openvino(content: bytes | Path, name: ExportedName) -> Run:
    openvino = import_engine("openvino")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if name == "openvino-bf16" else "f32",
        "INFERENCE_NUM_THREADS": thread_count(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # several processes of one thread would all be held on the first core
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(content), "CPU", settings).create_infer_request()
    alone = threading.Lock()  # a request serves one caller at a time

    def run(pictures: np.ndarray) -> np.ndarray:
        with alone:
            return np.array(request.infer({0: pictures})[0])

    return run

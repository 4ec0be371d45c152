"""What runs a network: torch, or ONNX Runtime and OpenVINO for exported models; the fastest that is right, or by name.

An exported model carries two descriptors that the float32 network made of two fixed pictures. Every engine has to
give them again on the machine at hand before it describes anything else.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from partalign.errors import MissingExtraError, ShapeError, WeightsError
from partalign.images import network_input, pixels_of
from partalign.progress import say
from partalign.weights.checkpoint import load_model
from partalign.weights.formats import in_one_line
from partalign.weights.onnx import OnnxModel, probe_pixels, read_onnx
from partalign.weights.shipped import find_model

EngineName = Literal["auto", "torch", "onnx", "openvino", "openvino-bf16"]
Run = Callable[[np.ndarray], np.ndarray]

FASTEST_OF = ("openvino", "onnx")
"""The engines that "auto" chooses from: those of full precision."""

LEAST_COSINE = {"onnx": 0.9999, "openvino": 0.9999, "openvino-bf16": 0.999}
"""How close an engine's descriptors must be to those of the float32 network."""

_TIMED = 8  # crops, as many as `Embedder` passes at once


class Engine(Protocol):
    """Describes pictures: a `PartAlignedNetwork`, or an `ExportedEngine`."""

    input_size: tuple[int, int]
    channels: int

    def __call__(self, pictures: Tensor, /) -> Tensor:
        """(B, 3, H, W) network input -> (B, D) descriptors of unit length."""
        ...


class ExportedEngine:
    """An exported model in one of the engines, on the CPU, with as many threads as torch has when it is started.

    Raises WeightsError where the engine cannot run the model, MissingExtraError where it is not installed.
    """

    def __init__(self, model: OnnxModel, name: Literal["onnx", "openvino", "openvino-bf16"]):
        self.model, self.name = model, name
        self.input_size, self.channels = model.input_size, model.channels
        try:
            self._run = _onnx_runtime(model) if name == "onnx" else _openvino(model, name.removeprefix("openvino-"))
        except MissingExtraError:
            raise
        except Exception as error:  # each library has its own kinds
            reason = in_one_line(error, 200)
            raise WeightsError(f"{model.path}: {name} cannot run it ({reason}): export it again") from None

    def __call__(self, pictures: Tensor, /) -> Tensor:
        """(B, 3, H, W) network input -> (B, D) descriptors of unit length. Raises ShapeError."""
        if tuple(pictures.shape[1:]) != (3, *self.input_size) or pictures.dtype != torch.float32:
            raise ShapeError(
                f"expected float32 pictures (B, 3, {self.input_size[0]}, {self.input_size[1]}), found {pictures.dtype} "
                f"{tuple(pictures.shape)}: an exported model takes the size it was exported for"
            )
        if not len(pictures):
            return torch.empty(0, self.channels)
        taken = pixels_of(pictures) if self.model.takes_pixels else pictures
        return torch.from_numpy(self._run(taken.contiguous().numpy()))

    def check(self) -> float:
        """Return the least cosine to the float32 network's descriptors. Raises WeightsError where it is too small."""
        expected = self.model.probe
        try:
            found = self(network_input(probe_pixels(self.input_size))).numpy()
        except RuntimeError as error:  # of either library
            raise WeightsError(f"{self.model.path}: {self.name} cannot run it ({in_one_line(error, 200)})") from None
        if found.shape != expected.shape:
            raise WeightsError(f"{self.model.path}: {self.name} gives {found.shape}, expected {expected.shape}")
        cosine = least_cosine(found, expected)
        if not cosine > LEAST_COSINE[self.name]:
            raise WeightsError(
                f"{self.model.path}: expected {self.name} to agree with the network it was exported from, found a "
                f"cosine of {cosine:.5f} (least {LEAST_COSINE[self.name]}): take another --engine, or export it again"
            )
        return cosine


@dataclass(frozen=True)
class Trial:
    """How an engine did: its least cosine to the float32 network and crops per second, or the problem."""

    name: str
    engine: ExportedEngine | None = None
    cosine: float = 0.0
    rate: float = 0.0
    problem: str = ""


def load_engine(model: str | Path | None = None, engine: EngineName = "auto") -> Engine:
    """Load a model to describe pictures with: a file, a shipped model's name, or None for the default one.

    "auto": for a .safetensors file torch; for an exported one the fastest engine that is installed and right.
    Raises WeightsError, MissingExtraError.
    """
    path = find_model(model)
    if path.suffix != ".onnx":
        if engine not in ("auto", "torch"):
            raise WeightsError(
                f"{path}: expected an exported model (.onnx) for the engine {engine}, found another kind: make one "
                f"with `partalign export {path.name} {path.stem}.onnx`"
            )
        return load_model(path)
    if engine == "torch":
        raise WeightsError(f"{path}: expected a .safetensors file for torch, found an exported model: give that file")
    exported = read_onnx(path)
    if engine != "auto":
        chosen = ExportedEngine(exported, engine)
        chosen.check()
        return chosen
    return _fastest(exported)


def try_engines(model: OnnxModel, names: tuple[str, ...] = FASTEST_OF) -> list[Trial]:
    """Start, check and time engines in turn on this machine, fastest first; those with a problem come last."""
    pixels = np.concatenate([probe_pixels(model.input_size)] * (_TIMED // 2))
    trials = []
    for name in names:
        try:
            engine = ExportedEngine(model, name)  # type: ignore[arg-type]
            cosine = engine.check()
        except (WeightsError, MissingExtraError) as error:
            trials.append(Trial(name, problem=str(error)))
            continue
        trials.append(Trial(name, engine, cosine, _TIMED / _seconds(engine, network_input(pixels))))
    return sorted(trials, key=lambda trial: -trial.rate)


def least_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the least cosine of the rows of two matrices; NaN where one has a NaN."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        return float(((found * expected).sum(1) / np.maximum(lengths, 1e-12)).min())


def _fastest(model: OnnxModel) -> ExportedEngine:
    trials = try_engines(model, tuple(name for name in FASTEST_OF if _installed(name)) or ("onnx",))
    right = [trial.engine for trial in trials if trial.engine is not None]
    if not right:
        kind = WeightsError if _installed("onnx") or _installed("openvino") else MissingExtraError
        raise kind(trials[0].problem)
    for trial in trials[len(right) :]:
        say(f"left out: {trial.problem}")
    return right[0]


def _seconds(engine: ExportedEngine, pictures: Tensor) -> float:
    engine(pictures)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        engine(pictures)
        times.append(time.perf_counter() - start)
    return min(times)


def _installed(name: str) -> bool:
    try:
        _import(name)
    except MissingExtraError:
        return False
    return True


def _import(name: str) -> Any:
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


def _onnx_runtime(model: OnnxModel) -> Run:
    runtime = _import("onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 4  # what goes wrong is raised, too; its fallback would print to standard output
    session = runtime.InferenceSession(model.content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    (name,) = (value.name for value in session.get_inputs())

    def run(pictures: np.ndarray) -> np.ndarray:
        return session.run(None, {name: pictures})[0]

    return run


def _openvino(model: OnnxModel, precision: str) -> Run:
    openvino = _import("openvino")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # several processes of one thread would all be held on the first core
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(model.content), "CPU", settings).create_infer_request()
    alone = threading.Lock()  # a request serves one caller at a time

    def run(pictures: np.ndarray) -> np.ndarray:
        with alone:
            return np.array(request.infer({0: pictures})[0])

    return run

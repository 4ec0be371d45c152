"""What runs a network: torch, or ONNX Runtime and OpenVINO for exported models; the fastest that is right, or by name.

An exported model carries two descriptors that the float32 network made of two fixed pictures. Every engine has to
give them again on the machine at hand before it describes anything else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from partalign.engines.base import CPU_CHUNK, LEAST_COSINE, Engine, EngineName, least_cosine
from partalign.engines.exported import ExportedEngine, ExportedName, is_installed
from partalign.errors import MissingExtraError, WeightsError
from partalign.progress import say
from partalign.weights.onnx import probe_pixels, read_onnx
from partalign.weights.shipped import find_model

if TYPE_CHECKING:
    from partalign.engines.eager import NetworkEngine

__all__ = [
    "CPU_CHUNK",
    "FASTEST_OF",
    "LEAST_COSINE",
    "OF_EXPORTED",
    "OF_NETWORKS",
    "Engine",
    "EngineName",
    "ExportedEngine",
    "ExportedName",
    "Trial",
    "least_cosine",
    "load_engine",
    "try_engines",
]

TorchName = Literal["torch", "torch-bf16", "compiled"]

OF_EXPORTED: tuple[ExportedName, ...] = get_args(ExportedName)
"""The engines that run an exported model."""

OF_NETWORKS: tuple[EngineName, ...] = ("torch", "torch-bf16", "openvino", "openvino-bf16", "compiled")
"""The engines that run a network's own file."""

FASTEST_OF: tuple[ExportedName, ...] = ("openvino", "onnx")
"""The engines that "auto" chooses from for an exported model: those of full precision."""

CONVERSION_PAYS = 2000
"""From so many crops on OpenVINO, a third to a half faster than torch, makes good for the seconds it needs to start."""


@dataclass(frozen=True)
class Trial:
    """How an engine did: its least cosine to the float32 network and crops per second, or the problem."""

    name: str
    engine: Engine | None = None
    cosine: float = 0.0
    rate: float = 0.0
    problem: str = ""


def load_engine(
    model: str | Path | None = None, engine: EngineName = "auto", *, device: str = "cpu", crops: int = 0
) -> Engine:
    """Load a model to describe pictures with: a file, a shipped model's name, or None for the default one.

    crops: how many are about to be described. "auto" is for an exported model the fastest engine that is installed and
    right; for a .safetensors file torch, or OpenVINO for many crops on the CPU. Raises WeightsError, MissingExtraError.
    """
    path = find_model(model)
    if path.suffix == ".onnx":
        return _load_exported(path, engine, device)
    if engine == "onnx":
        raise WeightsError(
            f"{path}: expected an exported model (.onnx) for the engine onnx, found another kind: make one with "
            f"`partalign export {path.name} {path.stem}.onnx`"
        )
    if engine == "auto":
        return _load_for(path, device, crops)
    if engine in get_args(TorchName):
        return _load_network(path, engine, device)  # type: ignore[arg-type]
    if device != "cpu":
        raise WeightsError(f"expected device cpu for the engine {engine}, found {device}: take another --engine")
    return _convert(path, engine)  # type: ignore[arg-type]


def try_engines(model: str | Path | None = None, names: Sequence[EngineName] = ()) -> list[Trial]:
    """Start, check and time engines in turn on this machine, fastest first; those with a problem come last.

    names: by default all that run this kind of model.
    """
    path, trials = find_model(model), []
    for name in names or (OF_EXPORTED if path.suffix == ".onnx" else OF_NETWORKS):
        try:
            engine = load_engine(path, name)
            cosine = engine.check()
        except (WeightsError, MissingExtraError) as error:
            trials.append(Trial(name, problem=str(error)))
            continue
        pixels = np.concatenate([probe_pixels(engine.input_size)] * (CPU_CHUNK // 2))
        trials.append(Trial(name, engine, cosine, CPU_CHUNK / _seconds(engine, pixels)))
    return sorted(trials, key=lambda trial: -trial.rate)


def _load_exported(path: Path, engine: EngineName, device: str) -> Engine:
    if engine in get_args(TorchName):
        raise WeightsError(
            f"{path}: expected a .safetensors file for {engine}, found an exported model: give that file"
        )
    if device != "cpu":
        raise WeightsError(
            f"expected device cpu for an exported model, found {device}: give the .safetensors file of the model"
        )
    if engine == "auto":
        return _fastest(path)
    chosen = ExportedEngine(read_onnx(path), engine)  # type: ignore[arg-type]
    chosen.check()
    return chosen


def _load_network(path: Path, name: TorchName, device: str) -> NetworkEngine:
    # Here and below torch is loaded only where a network is to be run by it or converted.
    from partalign.engines.eager import NetworkEngine
    from partalign.weights.checkpoint import load_model

    engine = NetworkEngine(load_model(path), device, name, source=path)
    if name != "torch":
        engine.check()
    return engine


def _convert(path: Path, name: ExportedName) -> ExportedEngine:
    from partalign.engines.conversion import convert
    from partalign.weights.checkpoint import load_model

    engine = ExportedEngine(convert(load_model(path), path), name)
    engine.check()
    return engine


def _load_for(path: Path, device: str, crops: int) -> Engine:
    """Load a network's file for so many crops."""
    if device == "cpu" and crops >= CONVERSION_PAYS and is_installed("openvino"):
        try:
            return _convert(path, "openvino")
        except WeightsError as error:
            say(f"torch runs the network: {error}")
    return _load_network(path, "torch", device)


def _fastest(path: Path) -> Engine:
    trials = try_engines(path, [name for name in FASTEST_OF if is_installed(name)] or ["onnx"])
    right = [trial.engine for trial in trials if trial.engine is not None]
    if not right:
        kind = WeightsError if is_installed("onnx") or is_installed("openvino") else MissingExtraError
        raise kind(trials[0].problem)
    for trial in trials[len(right) :]:
        say(f"left out: {trial.problem}")
    return right[0]


def _seconds(engine: Engine, pixels: np.ndarray) -> float:
    engine(pixels)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        engine(pixels)
        times.append(time.perf_counter() - start)
    return min(times)

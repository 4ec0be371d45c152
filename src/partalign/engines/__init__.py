"""What runs a network: torch, ONNX Runtime or OpenVINO; the fastest that is right, or by name.

ONNX Runtime and OpenVINO run exported models; a network's own file is converted to one, once, and kept (`converted`).
An exported model carries two descriptors that the float32 network made of two fixed pictures. Every engine has to give
them again on the machine at hand before it describes anything else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from partalign.engines import converted
from partalign.engines.base import CPU_CHUNK, LEAST_COSINE, Engine, EngineName, ExportedName, TorchName, least_cosine
from partalign.engines.exported import ExportedEngine, is_installed
from partalign.errors import MissingExtraError, WeightsError
from partalign.progress import say
from partalign.weights.info import read_info
from partalign.weights.onnx import probe_pixels, read_onnx
from partalign.weights.shipped import find_model

if TYPE_CHECKING:
    from partalign.crops import Crop
    from partalign.engines.agreement import Agreement, Reference
    from partalign.engines.eager import NetworkEngine
    from partalign.model.network import PartAlignedNetwork

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

OF_EXPORTED: tuple[ExportedName, ...] = get_args(ExportedName)
"""The engines that run an exported model."""

OF_NETWORKS: tuple[EngineName, ...] = (*get_args(TorchName), *OF_EXPORTED)
"""The engines that run a network's own file."""

FASTEST_OF: tuple[ExportedName, ...] = ("openvino", "onnx")
"""The engines that "auto" chooses from besides torch: those of full precision, the faster as a rule first."""

CONVERSION_PAYS = 1000
"""From so many crops on an engine that is a third to a half faster than torch makes good for a conversion at once."""


@dataclass(frozen=True)
class Trial:
    """How an engine did: its least cosine to the float32 network and crops per second, or the problem.

    agreement: on the crops that it was compared on, also where it is the problem; None without such crops.
    """

    name: str
    engine: Engine | None = None
    cosine: float = 0.0
    rate: float = 0.0
    problem: str = ""
    agreement: Agreement | None = None


def load_engine(
    model: str | Path | None = None, engine: EngineName = "auto", *, device: str = "cpu", crops: int | None = None
) -> Engine:
    """Load a model to describe pictures with: a file, a shipped model's name, or None for the default one.

    crops: how many are about to be described, None for any number, as a server does. "auto" is for an exported model
    the fastest engine that is installed and right; for a .safetensors file on the CPU OpenVINO, else ONNX Runtime, else
    torch: the first that is installed, right, and converted already or worth it. Raises WeightsError,
    MissingExtraError.
    """
    path = find_model(model)
    if path.suffix == ".onnx":
        return _load_exported(path, engine, device)
    if engine == "auto":
        return _load_for(path, device, crops)
    if engine in get_args(TorchName):
        return _load_network(path, engine, device)  # type: ignore[arg-type]
    if device != "cpu":
        raise WeightsError(f"expected device cpu for the engine {engine}, found {device}: take another --engine")
    return converted.start(path, engine)  # type: ignore[arg-type]


def try_engines(
    model: str | Path | None = None,
    names: Sequence[EngineName] = (),
    *,
    check: Sequence[Crop] = (),
    against: Path | None = None,
) -> list[Trial]:
    """Start, check and time engines in turn on this machine, fastest first; those with a problem come last.

    names: by default all that run this kind of model. check: crops to compare each with the network in torch on, too,
    as an export is; against: the network's file, for an exported model, by default found by `agreement.source_of`.
    Raises WeightsError, PictureError.
    """
    path = find_model(model)
    read_info(path)  # what no engine can read is told once
    reference = _reference(path, check, against) if check else None
    names = names or (OF_EXPORTED if path.suffix == ".onnx" else OF_NETWORKS)
    return sorted((_trial(path, name, reference) for name in names), key=lambda trial: -trial.rate)


def _trial(path: Path, name: EngineName, reference: Reference | None) -> Trial:
    found = None
    try:
        engine = load_engine(path, name)
        cosine = engine.check()
        if reference is not None:
            found = reference.agreement(engine)
            found.require(engine, path, "take another --engine")
    except (WeightsError, MissingExtraError) as error:
        return Trial(name, problem=str(error), agreement=found)
    pixels = np.concatenate([probe_pixels(engine.input_size)] * (CPU_CHUNK // 2))
    return Trial(name, engine, cosine, CPU_CHUNK / _seconds(engine, pixels), agreement=found)


def _reference(path: Path, check: Sequence[Crop], against: Path | None) -> Reference:
    from partalign.engines.agreement import Reference, source_of
    from partalign.engines.eager import NetworkEngine

    is_exported = path.suffix == ".onnx"
    is_int8 = is_exported and read_onnx(path).is_int8
    network = NetworkEngine(_network(source_of(path, against) if is_exported else path))
    return Reference(network, check, samples=not is_int8)


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
    from partalign.engines.eager import NetworkEngine

    engine = NetworkEngine(_network(path), device, name, source=path)
    if name != "torch":
        engine.check()
    return engine


def _network(path: Path) -> PartAlignedNetwork:
    from partalign.weights.checkpoint import load_model  # torch is loaded only where it runs a network or converts it

    return load_model(path)


def _load_for(path: Path, device: str, crops: int | None) -> Engine:
    """Choose what runs a network's file: a conversion costs seconds once, and saves some in every thousand crops."""
    kept = device == "cpu" and converted.is_kept(path)
    worth = device == "cpu" and (crops is None or crops >= CONVERSION_PAYS) and converted.can_convert()
    network = None if kept or not worth else _network(path)  # a file that is damaged is so for every engine
    for name in FASTEST_OF:
        if (kept or worth) and is_installed(name):
            try:
                return converted.start(path, name, network)
            except WeightsError as error:
                say(f"left out: {error}")
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

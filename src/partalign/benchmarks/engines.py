"""Exported models in their engines against the same network run plainly in torch.

Ours: `Embedder` with ONNX Runtime and OpenVINO on pixels. Reference: as of `network`, the same weights in torch's
default memory layout with torch's own local response normalisation. First with random weights, which changes no time;
then with the shipped model's, in float32 and in int8, calibrated on generated people: with random ones all descriptors
are alike, and agree whatever is lost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from partalign.benchmarks.measure import Bar, Comparison, compare, torch_threads
from partalign.benchmarks.network import (
    AGAINST,
    PAIRS,
    both_networks,
    described,
    descriptors,
    pictures,
    with_torchs_lrn,
)
from partalign.crops import Crop
from partalign.datasets.generated import World
from partalign.embedding import Embedder
from partalign.engines import FASTEST_OF, ExportedEngine, ExportedName
from partalign.export import export_onnx
from partalign.model.input import network_input
from partalign.model.network import NetworkSettings, PartAlignedNetwork
from partalign.quantization import export_int8
from partalign.weights.checkpoint import load_model, save_checkpoint
from partalign.weights.onnx import OnnxModel, read_onnx

TOLERANCE = {"onnx": 1e-4, "openvino": 1e-4, "openvino-bf16": 0.1}
INT8_TOLERANCE = 0.1
"""A cosine of 0.999 is a difference of a tenth of the largest number at the most; the export looked at cosines."""


def run(rounds: int = 5, threads: int = 1) -> list[Comparison]:
    """Embed one crop and 32 with every engine, in float32 and in int8. Raises as `float32`."""
    return [*float32(rounds=rounds, threads=threads), *trained(rounds=rounds, threads=threads)]


def float32(
    pairs: dict[str, NetworkSettings] = PAIRS,
    batches: Sequence[int] = (1, 32),
    rounds: int = 5,
    threads: int = 1,
) -> list[Comparison]:
    """Embed batches with every engine, each checked first by its cosine to the float32 network.

    Raises BenchmarkError and WeightsError where an engine does not agree, MissingExtraError where one is missing.
    """
    lines = []
    for name, settings in pairs.items():
        ours, plain = both_networks(settings)
        with tempfile.TemporaryDirectory() as folder, torch_threads(threads):
            description = {"kind": "network", "network": settings.model_dump(mode="json")}
            save_checkpoint(Path(folder) / "pair.safetensors", ours.state_dict(), description)
            export_onnx(Path(folder) / "pair.safetensors", Path(folder) / "pair.onnx")
            engines = _started(read_onnx(Path(folder) / "pair.onnx"), get_args(ExportedName))
        for engine, batch in ((engine, batch) for engine in engines for batch in batches):
            bar = Bar(speed=1.8) if batch == 32 and engine.name == "openvino" else Bar()
            what, pixels = f"{name}, {engine.name}, batch {batch}", pictures(batch, settings)
            lines.append(_compared(what, engine, plain, pixels, TOLERANCE[engine.name], rounds, threads, bar))
    return lines


def trained(
    model: str | Path | None = None,
    batches: Sequence[int] = (1, 32),
    rounds: int = 5,
    threads: int = 1,
) -> list[Comparison]:
    """Embed batches of generated people with a trained model in float32 and in 8 bits; else as `float32`."""
    network = load_model(model)
    plain = with_torchs_lrn(network)
    height, width = network.input_size
    people = World(seed=8, persons=200, crops_per_person=1, height=height, width=width).render(range(200))[0]
    with tempfile.TemporaryDirectory() as folder, torch_threads(threads):
        crops = [Crop(Path(folder) / f"{row}.png") for row in range(len(people))]
        for crop, pixels in zip(crops, people, strict=True):
            Image.fromarray(pixels).save(crop.path)
        export_onnx(model, Path(folder) / "float.onnx")
        export_int8(model, Path(folder) / "int8.onnx", crops)
        engines = _started(read_onnx(Path(folder) / "float.onnx"), FASTEST_OF)
        engines += _started(read_onnx(Path(folder) / "int8.onnx"), FASTEST_OF)
    lines = []
    for engine, batch in ((engine, batch) for engine in engines for batch in batches):
        is_int8 = engine.model.is_int8
        bar = Bar(speed=4.5 if is_int8 else 1.8) if batch == 32 and engine.name == "openvino" else Bar()
        what = f"trained model, {engine.name}{' int8' if is_int8 else ''}, batch {batch}"
        tolerance = INT8_TOLERANCE if is_int8 else TOLERANCE[engine.name]
        lines.append(_compared(what, engine, plain, people[:batch], tolerance, rounds, threads, bar))
    return lines


def _compared(
    what: str,
    engine: ExportedEngine,
    plain: PartAlignedNetwork,
    pixels: np.ndarray,
    tolerance: float,
    rounds: int,
    threads: int,
    bar: Bar,
) -> Comparison:
    line = compare(
        what,
        AGAINST,
        partial(described, Embedder(engine), pixels),
        partial(descriptors, plain.eval(), network_input(pixels).contiguous()),
        tolerance=tolerance,
        rounds=rounds,
        threads=threads,
        bar=bar,
    )
    # An engine takes its memory when it starts and keeps it: what a step grows by would be none of it.
    return replace(line, ours=replace(line.ours, peak=None))


def _started(model: OnnxModel, names: Iterable[ExportedName]) -> list[ExportedEngine]:
    """Start engines with the present number of threads."""
    engines = [ExportedEngine(model, name) for name in names]
    for engine in engines:
        engine.check()
    return engines

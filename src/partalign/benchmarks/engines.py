"""Exported models in their engines against the same network run plainly in torch.

Ours: `Embedder` with ONNX Runtime and OpenVINO on pixels. Reference: as of `network`, the same
weights in torch's default memory layout with torch's own local response normalisation. Weights are random: they
change no time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from partalign.benchmarks.measure import Bar, Comparison, compare, torch_threads
from partalign.benchmarks.network import AGAINST, PAIRS, both_networks, described, descriptors, pictures
from partalign.embedding import Embedder
from partalign.engines import LEAST_COSINE, ExportedEngine
from partalign.export import export_onnx
from partalign.model.input import network_input
from partalign.model.network import NetworkSettings
from partalign.weights.checkpoint import save_checkpoint
from partalign.weights.onnx import OnnxModel, read_onnx

TOLERANCE = {"onnx": 1e-4, "openvino": 1e-4, "openvino-bf16": 0.1}


def run(
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
        plain.eval()
        with tempfile.TemporaryDirectory() as folder, torch_threads(threads):
            description = {"kind": "network", "network": settings.model_dump(mode="json")}
            save_checkpoint(Path(folder) / "pair.safetensors", ours.state_dict(), description)
            export_onnx(Path(folder) / "pair.safetensors", Path(folder) / "pair.onnx")
            engines = _started(read_onnx(Path(folder) / "pair.onnx"))
        for engine, batch in ((engine, batch) for engine in engines for batch in batches):
            x = pictures(batch, settings)
            lines.append(
                compare(
                    f"{name}, {engine.name}, batch {batch}",
                    AGAINST,
                    partial(described, Embedder(engine), x),
                    partial(descriptors, plain, network_input(x).contiguous()),
                    tolerance=TOLERANCE[engine.name],
                    rounds=rounds,
                    threads=threads,
                    bar=Bar(speed=1.8) if batch == 32 and engine.name == "openvino" else Bar(),
                )
            )
    return lines


def _started(model: OnnxModel) -> list[ExportedEngine]:
    """Start every engine with the present number of threads."""
    engines = [ExportedEngine(model, name) for name in LEAST_COSINE]  # type: ignore[arg-type]
    for engine in engines:
        engine.check()
    return engines

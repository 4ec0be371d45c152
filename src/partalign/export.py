"""A trained network as a file that other programs run: ONNX, and OpenVINO's own form.

What is written was first read back, run by ONNX Runtime (or OpenVINO) and compared with the float32 network on random
pictures, generated people and, if given, real crops. A file that fails never takes its name.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from partalign.crops import Crop
from partalign.engines import ExportedEngine, least_cosine
from partalign.engines.agreement import Agreement, agreement
from partalign.engines.conversion import OPSET, to_onnx
from partalign.engines.eager import NetworkEngine
from partalign.errors import MissingExtraError, SaveError, WeightsError
from partalign.files import atomic_file
from partalign.images import network_values
from partalign.weights.checkpoint import load_model
from partalign.weights.onnx import OnnxModel, probe_pixels, read_onnx

OPSETS = range(18, 24)


def export_onnx(
    model: str | Path | None,
    target: Path,
    *,
    preprocessing: bool = False,
    opset: int = OPSET,
    check: Sequence[Crop] = (),
) -> Agreement:
    """Write a model as ONNX, the sketch included, for any batch; say how it agrees with the float32 network.

    model: as `load_model`. preprocessing: the input is crops as they are, (B, H, W, 3) uint8 RGB, already of the
    network's size; else what `images.network_values` makes of them, (B, 3, H, W) float32. check: crops to compare on
    besides random pictures and generated people. Raises WeightsError, SaveError, PictureError, MissingExtraError.
    """
    exported, found = exported_model(model, target, preprocessing=preprocessing, opset=opset, check=check)
    save_onnx(exported)
    return found


def exported_model(
    model: str | Path | None,
    target: Path,
    *,
    preprocessing: bool = False,
    opset: int = OPSET,
    check: Sequence[Crop] = (),
) -> tuple[OnnxModel, Agreement]:
    """Export and check a model in memory; as `export_onnx`."""
    target = Path(target)
    if target.suffix != ".onnx" or opset not in OPSETS:
        expected = f"an opset from {OPSETS[0]} to {OPSETS[-1]}" if target.suffix == ".onnx" else "a name in .onnx"
        raise WeightsError(f"{target}: expected {expected}, found {opset if target.suffix == '.onnx' else target.name}")
    if find_spec("onnxruntime") is None:
        raise MissingExtraError(f'{target}: exporting needs onnxruntime: pip install "partalign[onnx]"')
    network = load_model(model)
    exported = to_onnx(network, model, target, preprocessing=preprocessing, opset=opset)
    engine = ExportedEngine(exported, "onnx")
    engine.check()
    found = agreement(engine, NetworkEngine(network), check)
    found.require(engine, target, "not written; try another --opset")
    return exported, found


def save_onnx(model: OnnxModel) -> None:
    """Write an exported model to its path. Raises SaveError."""
    with atomic_file(model.path) as file:
        file.write(model.content)


def export_openvino(model: Path) -> Path:
    """Write an exported .onnx model also as OpenVINO's .xml and .bin beside it, float32; return the .xml.

    Both are read back and checked before they take their names. Raises WeightsError, SaveError, MissingExtraError.
    """
    exported = read_onnx(model)
    engine = ExportedEngine(exported, "openvino")
    target = Path(model).with_suffix(".xml")
    import openvino

    core = openvino.Core()
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}.", dir=target.parent) as folder:
            written = Path(folder) / target.name
            graph = core.read_model(exported.content)
            graph.set_rt_info(json.dumps(exported.description), ["partalign"])
            openvino.save_model(graph, written, compress_to_fp16=False)
            _require_agreement(target, _agreement_of_files(engine, core, written), engine.least_cosine)
            for suffix in (".bin", ".xml"):  # the .xml last: it is what programs are given
                written.with_suffix(suffix).replace(target.with_suffix(suffix))
    except OSError as error:
        raise SaveError(f"{target}: cannot be written ({error.strerror or error}); choose another place") from None
    return target


def _agreement_of_files(engine: ExportedEngine, core: Any, written: Path) -> float:
    pixels = probe_pixels(engine.input_size)
    taken = pixels if engine.model.takes_pixels else network_values(pixels)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    found = core.compile_model(core.read_model(written), "CPU", settings)([taken])[0]
    return least_cosine(found, engine.model.probe)


def _require_agreement(target: Path, cosine: float, least: float) -> None:
    if not cosine > least:
        raise WeightsError(
            f"{target}: expected the exported model to agree with the network, found a cosine of {cosine:.5f} (least "
            f"{least}): not written; try another --opset"
        )

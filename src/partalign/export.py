"""A trained network as a file that other programs run: ONNX, and OpenVINO's own form.

What is written was first read back, run by ONNX Runtime (or OpenVINO) and compared with the float32 network on random
pictures, generated people and, if given, real crops. A file that fails never takes its name.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from partalign.crops import Crop
from partalign.engines import ExportedEngine
from partalign.engines.agreement import Agreement, Reference, source_of
from partalign.engines.conversion import OPSET, to_onnx
from partalign.engines.eager import NetworkEngine
from partalign.engines.exported import import_engine
from partalign.errors import MissingExtraError, SaveError, WeightsError
from partalign.files import atomic_file
from partalign.weights.checkpoint import load_model
from partalign.weights.onnx import OnnxModel, read_onnx

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
    found = Reference(NetworkEngine(network), check).agreement(engine)
    found.require(engine, target, "not written; try another --opset")
    return exported, found


def save_onnx(model: OnnxModel) -> None:
    """Write an exported model to its path. Raises SaveError."""
    with atomic_file(model.path) as file:
        file.write(model.content)


def export_openvino(exported: Path, network: str | Path | None = None, check: Sequence[Crop] = ()) -> Path:
    """Write an exported .onnx model also as OpenVINO's .xml and .bin beside it, float32 or int8; return the .xml.

    network: what it was exported from, by default found by `source_of`; check: crops, needed for int8. Both files are
    read back, run and compared with the network as the .onnx file was before they take their names. Raises
    WeightsError, SaveError, PictureError, MissingExtraError.
    """
    exported = Path(exported)
    model, target = read_onnx(exported), exported.with_suffix(".xml")
    if model.is_int8 and not check:
        raise WeightsError(f"{target}: expected crops to compare an int8 model on, found none")
    reference = Reference(NetworkEngine(load_model(network or source_of(exported))), check, samples=not model.is_int8)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}.", dir=target.parent) as folder:
            written = Path(folder) / target.name
            _write_openvino(model, written)
            engine = ExportedEngine(model, "openvino", written)
            engine.check()
            reference.agreement(engine).require(engine, target, "not written; export the model again")
            del engine  # it holds the files
            _replace_pair(written, target)
    except OSError as error:
        raise SaveError(f"{target}: cannot be written ({error.strerror or error}); choose another place") from None
    return target


def _write_openvino(model: OnnxModel, target: Path) -> None:
    openvino = import_engine("openvino")
    graph = openvino.Core().read_model(model.content)
    graph.set_rt_info(json.dumps(model.description), ["partalign"])
    openvino.save_model(graph, target, compress_to_fp16=False)


def _replace_pair(written: Path, target: Path) -> None:
    """Give an .xml and its .bin their names. The old .xml goes first: whenever there is one, the .bin is its own."""
    for suffix in (".bin", ".xml"):
        with written.with_suffix(suffix).open("rb+") as file:
            os.fsync(file.fileno())
    target.unlink(missing_ok=True)
    for suffix in (".bin", ".xml"):
        written.with_suffix(suffix).replace(target.with_suffix(suffix))

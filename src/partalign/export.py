"""A trained network as a file that other programs run: ONNX, and OpenVINO's own form.

What is written was first read back, run by ONNX Runtime (or OpenVINO) and compared with the float32 network on random
pictures, generated people and, if given, real crops. A file that fails never takes its name.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from partalign.crops import Crop
from partalign.datasets.generated import World
from partalign.engines import LEAST_COSINE, ExportedEngine, least_cosine
from partalign.errors import MissingExtraError, SaveError, WeightsError
from partalign.files import atomic_file
from partalign.images import MEAN_BGR, network_values, read_batch, resize
from partalign.model.input import network_input
from partalign.model.network import PartAlignedNetwork
from partalign.weights.checkpoint import load_model
from partalign.weights.formats import in_one_line
from partalign.weights.info import read_description, read_info
from partalign.weights.onnx import (
    FORMAT,
    PICTURES,
    PIXELS,
    OnnxModel,
    import_onnx,
    messages,
    parse_onnx,
    probe_pixels,
    probe_text,
    read_onnx,
)
from partalign.weights.shipped import find_model

OPSET = 20
OPSETS = range(18, 24)

_BATCHES = (1, 5)
_SAID = ("network", "results", "calibration", "trained")


def export_onnx(
    model: str | Path | None,
    target: Path,
    *,
    preprocessing: bool = False,
    opset: int = OPSET,
    check: Sequence[Crop] = (),
) -> float:
    """Write a model as ONNX, the sketch included, for any batch; return the least cosine to the float32 network.

    model: as `load_model`. preprocessing: the input is crops as they are, (B, H, W, 3) uint8 RGB, already of the
    network's size; else what `images.network_values` makes of them, (B, 3, H, W) float32. check: crops to compare on
    besides random pictures and generated people. Raises WeightsError, SaveError, PictureError, MissingExtraError.
    """
    exported, cosine = exported_model(model, target, preprocessing=preprocessing, opset=opset, check=check)
    save_onnx(exported)
    return cosine


def exported_model(
    model: str | Path | None,
    target: Path,
    *,
    preprocessing: bool = False,
    opset: int = OPSET,
    check: Sequence[Crop] = (),
) -> tuple[OnnxModel, float]:
    """Export and check a model in memory; as `export_onnx`, with which least cosine."""
    target = Path(target)
    if target.suffix != ".onnx" or opset not in OPSETS:
        expected = f"an opset from {OPSETS[0]} to {OPSETS[-1]}" if target.suffix == ".onnx" else "a name in .onnx"
        raise WeightsError(f"{target}: expected {expected}, found {opset if target.suffix == '.onnx' else target.name}")
    _require_libraries(target)
    network = load_model(model)
    pixels = _pictures(network.input_size, check)
    program = _converted(_FromPixels(network).eval() if preprocessing else network, network, preprocessing, opset)
    describe(program, _description(model, network, preprocessing))
    exported = parse_onnx(target, program.SerializeToString())
    engine = ExportedEngine(exported, "onnx")
    engine.check()
    cosine = agreement(engine, network, pixels)
    _require_agreement(target, cosine, LEAST_COSINE["onnx"])
    return exported, cosine


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


@torch.inference_mode()
def agreement(engine: ExportedEngine, network: PartAlignedNetwork, pixels: np.ndarray) -> float:
    """Return the least cosine of both descriptors of pictures (N, H, W, 3), taken singly and by five."""
    parts = [pixels[start : start + batch] for batch in _BATCHES for start in range(0, len(pixels), batch)]
    cosines = [least_cosine(engine(part), network(network_input(part)).numpy()) for part in parts]
    return float(np.min(cosines))  # numpy's minimum: Python's would lose a NaN


class _FromPixels(nn.Module):
    """A network with `network_input` before it."""

    mean: Tensor

    def __init__(self, network: PartAlignedNetwork):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.permute(0, 3, 1, 2).flip(1).float() - self.mean)


def _converted(module: nn.Module, network: PartAlignedNetwork, preprocessing: bool, opset: int) -> Any:
    size, name = network.input_size, PIXELS if preprocessing else PICTURES
    example = torch.zeros(2, *size, 3, dtype=torch.uint8) if preprocessing else torch.zeros(2, 3, *size)
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[name],
                output_names=["descriptors"],
                verbose=False,
            )
        return program.model_proto  # type: ignore[union-attr]
    except Exception as error:  # the exporter's, of many kinds
        raise WeightsError(f"the network cannot be exported: {in_one_line(error, 200)}") from error


def describe(program: Any, description: Mapping[str, Any]) -> None:
    """Put the description in, and take out what the exporter noted of our source code and the paths of this machine."""
    for message in messages(program):
        for field in ("metadata_props", "doc_string"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    program.metadata_props.add(key="partalign", value=json.dumps(description))
    program.producer_name = "partalign"
    program.ClearField("producer_version")


@torch.inference_mode()
def _description(model: str | Path | None, network: PartAlignedNetwork, preprocessing: bool) -> dict[str, Any]:
    info, said = read_info(model), read_description(find_model(model))
    probe = network(network_input(probe_pixels(network.input_size))).numpy()
    return {
        "format": FORMAT,
        "kind": "exported",
        "input": PIXELS if preprocessing else PICTURES,
        "source": {"name": info.name, "version": info.version},
        **{name: said[name] for name in _SAID if name in said},
        "probe": probe_text(probe),
    }


def _pictures(size: tuple[int, int], check: Sequence[Crop]) -> np.ndarray:
    """Return random pictures, generated people and crops as (N, H, W, 3) uint8."""
    noise = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    people = World(seed=0, persons=8, crops_per_person=1).render(range(8))[0]
    people = np.stack([resize(Image.fromarray(picture), size) for picture in people])
    return np.concatenate([noise, people, read_batch([crop.path for crop in check], size)])


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


def _require_libraries(target: Path) -> None:
    import_onnx(target)
    lacking = [name for name in ("onnxscript", "onnxruntime") if find_spec(name) is None]
    if lacking:
        raise MissingExtraError(f'{target}: exporting needs {" and ".join(lacking)}: pip install "partalign[onnx]"')


@contextmanager
def _quiet():
    """Keep the exporter's remarks to itself: on packages that are not there, and on its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

"""A network in torch -> an exported model (ONNX), in memory. Compares nothing and writes nothing."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from partalign.errors import MissingExtraError, WeightsError
from partalign.images import MEAN_BGR
from partalign.model.input import network_input
from partalign.model.network import PartAlignedNetwork
from partalign.weights.formats import in_one_line
from partalign.weights.info import read_description, read_info
from partalign.weights.onnx import FORMAT, PICTURES, PIXELS, OnnxModel, messages, parse_onnx, probe_pixels, probe_text
from partalign.weights.shipped import find_model

OPSET = 20
NEEDED = ("onnx", "onnxscript")
"""The packages without which nothing is converted; `partalign[onnx]` and `partalign[openvino]` have them."""

_SAID = ("network", "results", "calibration", "trained")


def to_onnx(
    network: PartAlignedNetwork,
    model: str | Path | None,
    path: Path,
    *,
    preprocessing: bool = False,
    opset: int = OPSET,
) -> OnnxModel:
    """Convert a network, which takes seconds, the sketch included, for any batch.

    model: where the network comes from, as `load_model`; what its file says of itself goes with it. path: the name of
    the result. preprocessing: the input is crops as they are, (B, H, W, 3) uint8 RGB, else what `images.network_values`
    makes of them. Raises WeightsError, MissingExtraError.
    """
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:
        raise MissingExtraError(f'{path}: exporting needs {" and ".join(lacking)}: pip install "partalign[onnx]"')
    program = _converted(_FromPixels(network).eval() if preprocessing else network, network, preprocessing, opset)
    describe(program, _description(model, network, preprocessing))
    return parse_onnx(path, program.SerializeToString())


def describe(program: Any, description: Mapping[str, Any]) -> None:
    """Put the description in, and take out what the exporter noted of our source code and the paths of this machine."""
    for message in messages(program):
        for field in ("metadata_props", "doc_string"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    program.metadata_props.add(key="partalign", value=json.dumps(description))
    program.producer_name = "partalign"
    program.ClearField("producer_version")


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

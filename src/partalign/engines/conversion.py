"""A network straight from torch to OpenVINO, without a file between."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from partalign.engines.exported import ConvertedModel, import_engine
from partalign.errors import WeightsError
from partalign.images import network_values
from partalign.model.network import PartAlignedNetwork
from partalign.weights.formats import in_one_line
from partalign.weights.onnx import probe_pixels


def convert(network: PartAlignedNetwork, path: Path) -> ConvertedModel:
    """Convert a network, which takes seconds; path: its file, for messages. Raises WeightsError, MissingExtraError."""
    openvino = import_engine("openvino")
    height, width = size = network.input_size
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = {0: torch.export.Dim("batch")}
            program = torch.export.export(network, (torch.zeros(2, 3, height, width),), dynamic_shapes=(batch,))
            graph = openvino.convert_model(program)
            probe = network(torch.from_numpy(network_values(probe_pixels(size)))).numpy()
    except Exception as error:  # of either library, of many kinds
        raise WeightsError(f"{path}: cannot be converted for openvino ({in_one_line(error, 200)})") from None
    return ConvertedModel(path, graph, size, network.channels, probe)

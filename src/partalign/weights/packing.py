"""How a trained network becomes a file to pass on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from partalign.errors import WeightsError
from partalign.evaluation.calibration import Calibration
from partalign.weights.checkpoint import load_model, read_checkpoint, save_checkpoint

LEAST_COSINE = 0.9999
"""How close the descriptors of a packed model must be to those of the network it was made from."""


def pack_model(
    source: Path,
    target: Path,
    results: Mapping[str, float] | None = None,
    calibration: Calibration | None = None,
) -> float:
    """Store a trained network in half precision, with its figures: the form in which a model is passed on.

    results, calibration: of an evaluation, in place of what the file says. Vectors (biases, batch statistics) keep
    their precision: they are small, and variances can pass half precision's 65,504. Returns the least cosine between
    the descriptors of both on random pictures. Raises WeightsError where it is below `LEAST_COSINE`, SaveError.
    """
    tensors, description = read_checkpoint(source)
    small = {name: _halved(tensor) for name, tensor in tensors.items()}
    network = load_model(source)
    pictures = 60 * torch.randn(8, 3, *network.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        full = network(pictures)
        network.load_state_dict({name: tensor.to(tensors[name].dtype) for name, tensor in small.items()})
        cosine = float(F.cosine_similarity(full, network(pictures)).min())
    if cosine < LEAST_COSINE:
        raise WeightsError(f"{source}: in half precision its descriptors change (cosine {cosine:.6f}): not packed")
    if results is not None:
        description["results"] = dict(results)
    if calibration is not None:
        description["calibration"] = calibration.as_dict()
    save_checkpoint(target, small, description)
    return cosine


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor

"""How trained networks become a file to pass on: averaged, in half precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from partalign.errors import WeightsError
from partalign.evaluation.calibration import Calibration
from partalign.files import check_ending
from partalign.weights.checkpoint import load_model, read_checkpoint, save_checkpoint

Tensors = Mapping[str, Tensor]

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
    check_ending(target, ".safetensors")
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


def average_models(sources: Sequence[Path], target: Path, shares: Sequence[float] | None = None) -> None:
    """Average the weights of networks of one kind that were trained on from the same start (Wortsman et al., 2022).

    So a network trained on for other cameras gives its robustness without losing what the first knew of its own.
    shares: one for each network, made to sum to 1; without them all count alike. The file says what it was made of, and
    no figures: score it. Raises WeightsError where there are not two, or they differ in settings or in the sketch's
    hashes; SaveError.
    """
    weights = [1.0] * len(sources) if shares is None else list(shares)
    if len(sources) < 2 or len(weights) != len(sources) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise WeightsError(
            f"expected at least two models and a share for each, none below 0; found {len(sources)} and {weights}"
        )
    read = [read_checkpoint(source) for source in sources]
    first, description = read[0]
    for source, (tensors, other) in zip(sources[1:], read[1:], strict=True):
        _check_alike(sources[0], first, description, source, tensors, other)
    mean = {name: _mean([tensors[name] for tensors, _ in read], weights) for name in first}
    made_of = [
        f"{share / sum(weights):g} of {Path(s).parent.name}/{Path(s).name}"
        for s, share in zip(sources, weights, strict=True)
    ]
    trained = {
        "title": "Average of weights: " + ", ".join(made_of),
        "average": [
            {"share": share / sum(weights), "trained": other.get("trained", {})}
            for share, (_, other) in zip(weights, read, strict=True)
        ],
    }
    kept = {name: value for name, value in description.items() if name not in ("results", "calibration")}
    save_checkpoint(target, mean, {**kept, "trained": trained})


def _check_alike(one: Path, first: Tensors, said: Mapping, other: Path, tensors: Tensors, says: Mapping) -> None:
    if said.get("network") != says.get("network") or said.get("kind") != "network":
        raise WeightsError(f"{other}: expected a network with the settings of {one}, found other ones: not averaged")
    if {name: tensor.shape for name, tensor in first.items()} != {
        name: tensor.shape for name, tensor in tensors.items()
    }:
        raise WeightsError(f"{other}: expected the tensors of {one}, found others: not averaged")
    fixed = [name for name in first if name.startswith("pooling.") and not first[name].is_floating_point()]
    if any(not torch.equal(first[name], tensors[name]) for name in fixed):
        raise WeightsError(f"{other}: its sketch has other hashes than that of {one}: not averaged")


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not tensors[0].is_floating_point():  # hashes, which are the same, and counts of batches, which nothing uses
        return tensors[0]
    mean = sum(share * tensor.double() for share, tensor in zip(shares, tensors, strict=True)) / sum(shares)
    return torch.as_tensor(mean).to(tensors[0].dtype)


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor

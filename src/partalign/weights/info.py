"""What a model file says of itself, read without its tensors and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from partalign.errors import WeightsError
from partalign.evaluation.calibration import Calibration
from partalign.weights.formats import in_one_line, kind_of_file, sha256_of_file
from partalign.weights.onnx import read_onnx
from partalign.weights.shipped import find_model

FORMAT = 1


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself.

    results: of the evaluation after training; calibration: of the similarity of its descriptors, or None; trained:
    settings of the training run; version: the first 12 digits of the file's SHA-256, by which descriptors of different
    models are told apart; int8: how an int8 model agrees with float32, empty for others. An exported model has the name
    and version of the model it was made from: its descriptors are the same, or, of int8, all but the same.
    """

    name: str
    version: str
    title: str
    results: Mapping[str, float]
    calibration: Calibration | None
    network: Mapping[str, Any]
    trained: Mapping[str, Any]
    int8: Mapping[str, Any]


def read_info(model: str | Path | None = None) -> ModelInfo:
    """Say what a model file, or a shipped model, tells of itself. Raises WeightsError, EvaluationError."""
    path = find_model(model)
    if path.suffix == ".onnx":
        description = read_onnx(path).description
        name, version = description["source"]["name"], description["source"]["version"]
    else:
        description = read_description(path)
        name, version = path.stem, sha256_of_file(path)[:12]
    trained, calibration = description.get("trained") or {}, description.get("calibration")
    return ModelInfo(
        name=name,
        version=version,
        title=str(trained.get("title", "")),
        results=description.get("results") or {},
        calibration=None if calibration is None else Calibration.from_dict(calibration),
        network=description.get("network") or {},
        trained=trained,
        int8=description.get("int8") or {},
    )


def read_description(path: Path) -> dict[str, Any]:
    """Return what `checkpoint.save_checkpoint` was told of the tensors. Raises WeightsError."""
    require_safetensors(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise damaged(path, error) from None
    return parse_description(path, metadata)


def require_safetensors(path: Path) -> None:
    """Raise WeightsError, with advice, where a file is of another kind."""
    kind = kind_of_file(path)
    if kind != "a safetensors file":
        raise WeightsError(f"{path}: expected a model of partalign (.safetensors), found {kind}: {_advice(path, kind)}")


def damaged(path: Path, error: Exception) -> WeightsError:
    """Return the error to raise for a safetensors file that its library cannot read."""
    return WeightsError(f"{path}: a damaged safetensors file ({in_one_line(error, 120)}): copy it again")


def parse_description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the description in a safetensors file's metadata. Raises WeightsError."""
    if "partalign" not in metadata:
        raise WeightsError(
            f"{path}: expected a model of partalign, found a safetensors file of another program: "
            "use a file made by `partalign train` or `partalign convert`"
        )
    try:
        description = json.loads(metadata["partalign"])
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict):
        raise WeightsError(f"{path}: its description is damaged: copy the file again")
    if description.get("format") != FORMAT:
        found = in_one_line(description.get("format"))
        raise WeightsError(f"{path}: expected format {FORMAT}, found {found}: install a newer partalign to read it")
    return description


def _advice(path: Path, kind: str) -> str:
    if kind == "a PyTorch file":
        return "turn it into one with `partalign convert official` (or `openpose`) IN OUT.safetensors"
    if path.suffix == ".onnx":
        return "an exported model gives descriptors only; give the .safetensors file it was made from"
    if path.suffix == ".caffemodel":
        return "turn it into one with `partalign convert caffe` (or `openpose`) IN OUT.safetensors"
    return "check the path, or copy the file again"

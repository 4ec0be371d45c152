"""partalign export, partalign engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Flag = Annotated[bool, Parameter(negative="")]


def export(
    *files: Path, preprocessing: Flag = False, opset: int = 20, check: Path | None = None, openvino: Flag = False
) -> None:
    """Write a model as ONNX, checked against the network, for other programs and faster engines.

    Example: partalign export runs/rcpm/model.safetensors rcpm.onnx --openvino

    Args:
        files: the file to write (.onnx); a model file, or a shipped model's name, may come first
        preprocessing: take crops as they are (batch, height, width, RGB; 8 bits) in place of BGR minus the mean
        opset: version of ONNX's operators, 18 to 23
        check: a folder of crops to compare on, besides random pictures and generated people
        openvino: also write OpenVINO's .xml and .bin beside it
    """
    from partalign.datasets.folder import find_crops
    from partalign.errors import WeightsError
    from partalign.export import export_onnx, export_openvino

    if not 1 <= len(files) <= 2:
        raise WeightsError(f"expected [MODEL] OUT.onnx, found {len(files)} files")
    model, target = (files[0] if len(files) == 2 else None), files[-1]
    crops = () if check is None else find_crops((check,))
    cosine = export_onnx(model, target, preprocessing=preprocessing, opset=opset, check=crops)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB; least cosine to the network's descriptors {cosine:.7f}")
    if openvino:
        print(f"{export_openvino(target)}: checked, with the .bin beside it")


def engines(model: Path | None = None) -> None:
    """Check and time the engines that run a model, on this machine, fastest first.

    Example: partalign engines rcpm.onnx

    Args:
        model: a model file (.safetensors, or exported: .onnx), or the name of a shipped one; by default the shipped
            model
    """
    from partalign.engines import try_engines

    for trial in try_engines(model):
        figures = trial.problem or f"cosine to the network {trial.cosine:.7f}, {trial.rate:.0f} crops per second"
        print(f"{trial.name:15}{figures}")

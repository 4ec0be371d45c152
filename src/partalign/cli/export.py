"""partalign export, partalign engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from partalign.crops import Crop
    from partalign.engines import Trial

Flag = Annotated[bool, Parameter(negative="")]


def export(
    *files: Path,
    preprocessing: Flag = False,
    opset: int = 20,
    int8: Path | None = None,
    check: Path | None = None,
    openvino: Flag = False,
) -> None:
    """Write a model as ONNX, checked against the network, for other programs and faster engines.

    Example: partalign export runs/rcpm/model.safetensors rcpm.onnx --openvino

    Example: partalign export rcpm-int8.onnx --int8 crops/ --check labelled/

    Args:
        files: the file to write (.onnx); a model file, or a shipped model's name, may come first
        preprocessing: take crops as they are (batch, height, width, RGB; 8 bits) in place of BGR minus the mean
        opset: version of ONNX's operators, 18 to 23
        int8: compute in 8 bits, calibrated on this folder of crops; what that changes is measured and printed
        check: a folder of crops to compare on; with --int8 also to score on, where it says who is on them
            (names of files or a table, or Market-1501's layout)
        openvino: also write OpenVINO's .xml and .bin beside it
    """
    from partalign.datasets.folder import find_crops
    from partalign.errors import WeightsError
    from partalign.export import export_openvino

    if not 1 <= len(files) <= 2:
        raise WeightsError(f"expected [MODEL] OUT.onnx, found {len(files)} files")
    model, target = (files[0] if len(files) == 2 else None), files[-1]
    crops = () if check is None else find_crops((check,))
    if int8 is None:
        _float32(model, target, preprocessing, opset, crops)
    else:
        crops = (*crops, *_int8(model, target, preprocessing, opset, int8, check))
    if openvino:
        print(f"{export_openvino(target, model, crops)}: compared likewise, with the .bin beside it")


def _float32(model: Path | None, target: Path, preprocessing: bool, opset: int, crops: Sequence[Crop]) -> None:
    from partalign.export import export_onnx

    found = export_onnx(model, target, preprocessing=preprocessing, opset=opset, check=crops)
    size = target.stat().st_size / 1e6
    print(f"{target}: {size:.1f} MB; least cosine to the network's descriptors {found.least:.7f} of {found.crops:,}")


def _int8(
    model: Path | None, target: Path, preprocessing: bool, opset: int, folder: Path, check: Path | None
) -> list[Crop]:
    """Export, say what was lost, and return the crops of the folder that were not calibrated on."""
    from partalign.datasets import market1501
    from partalign.datasets.folder import find_crops, load
    from partalign.quantization import divided, export_int8

    read = market1501.load if check is not None and market1501.is_here(check) else load
    split, crops = None if check is None else read(check), find_crops((folder,))
    report = export_int8(model, target, crops, preprocessing=preprocessing, opset=opset, check=split)
    size, unseen = target.stat().st_size / 1e6, report.unseen
    print(f"{target}: {size:.1f} MB; int8, calibrated on {report.calibrated.crops} crops")
    print(
        f"cosine to float32 on {unseen.crops:,} crops that it was not calibrated on: least {unseen.least:.5f}, "
        f"95% above {unseen.low:.5f}, median {unseen.median:.5f}"
    )
    if report.scores is None:
        print("accuracy: not measured; --check FOLDER with crops of named persons, or `partalign evaluate`, does so")
    else:
        before, after = report.scores
        figures = [("rank-1", before.rank(1), after.rank(1)), ("mAP", before.mAP, after.mAP)]
        changes = ", ".join(f"{name} {100 * old:.2f} -> {100 * new:.2f}" for name, old, new in figures)
        print(f"accuracy, float32 -> int8: {changes} ({after.counts.scored:,} queries)")
    return divided(crops)[1]


def engines(model: Path | None = None, *, check: Path | None = None, against: Path | None = None) -> int:
    """Check and time the engines that run a model, on this machine, fastest first.

    It leaves with 1 where none runs it or, with --check, one of them does not agree with the network.

    Example: partalign engines rcpm.onnx --check crops/

    Args:
        model: a model file (.safetensors, or exported: .onnx), or the name of a shipped one; by default the shipped
            model
        check: a folder of crops on which to compare every engine with the network in torch, as an export is
        against: with --check, the .safetensors file of an exported model; by default one of its name beside it, or the
            shipped one
    """
    from partalign.datasets.folder import find_crops
    from partalign.engines import try_engines

    trials = try_engines(model, check=() if check is None else find_crops((check,)), against=against)
    for trial in trials:
        print(f"{trial.name:15}{trial.problem or _figures(trial)}")
    wrong = any(trial.problem and trial.agreement for trial in trials)
    return int(wrong or all(trial.problem for trial in trials))


def _figures(trial: Trial) -> str:
    rate, found = f"{trial.rate:.0f} crops per second", trial.agreement
    if found is None:
        return f"cosine to what is due {trial.cosine:.7f}, {rate}"
    return (
        f"cosine to the network on {found.crops:,} pictures: least {found.least:.7f}, median {found.median:.7f}; {rate}"
    )

"""partalign models, partalign average, partalign pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Shares = Annotated[list[float] | None, Parameter(consume_multiple=True, negative="")]


def models(model: str | None = None) -> None:
    """List the models in the package, or tell all that one says of itself.

    Example: partalign models googlenet-rcpm

    Args:
        model: the name of a shipped model, or any model file
    """
    import json
    from dataclasses import asdict

    from partalign.weights.info import read_info
    from partalign.weights.shipped import shipped_models

    if model is not None:
        print(json.dumps(asdict(read_info(model)), indent=2))
        return
    for name, path in shipped_models().items():
        info = read_info(path)
        figures = ", ".join(f"{key} {info.results[key]:.1%}" for key in ("rank-1", "mAP") if key in info.results)
        print(f"{name:24}{path.stat().st_size / 1e6:.1f} MB  {info.title}: {figures}\n    {path.with_suffix('.md')}")


def average(*sources: Path, out: Path, shares: Shares = None) -> None:
    """Average the weights of models that were trained on from the same start, often better than each of them.

    Example: partalign average runs/a/model.safetensors runs/b/model.safetensors --shares 0.4 0.6 --out both.safetensors

    Args:
        sources: model files of the same settings
        out: the file to write; score it with partalign evaluate
        shares: how much each counts; without, all alike
    """
    from partalign.files import check_ending
    from partalign.weights.packing import average_models

    average_models(sources, check_ending(out, ".safetensors"), shares)
    print(f"{out}: the average of {len(sources)} models")


def pack(source: Path, target: Path, *, scores: Path | None = None) -> None:
    """Store a trained model in half precision with its figures and calibration, to pass it on.

    Example: partalign pack runs/shipped/model.safetensors shop.safetensors --scores scores.json

    Args:
        source: a model file, as partalign train writes it
        target: the file to write
        scores: figures of the model, made by partalign evaluate ... --verification --json
    """
    import json

    from partalign.evaluation.calibration import read_calibration
    from partalign.weights.packing import pack_model

    results = calibration = None
    if scores is not None:
        calibration = read_calibration(scores)
        figures = json.loads(scores.read_bytes())
        results = {name: figures[name] for name in ("rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP")}
    cosine = pack_model(source, target, results, calibration)
    size = target.stat().st_size / 1e6
    print(f"{target}: {size:.1f} MB; cosine of its descriptors to those of full precision at least {cosine:.6f}")

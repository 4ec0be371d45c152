"""partalign explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

Flag = Annotated[bool, Parameter(negative="")]


def explain(
    *images: Path,
    out: Path,
    pose: Path | None = None,
    calibration: Path | None = None,
    lines: int = 10,
    dark: Flag = False,
    flip: Flag = False,
    persons: Annotated[int, Parameter(validator=Number(gte=2))] = 2,
    json_: Annotated[Path | None, Parameter(name="--json")] = None,
    device: str = "cpu",
) -> None:
    """Show which places and body parts make two pictures similar.

    Example: partalign explain a.jpg b.jpg --out explain.png

    Args:
        images: two pictures of persons; a model file, or a shipped model's name, may come first
        out: the picture to write (.png)
        pose: a pose network (parts.safetensors, or another model) that says which place is which body part; by default
            the model's own part stream
        calibration: figures of `evaluate --verification --json`, to say how probable the same person is; by default the
            model's own, where it has them
        lines: how many pairs of places to join
        dark: draw for a dark page
        flip: as for descriptors that are averaged with the mirrored crop's
        persons: how many persons B may be, all as likely before looking, one of them A; by default 2: as likely as not
        json_: also write the numbers to this file
        device: cpu, cuda, cuda:1 ...
    """
    import json

    from partalign.embedding import Embedder
    from partalign.errors import ExplanationError
    from partalign.evaluation.calibration import in_words, read_calibration
    from partalign.explanation import explain, load_pose
    from partalign.files import atomic_file
    from partalign.images import read_picture
    from partalign.pictures.explanation import draw_explanation
    from partalign.pictures.saving import check_target, save_picture
    from partalign.pictures.theme import DARK, LIGHT
    from partalign.weights.checkpoint import load_model
    from partalign.weights.info import read_info
    from partalign.weights.shipped import leading_model

    check_target(out)
    model, pair = leading_model(images)
    if len(pair) != 2:
        raise ExplanationError(f"expected two pictures to compare, found {len(pair)}: give A.jpg B.jpg")
    calibrated = read_info(model).calibration if calibration is None else read_calibration(calibration)
    if calibrated is None and persons != 2:
        raise ExplanationError("expected a calibration for --persons to change its probability, the model has none")
    pictures = read_picture(pair[0]), read_picture(pair[1])
    embedder = Embedder(load_model(model), device=device, flip=flip)
    found = explain(embedder, *pictures, pose=None if pose is None else load_pose(pose))
    probability = None if calibrated is None else calibrated.probability(found.score, 1 / persons)
    sentence = found.sentence(None if calibrated is None else calibrated.probability(found.score))
    sheet = draw_explanation(
        pictures,
        found.maps,
        found.strongest(lines),
        parts=None if found.weights is None else found.parts,
        sentence=sentence,
        probability=probability,
        persons=persons,
        theme=DARK if dark else LIGHT,
    )
    save_picture(sheet, out)
    if json_ is not None:
        with atomic_file(json_) as file:
            file.write(json.dumps(found.as_dict() | {"probability": probability, "sentence": sentence}).encode())
    print(
        f"similarity {found.score:.3f}"
        + ("" if probability is None else f", same person {in_words(probability, persons)}")
    )
    print(sentence)
    print(out)

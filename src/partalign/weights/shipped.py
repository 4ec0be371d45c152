"""The models in the package, by name. Each lies beside its model card."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from partalign.errors import WeightsError

DEFAULT = "googlenet-rcpm-dilated"
"""The model that is used where none is named."""

MODEL_SUFFIXES = (".safetensors", ".onnx")
"""How names of model files end: of our own, and of exported ones."""


def shipped_models() -> dict[str, Path]:
    """Names and files of the models in the package."""
    folder = Path(str(resources.files("partalign") / "models"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find_model(model: str | Path | None = None) -> Path:
    """Return the file of a model: a path, the name of a shipped model, or None for the default one.

    Raises WeightsError where a word is neither.
    """
    shipped = shipped_models()
    name = DEFAULT if model is None else str(model)
    if name in shipped and not Path(name).is_file():
        return shipped[name]
    path = Path(name)
    if path.suffix or path.exists() or len(path.parts) > 1:
        return path
    close = difflib.get_close_matches(name, shipped, n=1, cutoff=0.5)
    meant = f' (did you mean "{close[0]}"?)' if close else ""
    raise WeightsError(
        f'no model "{name}"{meant}; shipped ones are {", ".join(shipped) or "none"}, others are named by their file'
    )


def leading_model(words: Sequence[Path]) -> tuple[Path | None, tuple[Path, ...]]:
    """Divide `[MODEL] PICTURE ...` into the model and the rest: a model file, or a shipped model's name."""
    if words and (words[0].suffix in MODEL_SUFFIXES or (str(words[0]) in shipped_models() and not words[0].exists())):
        return words[0], tuple(words[1:])
    return None, tuple(words)

"""partalign: find the same person again.

Part-aligned bilinear representations for person re-identification (Suh et al., ECCV 2018). The names below are the
public interface; each is loaded on first use, so that `import partalign` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partalign.datasets import load_dataset
    from partalign.embedding import Embedder, evaluate
    from partalign.errors import PartAlignError
    from partalign.explanation import explain
    from partalign.gallery import Match, open_gallery
    from partalign.model.network import PartAlignedNetwork
    from partalign.training.settings import TrainSettings
    from partalign.training.trainer import train
    from partalign.weights.checkpoint import load_model

__version__ = "0.1.0"

_HOMES = {
    "Embedder": "partalign.embedding",
    "Match": "partalign.gallery",
    "PartAlignError": "partalign.errors",
    "PartAlignedNetwork": "partalign.model.network",
    "TrainSettings": "partalign.training.settings",
    "evaluate": "partalign.embedding",
    "explain": "partalign.explanation",
    "load_dataset": "partalign.datasets",
    "load_model": "partalign.weights.checkpoint",
    "open_gallery": "partalign.gallery",
    "train": "partalign.training.trainer",
}

__all__ = [  # noqa: RUF022 - in the order of use
    "load_dataset",
    "load_model",
    "PartAlignedNetwork",
    "Embedder",
    "TrainSettings",
    "train",
    "evaluate",
    "explain",
    "open_gallery",
    "Match",
    "PartAlignError",
]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'partalign' has no attribute {name!r}")

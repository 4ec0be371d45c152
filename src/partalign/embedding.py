"""Crops -> descriptors: the network run over files, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from partalign import progress
from partalign.crops import Crop, Embeddings, Split
from partalign.engines import Engine, load_engine
from partalign.errors import EvaluationError, ExplanationError
from partalign.evaluation.evaluate import Descriptors, score
from partalign.evaluation.metrics import APKind
from partalign.evaluation.protocols import Protocol, named
from partalign.evaluation.scores import Scores
from partalign.images import Pictures

if TYPE_CHECKING:
    import torch

    from partalign.engines.eager import NetworkEngine
    from partalign.model.network import PartAlignedNetwork

OnError = Literal["refuse", "skip"]

BATCH = 64


class Embedder:
    """A model, with what it takes to run it over files.

    model: a file, a shipped model's name, or None for the default one, run by the fastest engine that is right for
    `crops` crops (`engines.load_engine`); or such an engine; or a network as of `load_model`, which torch runs as it
    is. crops: None for any number. batch: crops that are read at once, while those before are described; by default 64,
    or twice as many as pass the engine at once, so that the next are sent to a GPU while it computes. flip: average the
    descriptor with the mirrored crop's. on_error: whether a picture that cannot be read stops the work ("refuse") or is
    named and left out ("skip").
    """

    def __init__(
        self,
        model: str | Path | Engine | PartAlignedNetwork | None = None,
        *,
        crops: int | None = None,
        device: str | torch.device = "cpu",
        batch: int | None = None,
        flip: bool = False,
        on_error: OnError = "refuse",
    ):
        self.engine = _as_engine(model, crops, device)
        self.batch = batch or max(BATCH, 2 * getattr(self.engine, "chunk", 0))
        self.flip = flip
        self.input_size, self.channels = self.engine.input_size, self.engine.channels
        self.on_error: OnError = on_error

    @property
    def network(self) -> PartAlignedNetwork:
        """The network, for those who look into it. Raises ExplanationError for an exported model."""
        return self._torch.network

    @property
    def device(self) -> torch.device:
        """Where the network is. Raises ExplanationError for an exported model."""
        return self._torch.device

    @property
    def _torch(self) -> NetworkEngine:
        if not hasattr(self.engine, "network"):
            raise ExplanationError(
                "expected a network whose maps can be seen, found an exported model, which gives descriptors only: "
                "give the .safetensors file it was made from"
            )
        return self.engine  # type: ignore[return-value]

    def embed(self, crops: Sequence[Crop], description: str = "embedding") -> Embeddings:
        """Return the descriptors (N, D) of the crops that can be read, in order. Raises PictureError."""
        pictures = Pictures(crops, self.input_size, on_error=self.on_error, cache_bytes=0)
        batches = [range(start, min(start + self.batch, len(crops))) for start in range(0, len(crops), self.batch)]
        rows, vectors = [np.empty(0, np.intp)], [np.empty((0, self.channels), np.float32)]
        with progress.bar(description, len(crops)) as advance:
            for chosen, pixels in pictures.stream(batches):
                if len(chosen):
                    rows.append(chosen)
                    vectors.append(self(pixels))
                advance(self.batch)
        return Embeddings(np.concatenate(vectors), tuple(crops[int(row)] for row in np.concatenate(rows)))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB -> (B, D) float32 descriptors of unit length. Raises ShapeError."""
        vectors = self.engine(pixels)
        if self.flip:
            vectors = vectors + self.engine(pixels[:, :, ::-1])
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def _as_engine(
    model: str | Path | Engine | PartAlignedNetwork | None, crops: int | None, device: str | torch.device
) -> Engine:
    if model is None or isinstance(model, str | Path):
        return load_engine(model, device=str(device), crops=crops)
    if not hasattr(model, "maps"):
        return model  # type: ignore[return-value]
    from partalign.engines.eager import NetworkEngine  # torch is loaded already: the network is of it

    return NetworkEngine(model, device)  # type: ignore[arg-type]


def embed_split(embedder: Embedder, split: Split, multi_query: bool = False) -> Descriptors:
    """Return the descriptors of the split's query, its gallery and, for multi-query, its pool; no crop is read twice.

    Raises PictureError; EvaluationError where a pool is asked for and the split has none.
    """
    if multi_query and not split.pool:
        raise EvaluationError(f"{split.name}: expected crops to average for multi-query (gt_bbox), found none")
    gallery = embedder.embed(split.gallery, "gallery")
    seen = {crop: row for row, crop in enumerate(gallery.crops)}

    def side(crops: Sequence[Crop], description: str) -> Embeddings:
        new = embedder.embed([crop for crop in crops if crop not in seen], description)
        if len(new) == len(crops):
            return new
        fresh = {crop: row for row, crop in enumerate(new.crops)}
        found = [crop for crop in crops if crop in seen or crop in fresh]  # without the skipped ones
        rows = [gallery.vectors[seen[c]] if c in seen else new.vectors[fresh[c]] for c in found]
        return Embeddings(np.array(rows, np.float32).reshape(-1, embedder.channels), tuple(found))

    return Descriptors(side(split.query, "query"), gallery, side(split.pool, "pool") if multi_query else None)


def evaluate(embedder: Embedder, split: Split, protocol: Protocol | None = None, ap: APKind = "rectangular") -> Scores:
    """Embed the split's query and gallery and score them, by the split's protocol or another.

    Raises PictureError, EvaluationError.
    """
    query, gallery, _ = embed_split(embedder, split)
    return score(query, gallery, protocol or named(split.protocol), ap, test_sets=split.test_sets)

"""Crops -> descriptors: the network run over files, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from partalign import progress
from partalign.crops import Crop, Embeddings, Split
from partalign.engines import Engine
from partalign.errors import EvaluationError, ExplanationError, WeightsError
from partalign.evaluation.evaluate import Descriptors, score
from partalign.evaluation.metrics import APKind
from partalign.evaluation.protocols import Protocol, named
from partalign.evaluation.scores import Scores
from partalign.images import Pictures, network_input
from partalign.model.network import PartAlignedNetwork

OnError = Literal["refuse", "skip"]

# A CPU's caches hold the maps of a few crops: 8 at a time are a tenth faster than 32 for the dilated OpenPose pair, not
# slower for the others, and take a quarter of the memory.
CPU_CHUNK = 8


class Embedder:
    """A network, or an exported model, with what it takes to run it over files.

    engine: what `load_model` or `engines.load_engine` gives; an exported model runs on the CPU. batch: crops that pass
    at once. flip: average the descriptor with the mirrored crop's. on_error: whether a picture that cannot be read
    stops the work ("refuse") or is named and left out ("skip").
    """

    def __init__(
        self,
        engine: Engine,
        *,
        device: str | torch.device = "cpu",
        batch: int = 64,
        flip: bool = False,
        on_error: OnError = "refuse",
    ):
        self.device, self.batch, self.flip = torch.device(device), batch, flip
        if isinstance(engine, nn.Module):
            engine.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif self.device.type != "cpu":
            raise WeightsError(
                f"expected device cpu for an exported model, found {device}: give the .safetensors file of the model"
            )
        self.engine = engine
        self.input_size, self.channels = engine.input_size, engine.channels
        self.on_error: OnError = on_error

    @property
    def network(self) -> PartAlignedNetwork:
        """The network, for those who look into it. Raises ExplanationError for an exported model."""
        if not isinstance(self.engine, PartAlignedNetwork):
            raise ExplanationError(
                "expected a network whose maps can be seen, found an exported model, which gives descriptors only: "
                "give the .safetensors file it was made from"
            )
        return self.engine

    def embed(self, crops: Sequence[Crop], description: str = "embedding") -> Embeddings:
        """Return the descriptors (N, D) of the crops that can be read, in order. Raises PictureError."""
        pictures = Pictures(crops, self.input_size, on_error=self.on_error, cache_bytes=0)
        batches = [range(start, min(start + self.batch, len(crops))) for start in range(0, len(crops), self.batch)]
        rows, vectors = [np.empty(0, np.intp)], [np.empty((0, self.channels), np.float32)]
        with progress.bar(description, len(crops)) as advance:
            for chosen, pixels in pictures.stream(batches):
                if len(chosen):
                    rows.append(chosen)
                    vectors.append(self(network_input(pixels)).cpu().numpy())
                advance(self.batch)
        return Embeddings(np.concatenate(vectors), tuple(crops[int(row)] for row in np.concatenate(rows)))

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) network input -> (B, D) descriptors of unit length."""
        chunks = pictures.split(CPU_CHUNK) if self.device.type == "cpu" else [pictures]
        return torch.cat([self._descriptors(chunk.to(self.device)) for chunk in chunks])

    @torch.inference_mode()
    def maps(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) network input -> appearance maps and part maps (None for a network of one stream)."""
        return self.network.maps(pictures.to(self.device))

    def _descriptors(self, pictures: Tensor) -> Tensor:
        vectors = self.engine(pictures)
        if self.flip:
            vectors = torch.nn.functional.normalize(vectors + self.engine(pictures.flip(3)))
        return vectors


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

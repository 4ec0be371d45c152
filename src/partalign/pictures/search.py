"""Queries and the gallery they search: pictures of one's own, or a data set's with queries drawn by lot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partalign.crops import Crop
from partalign.datasets import load_dataset
from partalign.datasets.folder import find_crops
from partalign.embedding import Embedder
from partalign.errors import DatasetError
from partalign.evaluation.evaluate import top_matches
from partalign.evaluation.protocols import Protocol, named
from partalign.pictures.ranked_list import RankedRow, rank_row


@dataclass(frozen=True)
class Search:
    """Queries, the gallery, and by which protocol crops of the gallery are left out; None leaves none out."""

    queries: tuple[Crop, ...]
    gallery: tuple[Crop, ...]
    protocol: Protocol | None = None

    def run(self, embedder: Embedder, top: int = 10) -> list[RankedRow]:
        """Return each query with its `top` best matches, pictures read. Raises PictureError, EvaluationError."""
        query, gallery = embedder.embed(self.queries, "queries"), embedder.embed(self.gallery, "gallery")
        if self.protocol is None:
            similarity = query.vectors @ gallery.vectors.T
            rows = np.argsort(-similarity, axis=1, kind="stable")[:, :top]
            scores = np.take_along_axis(similarity, rows, axis=1)
        else:
            rows, scores = top_matches(query, gallery, self.protocol, count=top)
        return [
            rank_row(crop, gallery.crops, rows[i], scores[i], label=f"Person {crop.person}" if crop.person else "")
            for i, crop in enumerate(query.crops)
        ]


def choose_search(
    images: Sequence[Path] = (),
    gallery: Path | None = None,
    *,
    dataset: str = "market1501",
    data: Path | None = None,
    queries: int = 5,
    seed: int = 0,
) -> Search:
    """Search a folder by pictures, or a data set's gallery by some of its queries, drawn by lot.

    Raises DatasetError where it is not just one of the two, or the data set has no queries.
    """
    if bool(images) != (gallery is not None) or bool(images) == (data is not None):
        raise DatasetError(
            "expected either pictures and --gallery DIR to search in, or --data DIR: give one of the two"
        )
    if data is None:
        return Search(find_crops(images), find_crops([gallery]))  # type: ignore[list-item]
    split = load_dataset(dataset, data)
    if not split.query or not split.gallery:
        raise DatasetError(f"{data}: expected query and gallery crops, found none: name pictures and --gallery instead")
    rows = np.random.default_rng(seed).permutation(len(split.query))[:queries]
    return Search(tuple(split.query[row] for row in rows), split.gallery, named(split.protocol))

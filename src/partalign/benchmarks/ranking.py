"""Scoring at Market-1501's sizes against forms that hold the whole distance matrix and sort every row of it.

References: the published Python form (full matrix, full argsort, a loop over queries and over ranks) and, where it is
installed, scikit-learn's average precision in place of the loop over ranks, as in the authors' code: both on some of
the queries, because all of them take minutes; and numpy in its place, on all of them. The descriptors are random, in
clusters, and so are persons and cameras; products are made by numpy in all forms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from partalign.benchmarks.measure import Bar, Comparison, compare
from partalign.crops import DISTRACTOR, JUNK, Crop, Embeddings
from partalign.evaluation.evaluate import score

AveragePrecision = Callable[[np.ndarray], float]


def run(
    queries: int = 3368,
    persons: int = 750,
    gallery: tuple[int, int, int] = (13115, 2798, 3819),
    dimension: int = 512,
    sample: int = 384,
    rounds: int = 3,
    threads: int = 1,
) -> list[Comparison]:
    """Score all queries, and `sample` of them; gallery: crops of persons, distractors, junk. Raises BenchmarkError."""
    query, rows = data(queries, persons, gallery, dimension)
    some = query.select(np.linspace(0, len(query) - 1, sample).astype(int))
    cases = [
        ("full sort, Python", some, in_python, Bar(speed=50)),
        ("full sort, scikit-learn", some, in_sklearn, Bar(speed=8)),
        ("full sort, numpy", query, in_numpy, Bar(saving=10)),
    ]
    if find_spec("sklearn") is None:
        del cases[1]
    lines = []
    for against, part, average_precision, bar in cases:
        lines.append(
            compare(
                f"score {len(part):,} x {len(rows):,} x {dimension}",
                against,
                partial(figures, part, rows),
                partial(by_full_sort, part, rows, average_precision),
                rounds=rounds,
                threads=threads,
                bar=bar,
            )
        )
    return lines


def data(queries: int, persons: int, gallery: tuple[int, int, int], dimension: int) -> tuple[Embeddings, Embeddings]:
    """Return query and gallery with Market-1501's kinds of crops, six cameras, and clusters that overlap."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((persons, dimension), dtype=np.float32)

    def side(names: np.ndarray) -> Embeddings:
        known = names >= 0
        vectors = 2.5 * draw.standard_normal((len(names), dimension), dtype=np.float32)
        vectors[known] += centres[names[known]]
        vectors[~known] += draw.standard_normal((int((~known).sum()), dimension), dtype=np.float32)
        cameras = draw.integers(1, 7, len(names))
        words = {-1: DISTRACTOR, -2: JUNK}
        crops = tuple(
            Crop(Path(f"{row}.jpg"), words.get(name, str(name + 1)), str(camera))
            for row, (name, camera) in enumerate(zip(names.tolist(), cameras.tolist(), strict=True))
        )
        return Embeddings(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), crops)

    true, distractors, junk = gallery
    names = np.concatenate((np.arange(true) % persons, np.full(distractors, -1), np.full(junk, -2)))
    return side(np.arange(queries) % persons), side(draw.permutation(names))


def figures(query: Embeddings, gallery: Embeddings) -> tuple[ArrayLike]:
    """Return mAP, rank-1 and rank-10 as the product scores them."""
    scores = score(query, gallery)
    return ([scores.mAP, scores.rank(1), scores.rank(10)],)


def by_full_sort(query: Embeddings, gallery: Embeddings, average_precision: AveragePrecision) -> tuple[ArrayLike]:
    """Return the same figures from the whole matrix of distances, each row of it sorted."""
    distances = 2 - 2 * (query.vectors @ gallery.vectors.T)
    order = np.argsort(distances, axis=1)
    persons, cameras = (np.array([getattr(crop, name) for crop in gallery.crops]) for name in ("person", "camera"))
    results = []
    for row, crop in zip(order, query.crops, strict=True):
        same = persons[row] == crop.person
        kept = (persons[row] != JUNK) & ~(same & (cameras[row] == crop.camera))
        hits = same[kept]
        if hits.any():
            first = int(hits.argmax())
            results.append((average_precision(hits), first < 1, first < 10))
    return (np.mean(results, axis=0),)


def in_python(hits: np.ndarray) -> float:
    """Average precision of one ranking (N,) of bool, with a Python loop over the ranks."""
    found = hits.cumsum()
    precision = [count / (rank + 1.0) for rank, count in enumerate(found)]
    return float((np.asarray(precision) * hits).sum() / hits.sum())


def in_sklearn(hits: np.ndarray) -> float:
    """Average precision of one ranking (N,) of bool, by scikit-learn from scores that fall with the rank."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(hits, -np.arange(len(hits))))


def in_numpy(hits: np.ndarray) -> float:
    """Average precision of one ranking (N,) of bool, from the places of its hits."""
    places = np.flatnonzero(hits) + 1
    return float((np.arange(1, len(places) + 1) / places).mean())

"""Scoring and re-ranking with 500,000 distractors: time, and memory beyond the descriptors.

Nothing is compared with a dense form, which would need terabytes. It takes more than half an hour of a processor's
time, and so runs only where it is asked for by name.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from partalign.benchmarks.measure import Bar, Comparison, compare, once
from partalign.benchmarks.ranking import data, figures
from partalign.evaluation.reranking import reranked_blocks

PRODUCT, ALONE = "product alone", "on its own"
_ROWS = 192
_SCORING = 2 * 10**9
_RERANKING = 12 * 10**9  # with the descriptors


def run(
    queries: int = 3368,
    persons: int = 750,
    gallery: tuple[int, int, int] = (13115, 502_798, 3819),
    dimension: int = 512,
    rounds: int = 1,
    threads: int = 1,
) -> list[Comparison]:
    """Score, then re-rank once; gallery: crops of persons, distractors, junk."""
    query, rows = data(queries, persons, gallery, dimension)
    size = f"{len(query):,} x {len(rows):,} x {dimension}"
    held = query.vectors.nbytes + rows.vectors.nbytes
    scored = compare(
        f"score {size}",
        PRODUCT,
        partial(figures, query, rows),
        partial(product, query.vectors, rows.vectors),
        tolerance=None,
        rounds=rounds,
        threads=threads,
        bar=Bar(speed=1 / 1.5, peak=_SCORING),
    )
    step = partial(first_rows, query.vectors, rows.vectors)
    reranked = once(f"re-rank {size}", ALONE, step, threads=threads, bar=Bar(peak=_RERANKING - held))
    return [scored, reranked]


def product(query: np.ndarray, gallery: np.ndarray) -> tuple[ArrayLike, ...]:
    """Multiply all queries with the gallery, some at a time."""
    buffer = np.empty((_ROWS, len(gallery)), dtype=np.float32)
    for top in range(0, len(query), _ROWS):
        part = query[top : top + _ROWS]
        np.matmul(part, gallery.T, out=buffer[: len(part)])
    return ()


def first_rows(query: np.ndarray, gallery: np.ndarray) -> tuple[ArrayLike]:
    """Return the (Q,) gallery rows that re-ranking puts first."""
    return (np.concatenate([block.argmax(axis=1) for _, block in reranked_blocks(query, gallery)]),)

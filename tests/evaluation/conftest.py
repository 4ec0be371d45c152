"""References that the fast versions are held against: slow, obvious, and written from the published descriptions."""

import numpy as np
import pytest


def slow_ranks(scores, matches, left_out, ties):
    """Ranks, from 1, of the matches in one query's row of scores, by sorting the whole row."""
    kept = [j for j in range(len(scores)) if j not in left_out]
    last = 1 if ties == "pessimistic" else -1
    order = sorted(kept, key=lambda j: (-scores[j], last if j in matches else 0))
    return [place for place, j in enumerate(order, start=1) if j in matches]


def compute_ap(good, junk, index):
    """Market-1501's `compute_AP.m`, line by line: the trapezoidal average precision and the CMC of one query."""
    cmc = [0.0] * len(index)
    ngood = len(good)
    old_recall, old_precision, ap, intersect_size, j, good_now, njunk = 0.0, 1.0, 0.0, 0.0, 0, 0, 0
    for n in range(len(index)):
        flag = 0
        if index[n] in good:
            cmc[n - njunk :] = [1.0] * (len(index) - n + njunk)
            flag = 1
            good_now += 1
        if index[n] in junk:
            njunk += 1
            continue
        if flag == 1:
            intersect_size += 1
        recall = intersect_size / ngood
        precision = intersect_size / (j + 1)
        ap += (recall - old_recall) * ((old_precision + precision) / 2)
        old_recall, old_precision = recall, precision
        j += 1
        if good_now == ngood:
            break
    return ap, cmc


def slow_score(query, gallery, scores, ties="pessimistic"):
    """Market-1501's evaluation, query by query, over (person, camera) pairs and a matrix of scores.

    Returns (trapezoidal APs, rectangular APs, mean CMC) of the queries that have a match.
    """
    trapezoidal, rectangular, curves = [], [], []
    for (person, camera), row in zip(query, scores.tolist(), strict=True):
        good = {j for j, (p, c) in enumerate(gallery) if p == person and c != camera and p != "-1"}
        junk = {j for j, (p, c) in enumerate(gallery) if p == "-1" or (p == person and c == camera)}
        if not good:
            continue
        last = 1 if ties == "pessimistic" else -1
        index = sorted(range(len(gallery)), key=lambda j, r=row, g=good: (-r[j], last if j in g else 0))
        ap, cmc = compute_ap(good, junk, index)
        trapezoidal.append(ap)
        curves.append(cmc)
        ranking = [j in good for j in index if j not in junk]
        precisions = [sum(ranking[: n + 1]) / (n + 1) for n, hit in enumerate(ranking) if hit]
        rectangular.append(sum(precisions) / len(precisions))
    return trapezoidal, rectangular, np.mean(curves, axis=0) if curves else None


@pytest.fixture(scope="session", name="slow_ranks")
def _slow_ranks():
    return slow_ranks


@pytest.fixture(scope="session", name="compute_ap")
def _compute_ap():
    return compute_ap


@pytest.fixture(scope="session", name="slow_score")
def _slow_score():
    return slow_score

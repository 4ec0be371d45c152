import doctest
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from partalign.errors import EvaluationError, ShapeError
from partalign.evaluation import metrics
from partalign.evaluation.metrics import (
    average_precision,
    cmc,
    inverse_negative_penalty,
    ranks_of_matches,
    score_blocks,
)

examples = settings(max_examples=200, deadline=None)  # the machine may be busy


@st.composite
def rankings(draw):
    """(query, gallery, matches, ignored, junk) of small whole numbers: every product is exact, ties abound."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, rows, dimensions = draw(st.integers(1, 8)), draw(st.integers(1, 60)), draw(st.integers(1, 4))
    spread = draw(st.integers(0, 3))
    query = rng.integers(-spread, spread + 1, (queries, dimensions))
    gallery = rng.integers(-spread, spread + 1, (rows, dimensions))
    # Of each row: 0 and 1 a non-match, 2 a match, 3 ignored, 4 junk (the same for all queries).
    kind = rng.integers(0, 4, (queries, rows))
    kind[:, rng.random(rows) < 0.2] = 4
    rows_of = [[np.flatnonzero(row == k) for row in kind] for k in (2, 3)]
    return query, gallery, rows_of[0], rows_of[1], np.flatnonzero(kind[0] == 4)


def lists(ranks):
    return [r.tolist() for r in ranks]


@examples
@given(rankings(), st.sampled_from(["pessimistic", "optimistic"]))
def test_ranks_equal_a_full_sort(slow_ranks, ranking, ties):
    query, gallery, matches, ignored, junk = ranking
    scores = (query @ gallery.T).tolist()
    expected = [
        slow_ranks(row, set(m.tolist()), set(i.tolist()) | set(junk.tolist()), ties)
        for row, m, i in zip(scores, matches, ignored, strict=True)
    ]
    assert lists(ranks_of_matches(query, gallery, matches, ignored, junk, ties=ties)) == expected


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
@pytest.mark.parametrize("sorted_per_match", [0, 10**9])
def test_counting_and_sorting_the_rivals_agree(monkeypatch, slow_ranks, ties, sorted_per_match):
    rng = np.random.default_rng(5)
    query, gallery = rng.integers(-3, 4, (4, 3)), rng.integers(-3, 4, (1500, 3))
    matches = [rng.choice(1500, k, replace=False) for k in (1, 3, 40, 300)]
    monkeypatch.setattr(metrics, "_SORTED_PER_MATCH", sorted_per_match)
    expected = [
        slow_ranks(row, set(m.tolist()), set(), ties)
        for row, m in zip((query @ gallery.T).tolist(), matches, strict=True)
    ]
    assert lists(ranks_of_matches(query, gallery, matches, ties=ties)) == expected


@examples
@given(rankings(), st.randoms(use_true_random=False))
def test_order_of_the_gallery_does_not_matter(ranking, random):
    query, gallery, matches, ignored, junk = ranking
    place = list(range(len(gallery)))
    random.shuffle(place)  # row j moves to place[j]
    moved = np.empty_like(gallery)
    moved[place] = gallery
    place = np.array(place)
    assert lists(ranks_of_matches(query, gallery, matches, ignored, junk)) == lists(
        ranks_of_matches(query, moved, [place[m] for m in matches], [place[i] for i in ignored], place[junk])
    )


@examples
@given(rankings(), st.integers(1, 20))
def test_added_junk_and_far_distractors_change_nothing(ranking, added):
    query, gallery, matches, ignored, junk = ranking
    before = lists(ranks_of_matches(query, gallery, matches, ignored, junk))
    nearest = np.repeat(query[:1] * 100, added, axis=0)
    new_rows = np.arange(len(gallery), len(gallery) + added)
    after = ranks_of_matches(query, np.vstack([gallery, nearest]), matches, ignored, np.append(junk, new_rows))
    assert lists(after) == before
    # One dimension more, in which only the distractors differ, puts them below all else.
    query_1 = np.hstack([query, np.ones((len(query), 1))])
    gallery_1 = np.hstack([gallery, np.zeros((len(gallery), 1))])
    far = np.hstack([gallery[rng_rows(len(gallery), added)], np.full((added, 1), -1000)])
    assert lists(ranks_of_matches(query_1, np.vstack([gallery_1, far]), matches, ignored, junk)) == before


def rng_rows(rows, count):
    return np.random.default_rng(count).integers(0, rows, count)


@examples
@given(rankings(), st.integers(-8, 8), st.integers(-8, 8))
def test_scale_does_not_matter(ranking, of_query, of_gallery):
    query, gallery, *relevant = ranking
    scaled = ranks_of_matches(query * 2.0**of_query, gallery * 2.0**of_gallery, *relevant)
    assert lists(scaled) == lists(ranks_of_matches(query, gallery, *relevant))


@pytest.fixture(scope="module")
def features():
    """Unit vectors in float32, clustered, of sizes that no block or product divides."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((30, 100))
    x = centres[rng.integers(0, 30, 2611)] + 2 * rng.standard_normal((2611, 100))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return x[:500], x[500:]


def test_block_memory_does_not_change_a_bit(features):
    query, gallery = features
    one = np.vstack([block.copy() for _, block in score_blocks(query, gallery)])
    assert one.shape == (500, 2111)
    assert np.allclose(one, query.astype(np.float64) @ gallery.T.astype(np.float64), atol=1e-6)
    for block_bytes in (0, 4 * 2**20):
        blocks = [block.copy() for _, block in score_blocks(query, gallery, block_bytes)]
        assert len(blocks) > 1
        assert np.array_equal(np.vstack(blocks), one)


@pytest.mark.parametrize("threads", [1, 2])
def test_equal_rows_tie_wherever_they_stand(features, threads):
    query, gallery = features
    rng = np.random.default_rng(1)
    which = rng.integers(0, 40, 3001)
    with threadpool_limits(threads):
        blocks = [block.copy() for _, block in score_blocks(query, gallery[which])]
    scores = np.vstack(blocks)
    first = np.array([np.flatnonzero(which == w)[0] for w in which])
    assert np.array_equal(scores, scores[:, first])


def test_descriptors_that_are_all_alike_score_worst(features):
    query, gallery = features[0][:20], np.repeat(features[1][:1], 1500, axis=0)
    matches = [[i, 700 + i, 1400 + i] for i in range(20)]
    assert lists(ranks_of_matches(query, gallery, matches)) == [[1498, 1499, 1500]] * 20
    assert lists(ranks_of_matches(query, gallery, matches, ties="optimistic")) == [[1, 2, 3]] * 20


def test_memory_is_that_of_one_block():
    rng = np.random.default_rng(0)
    query = rng.standard_normal((2000, 16), dtype=np.float32)
    gallery = rng.standard_normal((20_000, 16), dtype=np.float32)
    matches = list(rng.integers(0, 20_000, (2000, 3)))
    tracemalloc.start()
    try:
        ranks_of_matches(query, gallery, matches, block_bytes=16 * 2**20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20  # the whole matrix has 160 MB


ascending_ranks = st.sets(st.integers(1, 80), min_size=1, max_size=20).map(sorted)


@examples
@given(ascending_ranks, st.integers(0, 10))
def test_rectangular_equals_scikit_learn_without_ties(ranks, tail):
    length = ranks[-1] + tail
    hits = np.isin(np.arange(1, length + 1), ranks)
    assert average_precision(ranks) == pytest.approx(average_precision_score(hits, -np.arange(length)), abs=1e-12)


@examples
@given(rankings())
def test_with_ties_pessimistic_is_at_most_scikit_learn(ranking):
    # scikit-learn takes a group of equal scores as one step of the curve, so that with ties the two differ.
    query, gallery, matches, *_ = ranking
    for scores, m, r in zip(query @ gallery.T, matches, ranks_of_matches(query, gallery, matches), strict=True):
        if len(m):
            hits = np.isin(np.arange(len(gallery)), m)
            assert average_precision(r) <= average_precision_score(hits, scores) + 1e-12


@examples
@given(ascending_ranks, st.sets(st.integers(0, 100)), st.integers(0, 10))
def test_trapezoidal_equals_the_published_matlab_code(compute_ap, ranks, junk_places, tail):
    index, good, junk, rank = [], set(), set(), 0
    while rank < ranks[-1] + tail:
        if len(index) in junk_places:
            junk.add(len(index))
        else:
            rank += 1
            if rank in ranks:
                good.add(len(index))
        index.append(len(index))
    ap, curve = compute_ap(good, junk, index)
    assert average_precision(ranks, "trapezoidal") == pytest.approx(ap, abs=1e-12)
    assert curve[: rank - 1] == cmc([ranks], rank - 1).tolist()


@examples
@given(ascending_ranks)
def test_moving_a_match_up_raises_every_figure(ranks):
    perfect = list(range(1, len(ranks) + 1))
    for figure in (average_precision, lambda r: average_precision(r, "trapezoidal"), inverse_negative_penalty):
        assert 0 < figure(ranks) <= figure(perfect) == 1


@examples
@given(st.lists(st.one_of(ascending_ranks, st.just([])), min_size=1), st.integers(1, 100))
def test_cmc_is_the_share_of_queries_found(ranks, top):
    scored = [r for r in ranks if r]
    if not scored:
        with pytest.raises(EvaluationError, match=f"none of {len(ranks)} queries"):
            cmc(ranks, top)
        return
    expected = [sum(r[0] <= k for r in scored) / len(scored) for k in range(1, top + 1)]
    assert cmc(ranks, top) == pytest.approx(expected)


def test_no_match_is_nan_and_not_zero():
    assert np.isnan(average_precision([]))
    assert np.isnan(inverse_negative_penalty([]))
    assert lists(ranks_of_matches([[1.0]], [[1.0]], [[]])) == [[]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0, 0]], [[1.0]], [[0]]), ShapeError, "query descriptors have 2 dimensions, gallery descriptors 1"),
        (([[1.0]], [[1.0]], [[0], [0]]), ShapeError, "each of 1 queries, found 2"),
        (([[1.0]], [[1.0]], [[0]], []), ShapeError, "found 1 and 0"),
        (([[1.0]], np.ones((0, 1)), [[]]), ShapeError, "none empty"),
        (([1.0], [[1.0]], [[0]]), ShapeError, "expected query descriptors of shape"),
        (([[1.0]], [[np.nan], [1.0], [np.inf]], [[0]]), EvaluationError, "2 of 3 gallery descriptors"),
        (([[1.0]], [[1.0], [0.5]], [[0]], [[0]]), EvaluationError, "as a match and as ignored or junk"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ranks_of_matches(*arguments)


def test_unknown_definitions_are_refused():
    with pytest.raises(EvaluationError, match="one of rectangular, trapezoidal, found 'trapezoid'"):
        average_precision([1], "trapezoid")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="one of pessimistic, optimistic"):
        ranks_of_matches([[1.0]], [[1.0]], [[0]], ties="random")  # type: ignore[arg-type]


def test_examples_in_docstrings():
    result = doctest.testmod(metrics)
    assert result.attempted >= 6
    assert result.failed == 0


def test_evaluation_imports_without_torch():
    code = "import sys, partalign.evaluation.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@examples
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=6), st.integers(1, 12))
def test_cmc_of_all_matches_equals_a_walk_down_every_ranking(hits, top):
    hits = [row for row in hits if any(row)]
    ranks = [np.flatnonzero(row) + 1 for row in hits]
    if not hits:
        return
    found = [0.0] * 13
    for row in hits:
        earlier = 0
        for place, hit in enumerate(row):
            if hit:
                found[place - earlier] += 1 / sum(row)
                earlier += 1
    expected = np.cumsum(found)[:top] / len(hits)
    assert cmc(ranks, top, "all-matches") == pytest.approx(expected)

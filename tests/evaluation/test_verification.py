import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from partalign.crops import Crop, Embeddings
from partalign.errors import EvaluationError, ShapeError
from partalign.evaluation import verification
from partalign.evaluation.protocols import MARKET1501, Relevance
from partalign.evaluation.verification import PairScores, pair_scores, similarity_of_steps

examples = settings(max_examples=100, deadline=None)  # the machine may be busy
STEP = verification.RESOLUTION


def embeddings(vectors, people=None, cameras=None):
    people = ["1"] * len(vectors) if people is None else people
    cameras = ["c1"] * len(vectors) if cameras is None else cameras
    crops = [Crop(Path(f"{i}.jpg"), p, c) for i, (p, c) in enumerate(zip(people, cameras, strict=True))]
    return Embeddings(np.asarray(vectors, np.float32), tuple(crops))


@st.composite
def comparisons(draw):
    """(query, gallery, kinds) with each pair's kind: 0, 1 a non-match, 2 a match, 3 ignored, 4 junk (whole columns)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, rows, dimensions = draw(st.integers(1, 8)), draw(st.integers(2, 50)), draw(st.integers(2, 4))
    query, gallery = rng.integers(-3, 4, (queries, dimensions)), rng.integers(-3, 4, (rows, dimensions))
    query[~query.any(axis=1)] = 1
    gallery[~gallery.any(axis=1)] = 1
    kinds = rng.integers(0, 4, (queries, rows))
    kinds[:, rng.random(rows) < 0.2] = 4
    kinds[0, :2] = 0, 2
    kinds[1:, :2] = np.minimum(kinds[1:, :2], 3)
    return query, gallery, kinds


def relevance(kinds):
    rows = [tuple(np.flatnonzero(row == kind) for row in kinds) for kind in (2, 3)]
    return Relevance(rows[0], rows[1], np.flatnonzero(kinds[0] == 4))


def scores_of(query, gallery, kinds, **options):
    return pair_scores(embeddings(query), embeddings(gallery), relevance(kinds), **options)


def slow_pairs(query, gallery, kinds):
    """Similarities of all matches and of all non-matches, in float64."""
    lengths = [np.linalg.norm(v, axis=1) for v in (query, gallery)]
    cosines = (query @ gallery.T) / np.outer(*lengths)
    return cosines[kinds == 2], cosines[kinds < 2]


def same(a, b):
    return np.array_equal(a.matches, b.matches) and np.array_equal(a.non_matches, b.non_matches)


@examples
@given(comparisons())
def test_pairs_are_those_of_an_obvious_count(comparison):
    pairs = scores_of(*comparison)
    matches, others = slow_pairs(*comparison)
    np.testing.assert_allclose(pairs.matches, np.sort(matches), atol=5e-7)
    assert pairs.non_match_count == len(others)
    binned = np.repeat(similarity_of_steps(), pairs.non_matches)
    np.testing.assert_allclose(binned, np.sort(others), atol=STEP / 2 + 5e-7)


@examples
@given(comparisons(), st.randoms(use_true_random=False))
def test_order_of_the_gallery_does_not_matter(comparison, random):
    query, gallery, kinds = comparison
    order = list(range(len(gallery)))
    random.shuffle(order)
    assert same(scores_of(query, gallery, kinds), scores_of(query, gallery[order], kinds[:, order]))


@examples
@given(comparisons(), st.integers(1, 9))
def test_added_junk_changes_nothing(comparison, added):
    query, gallery, kinds = comparison
    more = np.repeat(query[:1], added, axis=0)
    junk = np.full((len(query), added), 4)
    assert same(scores_of(*comparison), scores_of(query, np.vstack([gallery, more]), np.hstack([kinds, junk])))


@examples
@given(comparisons(), st.integers(-8, 8), st.integers(-8, 8))
def test_lengths_of_descriptors_do_not_matter(comparison, of_query, of_gallery):
    query, gallery, kinds = comparison
    assert same(scores_of(*comparison), scores_of(query * 2.0**of_query, gallery * 2.0**of_gallery, kinds))


@examples
@given(comparisons(), st.integers(1, 60))
def test_far_non_matches_only_lower_the_false_accepts(comparison, added):
    query, gallery, kinds = comparison
    # Two dimensions more; the new rows are opposite to all queries in them and equal in nothing else.
    query = np.hstack([query, np.full((len(query), 1), 9)])
    gallery = np.hstack([gallery, np.ones((len(gallery), 1), int)])
    far = np.zeros((added, query.shape[1]))
    far[:, -1] = -1
    before = scores_of(query, gallery, kinds)
    after = scores_of(query, np.vstack([gallery, far]), np.hstack([kinds, np.zeros((len(query), added), int)]))

    def shares_above(pairs):  # of non-matches, at every step of similarity
        return np.cumsum(pairs.non_matches[::-1]) / pairs.non_match_count

    assert (shares_above(after) <= shares_above(before)).all()
    assert np.array_equal(after.matches, before.matches)
    assert after.auc >= before.auc - 1e-12


@examples
@given(comparisons())
def test_rates_only_rise(comparison):
    pairs = scores_of(*comparison)
    false, true = pairs.roc()
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    assert 0 <= pairs.auc <= 1
    assert 0 <= pairs.equal_error_rate <= 1


@pytest.fixture(scope="module")
def people():
    """Clustered unit vectors of 40 persons, junk and distractors among them: (query, gallery, cosines, kinds)."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((40, 32))

    def make(count, persons):
        vectors = centres[persons] + 1.3 * rng.standard_normal((count, 32))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        names = np.array([f"{p:04d}" for p in persons])
        return vectors, names, rng.choice(["c1", "c2", "c3"], count)

    query, gallery = make(230, rng.integers(0, 30, 230)), make(901, rng.integers(0, 40, 901))
    gallery[1][:40] = "-1"
    same_person = query[1][:, None] == gallery[1]
    same_camera = query[2][:, None] == gallery[2]
    kinds = np.where(same_person, np.where(same_camera, 3, 2), 0)
    kinds[:, :40] = 4
    return embeddings(*query), embeddings(*gallery), query[0] @ gallery[0].T, kinds


@pytest.fixture(scope="module")
def pairs(people):
    query, gallery, _, _ = people
    return pair_scores(query, gallery, MARKET1501.relevance(query.crops, gallery.crops))


def test_figures_agree_with_scikit_learn_on_single_pairs(people, pairs):
    _, _, cosines, kinds = people
    same_person, similarity = (kinds == 2)[kinds < 3], cosines[kinds < 3]
    assert (pairs.match_count, pairs.non_match_count) == (same_person.sum(), (~same_person).sum())
    assert pairs.auc == pytest.approx(roc_auc_score(same_person, similarity), abs=1e-5)
    false, true, thresholds = roc_curve(same_person, similarity, drop_intermediate=False)
    assert pairs.equal_error_rate == pytest.approx(np.interp(0, false + true - 1, false), abs=2e-4)
    for rate in (0.5, 0.1, 0.01, 1e-3):
        allowed = np.flatnonzero(false <= rate)[-1]
        assert pairs.true_accept_at(rate) == pytest.approx(true[allowed], abs=1e-3)  # a few pairs within a step
        threshold = pairs.threshold_at(rate)
        assert np.mean(similarity[~same_person] >= threshold) <= rate
        assert np.mean(similarity[same_person] >= threshold) == pytest.approx(pairs.true_accept_at(rate), abs=1e-9)
        # One step lower would accept too many.
        assert np.mean(similarity[~same_person] >= threshold - STEP) > rate - 1e-12
    ours = np.interp(false, *pairs.roc())
    np.testing.assert_allclose(ours, np.interp(false, false, true), atol=2e-3)
    assert thresholds[1] <= 1


def test_size_of_blocks_changes_no_bit(people, pairs):
    query, gallery, _, _ = people
    relevant = MARKET1501.relevance(query.crops, gallery.crops)
    assert same(pairs, pair_scores(query, gallery, relevant, block_bytes=1))


def test_size_of_strips_changes_no_count(monkeypatch, people, pairs):
    query, gallery, _, _ = people
    monkeypatch.setattr(verification, "_STRIP", 1)
    assert same(pairs, pair_scores(query, gallery, MARKET1501.relevance(query.crops, gallery.crops)))


def test_the_matrix_is_never_held():
    rng = np.random.default_rng(0)
    query, gallery = (embeddings(rng.standard_normal((n, 4))) for n in (2000, 4000))
    kinds = [np.array([i]) for i in range(2000)]
    none = (np.empty(0, np.intp),) * 2000
    tracemalloc.start()
    try:
        pair_scores(query, gallery, Relevance(tuple(kinds), none, none[0]), block_bytes=2**20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2000 * 4000 * 4 / 2  # most of it counts and the 262,144 of a strip, both of fixed size


def test_rates_are_told_only_where_enough_pairs_were_seen():
    counts = np.zeros(len(similarity_of_steps()), np.int64)
    counts[40_000:40_300] = 1
    few = PairScores(np.array([0.5], np.float32), counts)
    assert few.true_accept_at(0.1) == 1.0  # 30 of 300
    assert math.isnan(few.true_accept_at(0.0999))
    assert math.isnan(few.threshold_at(1e-6))
    reported = few.as_dict()["true_accept_at_false_accept"]
    assert reported == {"1e-01": 1.0, "1e-02": None, "1e-03": None, "1e-04": None, "1e-05": None, "1e-06": None}


def test_a_rate_that_is_a_whole_number_of_pairs_is_reached():
    counts = np.zeros(len(similarity_of_steps()), np.int64)
    counts[40_000:40_100] = 1
    scores = PairScores(similarity_of_steps()[40_000:40_100].astype(np.float32), counts)
    assert 0.57 * 100 < 57  # in floating point
    assert scores.true_accept_at(0.57) == 0.57


def test_collapsed_descriptors_accept_nothing_early():
    alike = embeddings(np.ones((40, 3)))
    kinds = np.zeros((40, 40), int)
    np.fill_diagonal(kinds, 2)
    pairs = pair_scores(alike, alike, relevance(kinds))
    assert (pairs.auc, pairs.equal_error_rate, pairs.true_accept_at(0.5)) == (0.5, 0.5, 0.0)


def test_pairs_that_cannot_be_scored_are_refused():
    two = embeddings(np.eye(2))
    none, both = np.empty(0, np.intp), np.arange(2)
    with pytest.raises(EvaluationError, match="found no matching pairs"):
        pair_scores(two, two, Relevance((none, none), (none, none), none))
    with pytest.raises(EvaluationError, match="found no other pairs"):
        pair_scores(two, two, Relevance((both, both), (none, none), none))
    with pytest.raises(EvaluationError, match="as a match and as ignored"):
        pair_scores(two, two, Relevance((both[:1], none), (both[:1], none), none))
    with pytest.raises(ShapeError, match="2 queries, found that of 1"):
        pair_scores(two, two, Relevance((both,), (none,), none))
    with pytest.raises(ShapeError, match="dimensions"):
        pair_scores(two, embeddings(np.eye(3)), Relevance((both, both), (none, none), none))
    with pytest.raises(EvaluationError, match="above 0 and at most 1, found 0"):
        pair_scores(two, two, Relevance((both[:1], both[1:]), (none, none), none)).threshold_at(0)

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from partalign.errors import EvaluationError
from partalign.evaluation.calibration import Calibration, calibrate, in_words, percent
from partalign.evaluation.verification import PairScores, similarity_of_steps

examples = settings(max_examples=60, deadline=None)  # the machine may be busy


def pairs_of(matches, others):
    """PairScores of single similarities; those of non-matches go into their steps."""
    edges = similarity_of_steps() - (similarity_of_steps()[1] - similarity_of_steps()[0]) / 2
    counts = np.bincount(np.searchsorted(edges, others, "right") - 1, minlength=len(edges))
    return PairScores(np.sort(np.asarray(matches, np.float32)), counts)


@pytest.fixture(scope="module")
def similarities():
    rng = np.random.default_rng(3)
    return np.tanh(rng.normal(0.6, 0.25, 3000)), np.tanh(rng.normal(0.1, 0.2, 40_000))


@pytest.fixture(scope="module")
def calibration(similarities):
    return calibrate(pairs_of(*similarities))


def test_it_is_scikit_learns_logistic_regression_on_single_pairs(similarities, calibration):
    x, same = np.concatenate(similarities), np.repeat([1, 0], [3000, 40_000])
    weight = np.repeat([0.5 / 3000, 0.5 / 40_000], [3000, 40_000])
    target = np.where(same, 3001 / 3002, 1 / 40_002)
    # Platt's targets as two weighted pairs each, of either kind.
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(x, 2)[:, None],
        np.repeat([1, 0], len(x)),
        sample_weight=np.concatenate([weight * target, weight * (1 - target)]) * 43_000,
    )
    assert calibration.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-3)
    assert calibration.offset == pytest.approx(oracle.intercept_[0], rel=1e-3)
    balanced = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-10, max_iter=1000).fit(x[:, None], same)
    assert calibration.slope == pytest.approx(balanced.coef_[0, 0], rel=0.03)  # what the targets cost
    predicted = balanced.predict_proba(x[:, None])[:, 1]
    assert calibration.log_loss == pytest.approx(log_loss(same, predicted, sample_weight=weight), abs=1e-3)


def test_calibration_error_is_the_mean_gap_over_cells(similarities, calibration):
    x, same = np.concatenate(similarities), np.repeat([1, 0], [3000, 40_000])
    weight = np.repeat([0.5 / 3000, 0.5 / 40_000], [3000, 40_000])
    probability = 1 / (1 + np.exp(-(calibration.slope * x + calibration.offset)))
    expected = 0
    for cell in range(15):
        inside = (probability >= cell / 15) & (probability < (cell + 1) / 15)
        if inside.any():
            w = weight[inside] / weight[inside].sum()
            expected += weight[inside].sum() * abs(w @ probability[inside] - w @ same[inside])
    assert calibration.calibration_error == pytest.approx(expected, abs=2e-4)
    assert calibration.quality(pairs_of(*similarities)) == (calibration.log_loss, calibration.calibration_error)


def test_true_probabilities_are_found_again():
    """Pairs drawn so that P(same | s) is a known logistic curve at equal priors."""
    rng = np.random.default_rng(8)
    s = rng.uniform(-0.2, 1, 400_000)
    same = rng.random(len(s)) < 1 / (1 + np.exp(-(9 * s - 3.6)))  # its middle is the draw's: as many of either kind
    fitted = calibrate(pairs_of(s[same], s[~same]))
    assert fitted.slope == pytest.approx(9, rel=0.02)
    assert fitted.probability(0.4) == pytest.approx(0.5, abs=0.01)
    assert fitted.calibration_error < 0.01


@examples
@given(st.floats(0.1, 500), st.floats(-50, 50), st.floats(0.001, 0.999), st.floats(1e-9, 0.999), st.floats(-1, 1))
def test_threshold_is_where_the_probability_is_reached(slope, offset, wanted, prior, similarity):
    c = Calibration(slope, offset, 1, 1, 0.1, 0.1)
    assert c.probability(c.threshold(wanted, prior), prior) == pytest.approx(wanted, rel=1e-6)
    assert c.threshold(wanted, prior) >= c.threshold(wanted, min(0.9999, prior * 1.01)) - 1e-9
    assert c.probability(similarity) <= c.probability(similarity + 0.01)


def test_prior_follows_bayes_rule(calibration):
    even = calibration.probability(0.35)
    odds = even / (1 - even) * 0.01 / 0.99
    assert calibration.probability(0.35, prior=0.01) == pytest.approx(odds / (1 + odds))
    many = calibration.probability([[0.1, 0.35]])
    assert many.shape == (1, 2)
    assert many[0, 1] == even


@examples
@given(st.integers(1, 300), st.integers(1, 3000), st.floats(-0.75, 0.75), st.floats(1e-4, 0.2))
def test_kinds_that_do_not_overlap_get_a_finite_slope(matches, others, middle, gap):
    c = calibrate(pairs_of(np.linspace(middle + gap, 1, matches), np.linspace(-1, middle - gap, others)))
    assert 0 < c.slope < 1e7
    assert c.probability(1) > 0.5 > c.probability(-1)


@examples
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.3), st.floats(-0.6, 0.6), st.floats(-0.1, 0.3))
def test_it_settles_on_any_pairs_or_says_why_not(seed, spread, centre, shift):
    rng = np.random.default_rng(seed)
    draw = lambda n, at: np.clip(rng.normal(at, spread, n), -1, 1)  # noqa: E731
    pairs = pairs_of(draw(50, centre + shift), draw(500, centre))
    try:
        c = calibrate(pairs)
    except EvaluationError as error:
        assert "not more similar" in str(error)  # noqa: PT017
        return
    assert c.log_loss <= math.log(2) + 1e-3  # never worse than a coin
    nudged = [Calibration(c.slope * a, c.offset * b, 1, 1, 0, 0) for a, b in [(1.05, 1), (0.95, 1), (1, 1.05)]]
    assert c.log_loss <= min(n.quality(pairs)[0] for n in nudged) + 0.02  # Platt's targets move it a little


@pytest.mark.parametrize(
    ("matches", "others"), [([0.1, 0.2], [0.5, 0.6]), ([0.5, 0.5], [0.5, 0.5]), ([0.3, 0.7], [0.3, 0.7])]
)
def test_matches_no_more_similar_than_others_are_refused(matches, others):
    with pytest.raises(EvaluationError, match="not more similar than others"):
        calibrate(pairs_of(matches, np.asarray(others)))


@pytest.mark.parametrize(
    ("probability", "said"),
    [(0.0, "<1%"), (0.0099, "<1%"), (0.01, "1%"), (0.5, "50%"), (0.99, "99%"), (0.9901, ">99%"), (1.0, ">99%")],
)
def test_no_probability_is_said_to_be_nought_or_whole(probability, said):
    assert percent(probability) == said
    assert in_words(probability) == f"{said}, if as likely as not"
    assert in_words(probability, 1500) == f"{said}, if one of 1,500 persons"


def test_it_survives_json(calibration):
    assert Calibration.from_dict(json.loads(json.dumps(calibration.as_dict()))) == calibration


@pytest.mark.parametrize(
    "change",
    [
        {"slope": "3"}, {"slope": None}, {"slope": True}, {"slope": -1.0}, {"slope": 0}, {"offset": math.nan},
        {"offset": math.inf}, {"slope": 10**400}, {"extra": 1.0}, {"slope": [1.0]},
    ],
)  # fmt: skip
def test_what_is_no_calibration_is_refused(calibration, change):
    with pytest.raises(EvaluationError, match=r"expected .* calibration"):
        Calibration.from_dict(calibration.as_dict() | change)
    for other in ({}, [], None, "slope"):
        with pytest.raises(EvaluationError, match="expected a calibration with"):
            Calibration.from_dict(other)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 1, -0.1, math.nan])
def test_impossible_probabilities_are_refused(calibration, value):
    with pytest.raises(EvaluationError, match="prior between 0 and 1"):
        calibration.probability(0.5, prior=value)
    with pytest.raises(EvaluationError, match="probability between 0 and 1"):
        calibration.threshold(value)

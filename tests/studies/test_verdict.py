"""The rule that decides whether a claim held, against SciPy's paired t test, and its invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from partalign.studies.claims import Expectation, above, level
from partalign.studies.verdict import answer, difference, sentence

FRACTIONS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8)


def figures(**columns):
    return {name: dict(enumerate(values)) for name, values in columns.items()}


@given(FRACTIONS)
def test_the_interval_is_that_of_a_paired_t_test(pairs):
    ours, theirs = np.array(pairs).T
    if np.ptp(ours - theirs) < 1e-6:
        return
    expected = ttest_rel(ours, theirs).confidence_interval(0.9)
    found = difference((ours - theirs).tolist())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(FRACTIONS, st.floats(-0.5, 0.5))
def test_what_all_variants_of_a_world_share_does_not_count(pairs, shift):
    ours, theirs = map(list, zip(*pairs, strict=True))
    shifts = [shift * (-1) ** i for i in range(len(pairs))]
    moved = figures(a=np.add(ours, shifts), b=np.add(theirs, shifts))
    plain, other = (answer(above("", "a", "b"), table).difference for table in (figures(a=ours, b=theirs), moved))
    assert plain.mean == pytest.approx(other.mean, abs=1e-9)
    assert plain.low == pytest.approx(other.low, abs=1e-7)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([0.50, 0.62, 0.55], "held"),
        ([0.30, 0.42, 0.35], "did not hold"),
        ([0.50, 0.42, 0.35], "not decided"),
        ([0.90], "not decided"),
    ],
)
def test_above(ours, verdict):
    found = answer(above("ours are better", "a", "b"), figures(a=ours, b=[0.40, 0.50, 0.46][: len(ours)]))
    assert found.answer == verdict


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([0.405, 0.495, 0.46], "held"),
        ([0.50, 0.61, 0.56], "did not hold"),
        ([0.40, 0.55, 0.41], "not decided"),
    ],
)
def test_level(ours, verdict):
    found = answer(level("they are level", "a", "b"), figures(a=ours, b=[0.40, 0.50, 0.46]))
    assert found.answer == verdict


def test_a_difference_of_differences_and_only_seeds_that_all_have():
    table = figures(a=[0.5, 0.6, 0.7], b=[0.4, 0.4, 0.4], c=[0.3, 0.3, 0.3], d=[0.25, 0.25])
    found = answer(Expectation("the lead grows", {"a": 1, "b": -1, "c": -1, "d": 1}), table)
    assert found.difference.values == pytest.approx((0.05, 0.15))


def test_the_sentence_names_every_answer_once():
    table = figures(a=[0.50, 0.61, 0.56], b=[0.40, 0.50, 0.46])
    answers = [answer(e, table) for e in (above("a beats b", "a", "b"), above("b beats a", "b", "a"))]
    told = sentence(answers, "world")
    assert told.startswith("With 3 worlds. Held: a beats b (+10.3")
    assert "Did not hold: b beats a (-10.3" in told

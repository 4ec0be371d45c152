import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partalign.errors import EvaluationError, ShapeError
from partalign.evaluation.expansion import expanded

examples = settings(max_examples=150, deadline=None)  # the machine may be busy


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def slowly(query, gallery, count, power):
    """One query after the other, by a full sort of the gallery."""
    results = []
    for q in unit(query.astype(np.float64)):
        similarities = (gallery @ q).round(5)  # equal rows differ in the last bit
        best = sorted(range(len(gallery)), key=lambda j, s=similarities: (-s[j], j))[:count]
        results.append(unit(q + sum(max(similarities[j], 0) ** power * gallery[j] for j in best)))
    return np.array(results)


@st.composite
def data(draw):
    """Queries of any length, and a gallery of unit vectors among which many are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, dimensions = draw(st.integers(1, 30)), draw(st.integers(3, 6))
    few = unit(rng.standard_normal((draw(st.integers(1, 12)), dimensions)))
    return rng.standard_normal((5, dimensions)), few[rng.integers(0, len(few), rows)]


@examples
@given(data(), st.integers(0, 8), st.sampled_from([0.0, 1.0, 3.0]))
def test_equal_to_a_full_sort(sides, count, power):
    found = expanded(*sides, count=count, power=power)
    assert found.dtype == np.float32
    assert found == pytest.approx(slowly(*sides, count, power), abs=1e-4)


def test_the_plain_mean_of_known_vectors():
    found = expanded([[2.0, 0.0]], [[0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]], count=2)
    assert found == pytest.approx(unit(np.array([[1.6, 1.8]])))


def test_block_memory_does_not_change_a_bit():
    rng = np.random.default_rng(0)
    query, gallery = unit(rng.standard_normal((500, 40))), unit(rng.standard_normal((900, 40)))
    assert np.array_equal(expanded(query, gallery), expanded(query, gallery, block_bytes=0))


def test_a_query_that_its_row_cancels_stays():
    assert expanded([[3.0, 0.0]], [[-1.0, 0.0]]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("query", "options", "error", "message"),
    [
        ([[1.0, 0]], {}, ShapeError, "query descriptors have 2 dimensions"),
        ([[0.0]], {}, EvaluationError, "1 of 1 query descriptors have length 0"),
        ([[np.inf]], {}, EvaluationError, "not finite"),
        ([[1.0]], {"count": -1}, EvaluationError, "found count=-1"),
        ([[1.0]], {"power": -1.0}, EvaluationError, "power=-1.0"),
    ],
)
def test_bad_input_is_refused(query, options, error, message):
    with pytest.raises(error, match=message):
        expanded(query, [[1.0]], **options)

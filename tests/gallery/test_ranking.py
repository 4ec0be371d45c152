import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partalign.gallery import ranking
from partalign.gallery.ranking import best_rows


@settings(max_examples=80)
@given(
    st.integers(0, 200), st.integers(1, 5), st.integers(1, 60), st.integers(0, 10**6), st.booleans(), st.integers(1, 3)
)
def test_the_best_rows_are_those_of_a_full_sort(rows, queries, count, seed, masked, step):
    draw = np.random.default_rng(seed)
    # Few different values: many ties.
    matrix = draw.integers(-2, 3, (rows, 3)).astype(np.float32) / 8
    asked = draw.integers(-2, 3, (queries, 3)).astype(np.float32) / 8
    mask = draw.random(rows) < draw.random() if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_ROWS", 16 * step)
        found = best_rows(matrix, asked, count, mask)
    scores = asked @ matrix.T
    for (places, values), row in zip(found, scores, strict=True):
        allowed = np.flatnonzero(mask) if mask is not None else np.arange(rows)
        order = sorted(allowed.tolist(), key=lambda i: (-row[i], i))
        last = row[order[min(count, len(order)) - 1]] if order else 0
        assert places.tolist() == [i for i in order if row[i] >= last]
        assert np.array_equal(values, row[places])


def test_more_queries_than_a_block_holds():
    draw = np.random.default_rng(0)
    matrix, asked = (draw.standard_normal((n, 8)).astype(np.float32) for n in (5000, 3000))
    found = best_rows(matrix, asked, 10)
    scores = asked @ matrix.T
    best = np.sort(scores, axis=1)[:, ::-1][:, :10]
    assert np.allclose([values[:10] for _, values in found], best, atol=1e-5)

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from threadpoolctl import threadpool_limits

from partalign import progress
from partalign.errors import EvaluationError, ShapeError
from partalign.evaluation.metrics import ranks_of_matches
from partalign.evaluation.reranking import reranked_blocks

examples = settings(max_examples=150, deadline=None)  # the machine may be busy


def reranked(query, gallery, **options):
    blocks = [(first, block.copy()) for first, block in reranked_blocks(query, gallery, **options)]
    assert [first for first, _ in blocks] == np.cumsum([0, *(len(block) for _, block in blocks)])[:-1].tolist()
    return np.vstack([block for _, block in blocks])


def by_definition(query, gallery, k1, k2, weight):
    """Zhong et al. 2017 with sets and dictionaries, row by row; neighbours counted as in the published code."""
    x = np.vstack([query, gallery]).astype(np.float64)
    d = ((x[:, None] - x) ** 2).sum(axis=2)
    largest = d.max(axis=1, keepdims=True)
    d /= np.where(largest > 0, largest, 1)
    rows = range(len(x))
    order = [sorted(rows, key=lambda j, i=i: (j != i, d[i, j], j)) for i in rows]

    def reciprocal(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    encodings = []
    for i in rows:
        neighbours = reciprocal(i, k1)
        extended = set(neighbours)
        for candidate in neighbours:
            half = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(half & neighbours) > 2 / 3 * len(half):
                extended |= half
        total = sum(np.exp(-d[i, j]) for j in extended)
        encodings.append({j: np.exp(-d[i, j]) / total for j in extended})
    if k2 > 1:
        encodings = [average([encodings[j] for j in order[i][:k2]]) for i in rows]
    return np.array([[mixed(encodings, d, q, g, weight) for g in rows[len(query) :]] for q in rows[: len(query)]])


def average(encodings):
    return {j: sum(e.get(j, 0) for e in encodings) / len(encodings) for e in encodings for j in e}


def mixed(encodings, d, q, g, weight):
    a, b = encodings[q], encodings[g]
    keys = a.keys() | b.keys()
    minima, maxima = (sum(f(a.get(j, 0), b.get(j, 0)) for j in keys) for f in (min, max))
    return -((1 - weight) * (1 - minima / maxima) + weight * d[q, g])


@st.composite
def small(draw):
    """(query, gallery) of small whole numbers: every product is exact, equal rows and equal distances abound."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, rows, dimensions = draw(st.integers(1, 6)), draw(st.integers(1, 25)), draw(st.integers(1, 4))
    spread = draw(st.integers(0, 4))
    return tuple(rng.integers(-spread, spread + 1, (count, dimensions)) for count in (queries, rows))


@examples
@given(small(), st.integers(1, 30), st.integers(1, 12), st.sampled_from([0.0, 0.3, 1.0]))
def test_equal_to_the_definition(data, k1, k2, weight):
    found = reranked(*data, k1=k1, k2=k2, weight=weight)
    assert found.dtype == np.float32
    assert abs(found - by_definition(*data, k1, k2, weight)).max() <= 2e-6


def clustered(queries, rows, dimensions=64, persons=20):
    """Unit vectors but for rounding to multiples of 2^-10, so that their products are exact in any order."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((persons, dimensions))
    x = centres[rng.integers(0, persons, queries + rows)] + rng.standard_normal((queries + rows, dimensions))
    x = np.round(x / np.linalg.norm(x, axis=1, keepdims=True) * 2**10) / 2**10
    return x[:queries].astype(np.float32), x[queries:].astype(np.float32)


@pytest.fixture(scope="module")
def data():
    return clustered(250, 1500)


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (5, 1), (7, 30)])
def test_equal_to_the_definition_with_clusters(k1, k2):
    query, gallery = clustered(20, 180, persons=12)
    found = reranked(query, gallery, k1=k1, k2=k2)
    assert abs(found - by_definition(query, gallery, k1, k2, 0.3)).max() <= 2e-6


def test_block_memory_does_not_change_a_bit(data):
    one = reranked(*data)
    blocks = [block.copy() for _, block in reranked_blocks(*data, block_bytes=0)]
    assert len(blocks) > 1
    assert np.array_equal(np.vstack(blocks), one)


def test_with_exact_products_threads_do_not_change_a_bit(data):
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            results.append(reranked(*data))
    assert np.array_equal(*results)


def test_blocks_may_be_written_to(data):
    for _, block in reranked_blocks(*data, block_bytes=0):
        last = block.copy()
        block[:] = np.nan
    assert np.array_equal(last, reranked(*data)[-len(last) :])


def test_weight_1_keeps_the_order(data):
    query, gallery = data
    distances = ((query.astype(np.float64)[:, None] - gallery) ** 2).sum(axis=2)
    order = np.argsort(distances, axis=1)
    similarities = np.take_along_axis(reranked(query, gallery, weight=1), order, axis=1)
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_order_of_the_gallery_and_of_the_queries_does_not_matter(data):
    query, gallery = data
    rng = np.random.default_rng(1)
    q, g = rng.permutation(len(query)), rng.permutation(len(gallery))
    assert abs(reranked(query[q], gallery[g]) - reranked(query, gallery)[q][:, g]).max() <= 2e-6


@examples
@given(small(), st.integers(-8, 8))
def test_scale_does_not_matter(data, power):
    query, gallery = data
    scaled = reranked(query * 2.0**power, gallery * 2.0**power, k1=4, k2=3)
    assert np.array_equal(scaled, reranked(query, gallery, k1=4, k2=3))


def test_values_lie_between_minus_1_and_0(data):
    found = reranked(*data)
    assert found.max() <= 1e-6
    assert found.min() >= -1 - 1e-6


def test_it_helps_where_persons_form_clusters():
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((60, 32))
    names = np.arange(660) % 60
    x = centres[names] + 1.3 * rng.standard_normal((660, 32))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    matches = [np.flatnonzero(names[60:] == name) for name in names[:60]]

    def mean_rank(similarities):
        identity = np.eye(60, dtype=np.float32)
        return np.mean(np.concatenate(ranks_of_matches(identity, similarities.T, matches)))

    assert mean_rank(reranked(x[:60], x[60:], k1=8, k2=3)) < 0.9 * mean_rank(x[:60] @ x[60:].T)


def test_no_matrix_of_all_pairs_is_held():
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((count, 8), dtype=np.float32) for count in (1500, 6000))
    tracemalloc.start()
    try:
        for _ in reranked_blocks(query, gallery, block_bytes=0):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * 2**20  # query x gallery has 36 MB, all x all 225 MB


def test_the_search_shows_its_progress(monkeypatch, data):
    terminal = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=terminal, force_terminal=True))
    next(reranked_blocks(*data))
    assert "Comparing all pairs" in terminal.getvalue()


@pytest.mark.parametrize(
    ("query", "gallery", "options", "error", "message"),
    [
        ([[1.0, 0]], [[1.0]], {}, ShapeError, "query descriptors have 2 dimensions, gallery descriptors 1"),
        ([[1.0]], np.ones((0, 1)), {}, ShapeError, "none empty"),
        ([[1.0]], [[np.nan], [1.0]], {}, EvaluationError, "1 of 2 gallery descriptors"),
        ([[1.0]], [[1e30]], {}, EvaluationError, "divide each descriptor by its length"),
        ([[1.0]], [[1.0]], {"k1": 0}, EvaluationError, "found k1=0, k2=6, weight=0.3"),
        ([[1.0]], [[1.0]], {"k2": 0}, EvaluationError, "at least 1"),
        ([[1.0]], [[1.0]], {"weight": 1.5}, EvaluationError, "a weight from 0 to 1"),
        ([[1.0]], [[1.0]], {"weight": float("nan")}, EvaluationError, "a weight from 0 to 1"),
    ],
)
def test_bad_input_is_refused(query, gallery, options, error, message):
    with pytest.raises(error, match=message):
        next(reranked_blocks(query, gallery, **options))

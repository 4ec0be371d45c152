import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from partalign.errors import EvaluationError
from partalign.evaluation import neighbours
from partalign.evaluation.neighbours import nearest, padded, squared_lengths, tile_height

examples = settings(max_examples=200, deadline=None)  # the machine may be busy


def search(x, count):
    vectors = padded(np.asarray(x, dtype=np.float32))
    return nearest(vectors, squared_lengths(vectors), len(x), count)


def by_full_sort(x, count):
    """Rows and squared distances of the nearest, and the largest, from the whole matrix of distances."""
    x = np.asarray(x, dtype=np.float64)
    d = ((x[:, None] - x) ** 2).sum(axis=2)
    order = [sorted(range(len(x)), key=lambda j, i=i: (j != i, d[i, j], j))[:count] for i in range(len(x))]
    return np.array(order), np.take_along_axis(d, np.array(order), axis=1), d.max(axis=1)


@examples
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 60),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(2, 60),
    st.sampled_from([2, 5, 16, 1024]),
)
def test_equal_to_a_full_sort(seed, rows, dimensions, spread, count, tile):
    # Small whole numbers: every product is exact, equal rows and equal distances abound.
    x = np.random.default_rng(seed).integers(-spread, spread + 1, (rows, dimensions))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "TILE", tile)
        patch.setattr(neighbours, "_ROUNDING", 1)
        found = search(x, min(count, rows))
    expected_rows, distances, farthest = by_full_sort(x, min(count, rows))
    assert found.rows.tolist() == expected_rows.tolist()
    assert found.distances.tolist() == distances.tolist()
    assert found.farthest.tolist() == farthest.tolist()


@pytest.mark.parametrize("threads", [1, 2])
def test_equal_rows_tie_wherever_they_stand(threads):
    rng = np.random.default_rng(1)
    distinct = rng.standard_normal((40, 100))
    distinct = (distinct / np.linalg.norm(distinct, axis=1, keepdims=True)).astype(np.float32)
    which = rng.integers(0, 40, 2600)
    with threadpool_limits(threads):
        found = search(distinct[which], 12)
    for row, w in enumerate(which):
        others = np.flatnonzero(which == w)
        assert found.rows[row].tolist() == [row, *others[others != row][:11]]
    assert (np.ptp(found.distances[:, 1:], axis=1) == 0).all()
    assert (found.distances >= 0).all()
    assert len(np.unique(found.farthest)) <= 40


def test_rows_that_are_all_alike_have_the_lowest_as_neighbours(monkeypatch):
    monkeypatch.setattr(neighbours, "TILE", 128)
    for seed in range(5):  # rounding makes their distances negative for some
        x = np.random.default_rng(seed).standard_normal((1, 77)).astype(np.float32)
        found = search(np.repeat(x / np.linalg.norm(x), 400, axis=0), 4)
        assert found.rows.tolist() == [[i, *[j for j in range(4) if j != i][:3]] for i in range(400)]


def test_the_size_of_tiles_changes_nothing(monkeypatch):
    x = np.random.default_rng(2).standard_normal((700, 60)).astype(np.float32)
    one = search(x, 21)
    for tile in (128, 384):
        monkeypatch.setattr(neighbours, "TILE", tile)
        other = search(x, 21)
        for field in ("rows", "distances", "farthest"):
            assert np.array_equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("factor", [-1.0, 1.0])
def test_the_worst_order_is_only_slower(monkeypatch, factor):
    # Each tile is nearer to what came before than all others, or farther.
    monkeypatch.setattr(neighbours, "TILE", 128)
    x = np.sort(np.random.default_rng(3).integers(0, 2000, 500))[:: int(factor), None]
    found = search(x, 6)
    assert found.rows.tolist() == by_full_sort(x, 6)[0].tolist()


@pytest.mark.parametrize("count", [1, 127, 128, 129, 1024, 1025, 3500, 19281, 523_100])
def test_tiles_hold_all_rows_and_little_more(count):
    height = tile_height(count)
    assert height <= neighbours.TILE
    assert height % 128 == 0
    tiles = -(-count // height)
    assert tiles == -(-count // neighbours.TILE)
    assert tiles * height - count < 128 * tiles


def test_distances_beyond_float32_are_refused():
    with pytest.raises(EvaluationError, match="divide each descriptor by its length"):
        search(np.full((3, 2), 1e19), 2)

import numpy as np

from partalign.benchmarks import gallery
from partalign.gallery import Filter, ModelName, open_gallery


def test_all_forms_agree_and_everything_is_measured():
    lines = gallery.run(sizes=(300,), dimension=16, queries=5, count=10, rounds=1)
    assert [line.difference for line in lines[2:]] == [0] * 5 or max(line.difference for line in lines[2:]) < 1e-5
    assert [line.ratio is not None for line in lines] == [False, *[True] * 6]
    assert lines[1].ours.peak is None or lines[1].ours.peak > 10**6


def test_the_reference_is_a_full_sort(tmp_path):
    vectors, cameras, query = gallery.data(200, 16, 3)
    mask = cameras == 3
    scores, sums = gallery.by_numpy(vectors, query, mask, 5)
    rows = np.flatnonzero(mask)
    for i, row in enumerate(query @ vectors[rows].T):
        best = np.argsort(-row)[:5]
        assert np.allclose(np.asarray(scores)[i], row[best])
        assert np.asarray(sums)[i] == rows[best].sum()
    with open_gallery(tmp_path / "g", model=ModelName("random", "1", 16), create=True) as made:
        gallery.fill(made, vectors, cameras)
        found = gallery.by_gallery(made, query, Filter(cameras=("c3",)), 5)
    assert np.allclose(found[0], scores, atol=1e-6)
    assert np.array_equal(found[1], sums)

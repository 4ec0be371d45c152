import numpy as np

from partalign.benchmarks import scale

SIZES = {"queries": 30, "persons": 8, "gallery": (80, 20, 15), "dimension": 4}


def test_runs_reduced():
    lines = scale.run(**SIZES)
    assert [(line.what, line.against) for line in lines] == [
        ("score 30 x 115 x 4", "product alone"),
        ("re-rank 30 x 115 x 4", "on its own"),
    ]
    assert lines[0].ratio > 0
    assert lines[1].ours.wall > 0
    assert lines[1].bar.peak == 12 * 10**9 - 4 * 4 * (30 + 115)


def test_by_default_it_has_the_size_of_market_1501_with_500_000_distractors():
    defaults = scale.run.__defaults__
    assert defaults[0] == 3368
    assert sum(defaults[2]) == 519_732
    assert defaults[3] == 512


def test_the_product_is_of_all_queries(monkeypatch):
    seen = []
    monkeypatch.setattr(scale.np, "matmul", lambda a, b, out: seen.append((len(a), b.shape[1], out.shape)))
    scale.product(np.zeros((400, 3), np.float32), np.zeros((7, 3), np.float32))
    assert [(a, n) for a, n, _ in seen] == [(192, 7), (192, 7), (16, 7)]


def test_re_ranking_puts_a_copy_of_the_query_first():
    gallery = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    assert scale.first_rows(gallery[[7, 31]], gallery)[0].tolist() == [7, 31]

"""The load test measures real searches of a real server."""

import numpy as np
import pytest

from partalign.benchmarks import http
from partalign.errors import BenchmarkError
from web_gallery import write_model


def test_a_short_load_has_no_errors_and_says_its_figures(tmp_path):
    loads = list(http.run(write_model(tmp_path / "light.safetensors"), records=300, seconds=0.5, clients=2))
    assert [load.errors for load in loads] == [0, 0]
    for load in loads:
        figures = load.as_dict()
        assert figures["answers"] == len(load.seconds) >= 2
        assert 0 < figures["p50"] <= figures["p99"] <= 60
        assert "0 errors" in str(load)


def test_percentiles_and_failures_are_counted():
    load = http.Load("x", 1, 2.0, np.array([0.1, 0.2, 0.3]), 4)
    assert load.percentile(50) == pytest.approx(0.2)
    assert load.as_dict()["rate"] == 1.5
    with pytest.raises(BenchmarkError, match="errors"):
        http.load("nobody listens", 9, lambda number: lambda connection: 500, 0.05, 1)

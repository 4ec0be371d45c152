"""The load test measures real searches of a real server."""

import inspect
import json
from functools import partial

import numpy as np
import pytest

from partalign.benchmarks import http, suite
from partalign.cli import main
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


def test_the_command_asks_for_so_many_seconds(monkeypatch, tmp_path, capsys):
    """A real server and real searches; only the gallery is smaller than the command's."""
    small = partial(http.run, write_model(tmp_path / "light.safetensors"), 300, clients=2)
    monkeypatch.setattr(suite, "LOADS", {"http": small})
    with pytest.raises(SystemExit) as end:
        main(["bench", "http", "--seconds", "0.4", "--json", str(tmp_path / "bench.json")])
    assert end.value.code == 0
    for load in json.loads((tmp_path / "bench.json").read_text())["benchmarks"]["http"]:
        assert load["lasted"] >= 0.4
        assert (load["clients"], load["errors"]) == (2, 0)
        assert load["answers"] >= 2
    assert "p99" in capsys.readouterr().out


def test_without_a_number_it_asks_for_a_minute_by_eight_clients():
    defaults = inspect.signature(suite.LOADS["http"]).parameters
    assert (defaults["seconds"].default, defaults["clients"].default) == (60, 8)


def test_percentiles_and_failures_are_counted():
    load = http.Load("x", 1, 2.0, np.array([0.1, 0.2, 0.3]), 4)
    assert load.percentile(50) == pytest.approx(0.2)
    assert load.as_dict()["rate"] == 1.5
    with pytest.raises(BenchmarkError, match="errors"):
        http.load("nobody listens", 9, lambda number: lambda connection: 500, 0.05, 1)


def test_the_command_prints_loads_and_counts_errors(monkeypatch, tmp_path, capsys):
    loads = [http.Load("look", 3, 2.0, np.array([0.1, 0.2, 0.3]), 4), http.Load("send", 3, 2.0, np.array([1.0]), 0)]
    monkeypatch.setattr(suite, "LOADS", {"http": lambda: iter(loads)})
    with pytest.raises(SystemExit) as end:
        main(["bench", "http", "--rounds", "1", "--threads", "1", "--json", str(tmp_path / "bench.json")])
    assert end.value.code == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["look", "3", "1.5", "200", "ms", "298", "ms", "4"] in rows
    assert ["send", "1", "0.5", "1,000", "ms", "1,000", "ms", "0"] in rows
    look, send = json.loads((tmp_path / "bench.json").read_text())["benchmarks"]["http"]
    assert (look["errors"], look["answers"], look["p50"]) == (4, 3, pytest.approx(0.2))
    assert (send["errors"], send["rate"]) == (0, 0.5)

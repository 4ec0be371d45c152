import inspect
import json
import typing
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from partalign.benchmarks import decode, end_to_end, gallery, loss, network, reranking, scale, sketch, suite, training
from partalign.benchmarks.measure import Bar, Comparison, Cost
from partalign.cli import main
from partalign.cli.benchmarks import bench

README = Path(__file__).resolve().parents[2] / "benchmarks" / "README.md"
TINY = {
    "loss": partial(loss.run, sizes=(20,), large=40, channels=8),
    "sketch": partial(sketch.run, ((2, True),), appearance=6, parts=4, places=(2, 2), dimension=8),
}


def text(table):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_table_says_what_was_measured_and_whether_it_is_enough():
    lines = [
        Comparison("work", "slow", 1, 0.0, Cost(9, 0.002, 2**20), Cost(9, 3, 300 * 2**20), 1500, (1e3, 2e3), Bar(50)),
        Comparison("more work", "slow", 1, 0.0, Cost(9, 1, None), Cost(9, 0.5, None), 0.5, (0.4, 0.6), Bar(speed=2)),
        Comparison("much work", "slower", 2, 0.0, Cost(0.25, 9, 2**20), bar=Bar(peak=2**21)),
    ]
    printed = text(suite.table("name", lines))
    for word in ("2 ms", "3 s", "1,500x", "300 MiB", ">= 50x", "0.5x", "0.4-0.6", "250 ms", "< 2 MiB", "slower"):
        assert word in printed
    assert printed.count("reached") == 2
    assert printed.count("missed") == 1


def test_the_command_prints_tables_and_writes_what_it_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(suite, "BENCHMARKS", TINY)
    with pytest.raises(SystemExit) as end:
        main(["bench", "--rounds", "1", "--json", str(tmp_path / "bench.json")])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "both passes, N = 20" in printed
    assert "both passes, B = 2" in printed
    saved = json.loads((tmp_path / "bench.json").read_text())
    assert saved["machine"]["processor"]
    assert saved["date"].endswith("+00:00")
    assert list(saved["benchmarks"]) == ["loss", "sketch"]
    line = saved["benchmarks"]["loss"][0]
    assert line["against"] == "N x N x N"
    assert line["ratio"] > 0
    assert line["ours"]["cpu"] > 0


def test_names_choose_and_unknown_ones_are_wrong_usage(monkeypatch, capsys):
    monkeypatch.setattr(suite, "BENCHMARKS", TINY)
    with pytest.raises(SystemExit) as end:
        main(["bench", "sketch", "--rounds", "1"])
    assert end.value.code == 0
    assert "N = 20" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["bench", "speed"])
    assert end.value.code == 2
    assert "loss" in capsys.readouterr().err


def test_long_benchmarks_run_only_by_name(monkeypatch):
    monkeypatch.setattr(suite, "BENCHMARKS", {"short": lambda **_: []})
    monkeypatch.setattr(suite, "LONG", {"long": lambda **_: []})
    assert [name for name, _ in suite.run()] == ["short"]
    assert [name for name, _ in suite.run(["long"])] == ["long"]


def test_forms_that_disagree_end_the_command(monkeypatch, capsys):
    monkeypatch.setattr(suite, "BENCHMARKS", TINY)
    monkeypatch.setattr(loss, "cube", lambda X, labels: loss.fast(X, labels) * 1.01)
    with pytest.raises(SystemExit) as end:
        main(["bench", "loss"])
    assert end.value.code == 1
    error = capsys.readouterr().err.removeprefix("loss (1 of 1)\n")
    assert error.startswith("partalign: both passes, N = 20: expected results that differ by at most")
    assert error.count("\n") == 1


def test_the_command_offers_every_benchmark():
    names = inspect.signature(bench, eval_str=True).parameters["names"].annotation
    assert typing.get_args(names) == (*suite.BENCHMARKS, *suite.LONG, *suite.LOADS)


def test_the_readme_explains_every_benchmark_and_reference():
    explained = README.read_text()
    for name in (*suite.BENCHMARKS, *suite.LONG, *suite.LOADS):
        assert f"## {name}" in explained
    measured = [line.against for form in TINY.values() for line in form(rounds=1)]
    measured += [network.AGAINST, network.OPERATIONS, network.BYTES, training.AGAINST, decode.AGAINST]
    measured += [end_to_end.AGAINST, "full sort, Python", "full sort, scikit-learn", "full sort, numpy"]
    measured += [gallery.PRODUCT, gallery.MASKED, gallery.BUDGET, gallery.ALONE]
    for against in (*measured, reranking.DENSE, reranking.PRODUCTS, scale.PRODUCT, scale.ALONE):
        assert f"**{against}**" in explained

import sys

import numpy as np
import pytest
import torch

from partalign.benchmarks import measure
from partalign.benchmarks.measure import (
    Bar,
    Comparison,
    Cost,
    alone,
    compare,
    largest_difference,
    machine,
    once,
    peak_bytes,
)
from partalign.errors import BenchmarkError


def test_difference_is_relative_to_the_largest_number_of_each_result():
    found = (torch.tensor([10.0, 20.5]), [1.0])
    assert largest_difference("work", found, ([10, 20], np.array([1])), 0.05) == 0.025


def test_a_reference_may_have_fewer_results():
    assert largest_difference("work", ([1.0], [5.0]), ([1.0],)) == 0


@pytest.mark.parametrize(
    ("found", "expected", "message"),
    [
        (([1.0, 2.0],), ([1.0, 2.1],), "found 4.8e-02"),
        (([1.0], [np.nan]), ([1.0], [1.0]), "found nan"),
        (([1.0], [1.0]), ([np.nan], [1.0]), "found nan"),
        (([1.0, 2.0],), ([1.0],), r"shape \(1,\), found \(2,\)"),
    ],
)
def test_forms_that_do_not_agree_are_refused(found, expected, message):
    with pytest.raises(BenchmarkError, match=message):
        largest_difference("work", found, expected)
    with pytest.raises(BenchmarkError, match="work"):
        compare("work", "reference", lambda: found, lambda: expected)
    with pytest.raises(BenchmarkError, match="work"):
        alone("work", "reference", lambda: found, lambda: expected)


def test_the_forms_take_turns():
    calls = []
    compare("work", "r", lambda: calls.append("o") or ([1],), lambda: calls.append("r") or ([1],), rounds=3)
    # Once to see whether they agree, three turns each, once for the memory.
    assert "".join(calls).startswith("or" + "or" * 3)
    assert calls.count("o") == calls.count("r")


def test_of_a_long_step_no_run_is_wasted(monkeypatch):
    monkeypatch.setattr(measure, "LONG_SECONDS", (0, 0))
    calls = []
    line = compare("work", "r", lambda: calls.append("o") or ([1],), lambda: calls.append("r") or ([1],), rounds=2)
    assert "".join(calls) == "oror", "the run that is checked is the first round, and tells the memory"
    assert line.spread[0] <= line.ratio <= line.spread[1]


@pytest.mark.parametrize(("threads", "expected"), [(1, (4.0, 1.0, 5.0)), (2, (10.0, 8.0, 12.0))])
def test_ratio_is_the_median_of_the_rounds_of_the_right_clock(monkeypatch, threads, expected):
    turns = iter(
        [
            *({"cpu": 1.0, "wall": 2.0}, {"cpu": 4.0, "wall": 20.0}),
            *({"cpu": 2.0, "wall": 1.0}, {"cpu": 10.0, "wall": 8.0}),
            *({"cpu": 3.0, "wall": 1.0}, {"cpu": 3.0, "wall": 12.0}),
        ]
    )
    monkeypatch.setattr(measure, "_turn", lambda step: next(turns))
    line = compare("work", "r", lambda: ([1],), lambda: ([1],), rounds=3, threads=threads)
    assert (line.ratio, *line.spread) == expected
    assert (line.ours.cpu, line.ours.wall) == (2.0, 1.0)
    assert (line.reference.cpu, line.reference.wall) == (4.0, 12.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_peak_counts_what_a_step_holds_at_once():
    size = 40 * 2**20

    def two_in_turn():
        for _ in range(2):
            np.ones(size, dtype=np.uint8)
        return ()

    def two_at_once():
        return np.ones(size, dtype=np.uint8), np.ones(size, dtype=np.uint8)

    assert peak_bytes(two_in_turn) == pytest.approx(size, rel=0.1)
    assert peak_bytes(two_at_once) == pytest.approx(2 * size, rel=0.1)


def test_once_calls_once_and_measures(monkeypatch):
    calls = []

    def work():
        calls.append(np.ones(40 * 2**20, dtype=np.uint8).sum())
        return ()

    line = once("work", "alone", work, bar=Bar(peak=2**30))
    assert len(calls) == 1
    assert line.ours.wall > 0
    assert line.difference is line.reference is line.ratio is None
    monkeypatch.setattr(measure, "_status", lambda name: (_ for _ in ()).throw(OSError))
    line = once("work", "alone", work, bar=Bar(peak=2**30))
    assert len(calls) == 2
    assert line.ours.peak is line.reached is None
    assert line.ours.wall > 0


def test_without_the_system_s_help_memory_is_unknown(monkeypatch):
    monkeypatch.setattr(measure, "_status", lambda name: (_ for _ in ()).throw(OSError))
    line = compare("work", "r", lambda: ([1],), lambda: ([1],), rounds=1, bar=Bar(saving=2))
    assert line.ours.peak is None
    assert line.saving is None
    assert line.reached is None


@pytest.mark.parametrize(
    ("bar", "reached"),
    [
        (Bar(), None),
        (Bar(speed=3), True),
        (Bar(speed=3.1), False),
        (Bar(saving=4), True),
        (Bar(saving=4.1), False),
        (Bar(peak=100), True),
        (Bar(peak=99), False),
        (Bar(speed=3, saving=5), False),
        (Bar(speed=3, saving=4, peak=100), True),
    ],
)
def test_bars(bar, reached):
    line = Comparison("work", "r", 1, 0.0, Cost(1, 1, 100), Cost(3, 3, 400), 3.0, (2.9, 3.1), bar)
    assert line.reached is reached


def test_bars_in_words():
    assert str(Bar()) == ""
    assert str(Bar(speed=10, saving=6, peak=200 * 2**20)).splitlines() == [">= 10x", "1/6 memory", "< 200 MiB"]


def test_number_of_threads_is_set_and_restored():
    before = torch.get_num_threads()
    seen = []
    compare("work", "r", lambda: seen.append(torch.get_num_threads()) or (), lambda: (), tolerance=None, threads=2)
    assert set(seen) == {2}
    with pytest.raises(BenchmarkError):
        compare("work", "r", lambda: ([1],), lambda: ([2],), threads=before + 1)
    assert torch.get_num_threads() == before


def test_the_machine_is_described():
    described = machine()
    assert described["torch"] == torch.__version__
    assert described["processor"]
    assert described["cores"] >= 1

"""docs/speed.md and the table in the README are what `scripts/speed` makes from the files of results."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from partalign.benchmarks import report
from partalign.benchmarks.curves import by_curve, file_name
from partalign.benchmarks.measure import Bar, Comparison, Cost
from partalign.benchmarks.suite import BENCHMARKS, to_json

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXPLAINED = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
RESULTS = report.newest((ROOT / "benchmarks" / "results").glob("*.json"))

LINE = Comparison(
    "work", "slow", 1, 0.0, Cost(9, 0.002, 2**20), Cost(9, 0.05, 2**22), 25.0, (20.0, 30.0), Bar(speed=50, saving=2)
)


def test_the_page_and_the_readme_are_those_of_the_results():
    assert report.page(RESULTS, EXPLAINED) == PAGE, "run scripts/speed"
    assert report.between_marks(README, report.summary(RESULTS)) == README, "run scripts/speed"


def test_the_results_have_what_runs_by_default():
    assert set(BENCHMARKS) <= set(RESULTS)
    assert all(measured.lines for measured in RESULTS.values())


def test_every_curve_has_its_plots_and_they_are_small():
    pictures = set(re.findall(r'(?:src|srcset)="([^"]+)"', PAGE))
    curves = by_curve(RESULTS["growth"].lines)
    assert pictures == {f"speed/{file_name(what)}{ending}.png" for what in curves for ending in ("", "-dark")}
    assert {f"speed/{path.name}" for path in (ROOT / "docs" / "speed").iterdir()} == pictures
    assert max((ROOT / "docs" / name).stat().st_size for name in pictures) < 60 * 1024


@pytest.fixture
def files(tmp_path):
    for number, ratio in enumerate((25.0, 60.0)):
        content = json.loads(to_json({"loss": [replace(LINE, ratio=ratio)]}, note=f"note {number}"))
        content["date"] = f"2026-01-0{number + 1}T00:00:00+00:00"
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    return tmp_path


def test_the_newest_file_counts(files):
    measured = report.newest(files.glob("*.json"))["loss"]
    assert measured.lines[0]["ratio"] == 60
    assert "2026-01-02" in measured.where
    assert "note 1" in measured.where


def test_the_memory_of_engines_is_left_out_for_they_took_it_before(files):
    content = json.loads((files / "1.json").read_text())
    content["benchmarks"] = {"engines": content["benchmarks"]["loss"]}
    assert content["benchmarks"]["engines"][0]["saving"] == 4
    (files / "1.json").write_text(json.dumps(content))
    results = report.newest(files.glob("*.json"))
    assert "| engines | work | slow | 60x |  | 50x" in report.summary(results)
    assert "| work | slow | 2 ms | 50 ms | 60x (20-30) |  | 4 MiB |  | 50x" in report.page(results, EXPLAINED)
    assert "| loss | work | slow | 25x | 1/4 |" in report.summary(results)


def test_bars_that_are_missed_are_said_first(files):
    (files / "1.json").unlink()
    page = report.page(report.newest(files.glob("*.json")), EXPLAINED)
    missed = "* loss: work, against slow: 25x, memory 1/4; bar 50x, 1/2 memory"
    assert page.index("Of 1 lines with a bar 0 reach it. These miss it:") < page.index(missed) < page.index("## loss")
    assert "| work | slow | 2 ms | 50 ms | 25x (20-30) | 1 MiB | 4 MiB | 1/4 | 50x, 1/2 memory: **missed** |" in page
    assert "* **N x N x N**: the loss of every" in page


def test_a_bar_that_is_reached_is_in_the_short_table(files):
    (files / "0.json").write_text((files / "0.json").read_text().replace('"reached": false', '"reached": true'))
    (files / "1.json").unlink()
    table = report.summary(report.newest(files.glob("*.json")))
    assert "| loss | work | slow | 25x | 1/4 | 50x, 1/2 memory: reached |" in table
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.between_marks(text, "new") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"

"""The demonstration at a small size, stopped half-way and gone on with: the report, and the claim that it makes."""

import html
import json
import re
import subprocess
import sys

import pytest

from partalign.demo import Size, run_demo
from partalign.errors import SaveError
from partalign.training.run import Run

SMALL = ("network.height=64", "network.width=32")
SIZE = Size(
    persons=90,
    crops_per_person=10,
    pose=(*SMALL, "epochs=8"),
    training=(*SMALL, "schedule.iterations=80", "evaluate_every=40", "save_every=20"),
)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a demonstration; what lay there when it was stopped; and how it ended."""
    out = tmp_path_factory.mktemp("demo") / "out"
    save = Run.save

    def save_and_stop(run, trainer, iteration):
        save(run, trainer, iteration)
        if run.folder.name == "proposed" and iteration == 40:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run_demo(out, size=SIZE)
    stopped = times(out)
    return out, stopped, run_demo(out, size=SIZE)


def test_part_aligned_beats_the_baseline_on_unseen_persons(demo):
    _, _, outcome = demo
    baseline, proposed = (outcome.scores[name] for name in ("baseline", "proposed"))
    assert proposed["rank-1"] - baseline["rank-1"] >= 0.08
    assert proposed["mAP"] > baseline["mAP"]


def test_report_has_the_scores_of_both_models_and_all_sections(demo):
    out, _, outcome = demo
    page = (out / "report.html").read_text()
    rows = re.findall(r'<tr><th scope="row">(Baseline|Part-aligned)</th>(.*?)</tr>', page)
    cells = {name: re.findall(r"<td.*?>(.*?)</td>", row) for name, row in rows}
    for name, model in (("Baseline", "baseline"), ("Part-aligned", "proposed")):
        figures = outcome.scores[model]
        expected = [f"{100 * figures[f]:.1f}" for f in ("rank-1", "rank-5", "rank-10", "mAP", "mINP")]
        assert cells[name][:5] == expected
    headings = re.findall(r"<h2.*?>(.*?)</h2>", page)
    assert len(headings) == 7
    assert "What this does not show" in headings
    assert f"finds {outcome.pck:.0%}" in page


def test_shown_queries_are_drawn_from_every_way_the_models_can_differ(demo):
    out, _, outcome = demo
    page = html.unescape((out / "report.html").read_text())
    ways = dict(re.findall(r"<figcaption>(.*? the right person first): (\d+)% of the queries", page))
    both, ours, theirs, neither = (
        int(next((share for way, share in ways.items() if way.startswith(start)), 0))
        for start in ("Both", "Only the part-aligned", "Only the baseline", "Neither")
    )
    assert abs(both + ours + theirs + neither - 100) <= 2  # each is rounded
    assert both + ours == pytest.approx(100 * outcome.scores["proposed"]["rank-1"], abs=1.1)
    assert both + theirs == pytest.approx(100 * outcome.scores["baseline"]["rank-1"], abs=1.1)


def test_pictures_are_there_in_light_and_dark(demo):
    page = (demo[0] / "report.html").read_text()
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) >= 1 + 2 + 2 + 6  # CMC, two training charts, ranked lists, persons
    assert all("prefers-color-scheme: dark" in figure and "alt=" in figure for figure in figures)
    assert "<script" not in page
    assert not re.search(r'(src|href|srcset)="(?!data:)', page)


def test_second_call_goes_on_where_the_first_was_stopped(demo):
    out, stopped, _ = demo
    now = times(out)
    redone = {path.relative_to(out).as_posix() for path, time in stopped.items() if now[path] != time}
    assert redone == {"proposed/last.safetensors", "proposed/log.jsonl"}
    lines = [json.loads(line) for line in (out / "proposed/log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "loss" in line] == list(range(1, 81))


def test_third_call_finds_all_done(demo):
    out, _, outcome = demo
    before = times(out)
    again = run_demo(out, size=SIZE)
    assert again.found
    assert (again.scores, again.pck, again.report) == (outcome.scores, outcome.pck, outcome.report)
    assert times(out) == before
    assert f"{100 * outcome.scores['proposed']['mAP']:.1f}" in again.table().splitlines()[2]


def test_refuses_a_folder_of_something_else(demo, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(SaveError, match=r"expected an empty folder .* found 1 other entries, such as letter.txt"):
        run_demo(tmp_path, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(SaveError, match="expected a folder"):
        run_demo(tmp_path / "letter.txt", size=SIZE)
    with pytest.raises(SaveError, match=r"found another seed \(0\); choose another --out"):
        run_demo(demo[0], seed=1, size=SIZE)


def test_command_says_in_one_line_why_it_refuses(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    run = subprocess.run(
        [sys.executable, "-m", "partalign", "demo", "--out", tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stdout.startswith("partalign demo:")
    assert re.fullmatch(r"partalign: .*letter\.txt; choose another --out\n", run.stderr)

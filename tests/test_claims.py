"""docs/claims.md, which scripts/claims makes: it says what the result files say, and its plots and commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from partalign.cli import app
from partalign.studies import report
from partalign.studies.run import read_finding

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "claims.md").read_text(encoding="utf-8")
RESULTS = sorted((DOCS / "claims").glob("*.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_the_page_says_what_was_found(file):
    finding = read_finding(file)
    assert f"**{finding.verdict}**" in PAGE
    for cells in report.rows(finding):
        assert f"| {' | '.join(cells)} |" in PAGE


def test_every_answer_is_in_the_overview_good_or_bad():
    overview = PAGE[: PAGE.index("\nSettings:")]
    for finding in map(read_finding, RESULTS):
        for answered in finding.answers if finding.each == "world" else ():
            assert f"| {answered.text} | {answered.difference} | {answered.answer} |" in overview.replace("*", "")


def test_the_plots_are_those_of_the_page_and_small():
    pictures = sorted(set(re.findall(r'(?:src|srcset)="([^"]+)"', PAGE)))
    assert sorted(f"claims/{path.name}" for path in (DOCS / "claims").glob("*.png")) == pictures
    assert len(pictures) == 2 * len(RESULTS) > 0
    assert max((DOCS / name).stat().st_size for name in pictures) < 60 * 1024


@pytest.mark.parametrize("command", re.findall(r"^    (partalign .+)$", PAGE, re.MULTILINE))
def test_the_commands_are_ones_that_partalign_takes(command):
    program, *words = shlex.split(command)
    assert (program, words[0]) == ("partalign", "study")
    app.parse_args(words, exit_on_error=False, print_error=False)

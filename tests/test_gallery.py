"""docs/gallery.md, which scripts/gallery makes: its pictures are there and small, its commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from partalign.cli.pictures import picture

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")
PICTURES = sorted(set(re.findall(r'(?:src|srcset)="([^"]+)"', PAGE)))
COMMANDS = re.findall(r"^    (partalign .+)$", PAGE, re.MULTILINE)


def test_the_pictures_are_those_of_the_page_and_small():
    assert sorted(f"gallery/{path.name}" for path in (DOCS / "gallery").iterdir()) == PICTURES
    sizes = [(DOCS / name).stat().st_size for name in PICTURES]
    assert max(sizes) < 150 * 1024
    assert sum(sizes) < 1.5 * 2**20


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_ones_that_partalign_takes(command):
    program, group, *words = shlex.split(command)
    assert (program, group) == ("partalign", "picture")
    picture.parse_args(words, exit_on_error=False, print_error=False)


def test_every_figure_has_a_command():
    assert len(COMMANDS) == PAGE.count("\n## ") == 9

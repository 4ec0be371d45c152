"""The demonstration from start to end, in one folder that a second call goes on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from partalign import __version__
from partalign.datasets.keypoints import examples_from_csv
from partalign.demo.stages import (
    RECIPES,
    Size,
    make_people,
    make_world,
    search,
    show_example,
    train_network,
    train_pose,
)
from partalign.demo.story import tell
from partalign.errors import SaveError
from partalign.files import atomic_file
from partalign.pictures.report import write_report
from partalign.pictures.theme import missing_extra
from partalign.progress import say
from partalign.training.run import headline
from partalign.training.settings import shipped_recipes

CLAIM, RESULTS, REPORT = "demo.json", "results.json", "report.html"


@dataclass(frozen=True)
class Outcome:
    """What a demonstration ended with.

    pck: share of the joints that the pose network finds. scores: model -> figures, all as fractions.
    found: everything lay there finished, nothing was done.
    """

    report: Path
    pck: float
    scores: Mapping[str, Mapping[str, float]]
    found: bool = False

    def table(self) -> str:
        """Return the scores in per cent, as text with a line for each model."""
        figures = ("rank-1", "rank-5", "rank-10", "mAP")
        lines = [" " * 10 + "".join(f"{name:>9}" for name in figures)]
        lines += [f"{name:10}" + "".join(f"{100 * s[f]:9.1f}" for f in figures) for name, s in self.scores.items()]
        return "\n".join(lines)


def run_demo(out: Path, *, seed: int = 0, size: Size | None = None) -> Outcome:
    """Make all stages in `out`, or those that are missing there, and write `report.html`; says what it does.

    Another seed is another world, and other weights to start from. Raises SaveError where `out` holds something else,
    MissingExtraError without the libraries for pictures, and what the stages raise.
    """
    # A full path: runs remember the file that their weights came from, and are resumed from any folder.
    out, size = Path(out).resolve(), size or Size()
    _check_extras()
    _claim(out, seed, size)
    if (out / REPORT).is_file() and (out / RESULTS).is_file():
        return Outcome(out / REPORT, **json.loads((out / RESULTS).read_bytes()), found=True)
    world = make_world(seed, size)
    split = make_people(world, out / "people", size)
    pose = train_pose(out / "people", out / "pose", seed, size)
    baseline = train_network("baseline", split, out / "baseline", None, seed, size)
    proposed = train_network("proposed", split, out / "proposed", pose, seed, size)
    found = [search(trained, split) for trained in (baseline, proposed)]
    show_example(found[-1])
    say("Report: drawing")
    joints = examples_from_csv(out / "people/keypoints.csv", split.query)
    write_report(out / REPORT, tell(world, split, joints, pose, *found))
    results = {"pck": pose.pck, "scores": {each.name: headline(each.scores) for each in found}}
    with atomic_file(out / RESULTS) as file:  # last: a folder with this file is finished
        file.write(json.dumps(results, indent=2).encode())
    return Outcome(out / REPORT, **results)


def _check_extras() -> None:
    """Refuse at once what would else fail after minutes."""
    for library in ("matplotlib", "jinja2"):
        if find_spec(library) is None:
            raise missing_extra("the report", library)


def _claim(out: Path, seed: int, size: Size) -> None:
    """Write down what the folder is for; refuse one that is for something else."""
    # The recipes' text too: after a change to one, old results are not taken for new ones.
    recipes = {name: path.read_text(encoding="utf-8") for name, path in shipped_recipes().items() if name in RECIPES}
    made_with: dict[str, Any] = {"seed": seed, **asdict(size), "partalign": __version__, "recipes": recipes}
    made_with = json.loads(json.dumps(made_with))
    try:
        entries = [entry.name for entry in out.iterdir() if not entry.name.startswith(".")] if out.exists() else []
    except OSError as error:
        raise SaveError(f"{out}: expected a folder, cannot read it ({error.strerror}); choose another --out") from None
    if not entries:
        with atomic_file(out / CLAIM) as file:
            file.write((json.dumps(made_with, indent=2) + "\n").encode())
        return
    try:
        theirs = json.loads((out / CLAIM).read_bytes())
    except (OSError, ValueError):
        raise SaveError(
            f"{out}: expected an empty folder or one of an earlier demo, found {len(entries)} other entries, such as "
            f"{sorted(entries)[0]}; choose another --out"
        ) from None
    if theirs != made_with:
        raise SaveError(
            f"{out}: expected a demo of the same settings, found another {_differences(made_with, theirs)}; choose "
            "another --out, or delete the folder"
        )


def _differences(mine: dict[str, Any], theirs: Any) -> str:
    theirs = theirs if isinstance(theirs, dict) else {}
    names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    return ", ".join(f"seed ({theirs.get(name)})" if name == "seed" else name for name in names)

"""partalign study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt

Flag = Annotated[bool, Parameter(negative="")]


def study(
    *names: str,
    out: Path = Path("study"),
    worlds: PositiveInt = 3,
    data: Path | None = None,
    dataset: str = "market1501",
    keypoints: Path | None = None,
    seeds: PositiveInt = 3,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    finished: Flag = False,
    device: str = "cpu",
) -> None:
    """Put a claim of the paper to the test: its variants side by side, with a table, a plot and whether it held.

    Without a name, lists the studies. On generated people a study takes minutes; with --data, real ones, by the recipes
    short-*, half an hour on two cores for each variant and seed, or with --keypoints minutes again. What is finished in
    --out is kept and shared by all studies: after Ctrl-C the same command goes on.

    Example: partalign study parts --worlds 3 --out studies

    Args:
        names: which studies, or all
        out: folder of people, runs and results; NAME/table.md, NAME/plot.png and NAME/results.json are the last
        worlds: so many worlds of generated people, each with weights and a pose network of its own
        data: the folder of a data set, in place of generated people
        dataset: which data set it is: market1501, dukemtmc, cuhk03, cuhk01, mars, or folder (your own crops)
        keypoints: with --data, joints of its training crops, a CSV (name:keypoints_y:keypoints_x): the small streams of
            generated people learn from them, a minute or two for each variant and seed
        seeds: with --data, so many trainings of each variant
        set_: change one setting of all variants, KEY=VALUE; may be repeated
        finished: train nothing, only take up runs that are finished in --out (folders such as baseline-0)
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.studies.claims import STUDIES

    if not names:
        for name, each in STUDIES.items():
            print(f"{name:14}{each.source:12}{each.claim}")
        return
    from rich.console import Console

    from partalign.errors import RecipeError
    from partalign.studies import GeneratedPeople, RealPeople, SmallRealPeople, report, run_study

    changes = set_ or ()
    if data is None and keypoints is not None:
        raise RecipeError("--keypoints: expected --data too, the data set that they belong to, found none; give it")
    if data is None:
        ground = GeneratedPeople(out, changes)
    elif keypoints is None:
        ground = RealPeople(out, data, dataset, changes)
    else:
        ground = SmallRealPeople(out, data, keypoints, dataset, changes)
    chosen = [name for word in names for name in (STUDIES if word == "all" else [word])]
    for name in chosen:
        finding = run_study(
            name, ground, range(worlds if data is None else seeds), only_finished=finished, device=device
        )
        report.write(finding, out / name)
        Console().print(report.table(finding))
        print(f"{finding.verdict}\n{out / name / 'table.md'}")

"""CUHK01 (Li, Zhao and Wang, ACCV 2012): 971 persons, two crops of each from either of two cameras.

`campus/PPPPNNN.png` is person PPPP; NNN 001 and 002 are of camera A, 003 and 004 of camera B. The release has no list
of test persons: papers draw 486 or 100 at random, several times. Here `TEST_SETS` sets are drawn, always the same:
number n is the first 486 or 100 persons in `numpy.random.RandomState(n).permutation` of the sorted persons. The
hundred are so part of the 486, and the generator is the one whose numbers NumPy never changes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from partalign.crops import Crop, Split
from partalign.datasets.listing import missing, read_crops, some
from partalign.datasets.single_shot import single_shot
from partalign.errors import DatasetError

FOLDER = "campus"
PROTOCOLS = ("486", "100")
TEST_SETS = 10
OFFICIAL = "3,884 crops of 971 persons"

_NAME = re.compile(r"(?P<person>[0-9]{4})(?P<number>00[1-4])\.png")


def load(folder: Path, *, protocol: str = "486", test_set: int | str | None = 0) -> Split:
    """Read the folder that holds `campus`, or that folder itself; probes are of camera A, the gallery of camera B.

    protocol: how many persons are tested, "486" or "100"; the paper trains the model of the first on CUHK03 and then on
    the other 485 persons, that of the second on the other 871. test_set: 0 to 9; "all" or None: all ten in turn, with
    nobody to train on. Other counts than the official ones are said in `Split.notes`. Raises DatasetError where the
    folder is missing or empty, names differ, there are too few persons, or there is no such protocol or test set.
    """
    if protocol not in PROTOCOLS:
        raise DatasetError(
            f"cuhk01: expected protocol {' or '.join(PROTOCOLS)}, found {protocol!r}; choose one of them"
        )
    root = _find(Path(folder))
    crops = read_crops(root, parse_name, "0001001.png to 0971004.png", "move them away")
    persons = sorted({crop.person for crop in crops if crop.person is not None})
    if len(persons) < int(protocol):
        raise DatasetError(
            f"{root}: expected at least {protocol} persons to draw a test set from, found {len(persons)}; "
            "unpack the data set again"
        )
    probes, others = ([crop for crop in crops if crop.camera == camera] for camera in "AB")
    sets = [draw_test_set(persons, int(protocol), number) for number in range(TEST_SETS)]
    return single_shot("cuhk01", probes, others, sets, test_set, _notes(crops))


def draw_test_set(persons: Sequence[str], count: int, number: int) -> frozenset[str]:
    """Draw `count` of the persons, the same ones for the same `number`; see the head of this module."""
    drawn = np.random.RandomState(number).permutation(sorted(persons))[:count]
    return frozenset(drawn.tolist())


def parse_name(path: Path) -> Crop | None:
    """Make a record of a file's name; None where it does not follow CUHK01's naming."""
    found = _NAME.fullmatch(path.name)
    return found and Crop(path, found["person"], "A" if found["number"] in ("001", "002") else "B")


def _find(folder: Path) -> Path:
    if (folder / FOLDER).is_dir():
        return folder / FOLDER
    if folder.is_dir() and any(_NAME.fullmatch(entry.name) for entry in folder.iterdir()):
        return folder
    expected = f"{FOLDER} with crops like 0001001.png"
    raise missing(folder, "CUHK01", expected, f"give the folder that holds {FOLDER}")


def _notes(crops: Sequence[Crop]) -> list[str]:
    counts = Counter(crop.person for crop in crops)
    notes = []
    if (found := f"{len(crops):,} crops of {len(counts):,} persons") != OFFICIAL:
        notes.append(f"{FOLDER}: {found}; the official release has {OFFICIAL}, and other test sets are drawn from it")
    if short := sorted(str(person) for person, count in counts.items() if count < 4):
        notes.append(f"{FOLDER}: {len(short):,} persons have fewer than four crops: {some(short)}")
    return notes

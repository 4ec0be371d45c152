"""Market-1501 (Zheng et al., ICCV 2015) as its authors unpack it, and everything written in the same layout.

File names say all: `PPPP_cCsS_FFFFFF_BB.jpg` is person, camera and sequence, frame, number of the detection.
Person -1 is junk (ignored in scoring), 0000 a distractor (kept). 24 files of the official release end in `.jpg.jpg`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from partalign.crops import DISTRACTOR, JUNK, Crop, Split
from partalign.errors import DatasetError

FOLDER = "Market-1501-v15.09.15"
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"

OFFICIAL = {
    TRAIN: "12,936 crops of 751 persons",
    QUERY: "3,368 crops of 750 persons",
    GALLERY: "19,732 crops of 750 persons, 2,798 of them distractors (0000) and 3,819 junk (-1)",
}

_NAME = re.compile(r"(?P<person>-1|[0-9]{4})_(?P<camera>c[0-9])s[0-9]_(?P<frame>[0-9]{6})_[0-9]{2}(?:\.jpg){1,2}")
_IGNORED = {"thumbs.db", "desktop.ini"}


def load(folder: Path) -> Split:
    """Read the folder that holds `Market-1501-v15.09.15`, or that folder itself.

    `Crop.time` is the frame number, which starts anew with each sequence. Other counts than the official ones are
    allowed and said in `Split.notes`. Raises DatasetError where a folder is missing or empty, or names differ.
    """
    root = _find(Path(folder))
    train, query, gallery = (_read(root / part) for part in (TRAIN, QUERY, GALLERY))
    notes = [
        f"{part}: {found}; the official release has {OFFICIAL[part]}"
        for part, crops in ((TRAIN, train), (QUERY, query), (GALLERY, gallery))
        if (found := describe(crops)) != OFFICIAL[part]
    ]
    shared = _persons(train) & (_persons(query) | _persons(gallery))
    if shared:
        notes.append(f"persons in {TRAIN} who are in the test folders as well: {len(shared)}; scores will be too good")
    return Split("market1501", train, query, gallery, tuple(notes))


def multi_query_pool(folder: Path) -> tuple[Crop, ...]:
    """Read `gt_bbox`: all hand-drawn crops of the query persons, averaged by camera in the multi-query protocol.

    Raises DatasetError as `load` does.
    """
    return _read(_find(Path(folder)) / "gt_bbox")


def is_here(folder: Path) -> bool:
    """Whether a folder holds Market-1501's layout, itself or below `Market-1501-v15.09.15`."""
    return any((root / TRAIN).is_dir() for root in (Path(folder), Path(folder) / FOLDER))


def parse_name(path: Path) -> Crop | None:
    """Make a record of a file's name; None where it does not follow the Market-1501 naming."""
    found = _NAME.fullmatch(path.name)
    return found and Crop(path, found["person"], found["camera"], time=float(found["frame"]))


def describe(crops: tuple[Crop, ...]) -> str:
    """Say how many crops, persons, distractors and junk crops there are, in words."""
    distractors = sum(crop.person == DISTRACTOR for crop in crops)
    junk = sum(crop.person == JUNK for crop in crops)
    text = f"{len(crops):,} crops of {len(_persons(crops)):,} persons"
    if distractors or junk:
        text += f", {distractors:,} of them distractors ({DISTRACTOR}) and {junk:,} junk ({JUNK})"
    return text


def _find(folder: Path) -> Path:
    for root in (folder, folder / FOLDER):
        if any((root / part).is_dir() for part in (TRAIN, QUERY, GALLERY)):
            return root
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder with Market-1501, no such folder; check --data")
    found = sorted(entry.name for entry in folder.iterdir())
    names = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    advice = "unpack the zip file" if any(n.endswith(".zip") for n in found) else f"give the folder that holds {FOLDER}"
    raise DatasetError(
        f"{folder}: expected {TRAIN}, {QUERY} and {GALLERY}, found {names or 'an empty folder'}; {advice}"
    )


def _read(folder: Path) -> tuple[Crop, ...]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of crops, it is missing; unpack the data set again")
    names = sorted(
        name
        for name in os.listdir(folder)  # noqa: PTH208 - names only, four times as fast
        if not name.startswith(".") and name.lower() not in _IGNORED
    )
    crops = [parse_name(folder / name) for name in names]
    strange = [name for name, crop in zip(names, crops, strict=True) if crop is None]
    if strange:
        raise DatasetError(
            f"{folder}: expected names like 0002_c1s1_000451_03.jpg, found {len(strange)} of {len(names)} files named "
            f"otherwise, such as {', '.join(strange[:3])}; move them away, or read the folder as --dataset folder"
        )
    if not names:
        raise DatasetError(f"{folder}: expected crops, found an empty folder; unpack the data set again")
    return tuple(crop for crop in crops if crop is not None)


def _persons(crops: tuple[Crop, ...]) -> set[str | None]:
    return {crop.person for crop in crops} - {JUNK, DISTRACTOR}

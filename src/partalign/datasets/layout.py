"""Three folders of crops whose file names say all: the layout of Market-1501, which later data sets took over.

Knows where the folders are and how to read and count them; what a name looks like is said by the data set's module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from partalign.crops import DISTRACTOR, JUNK, Crop, Split
from partalign.datasets.listing import missing, read_crops
from partalign.errors import DatasetError

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


@dataclass(frozen=True)
class Layout:
    """How one data set fills the three folders.

    name: of the data set, in `Split.name`. title: the same for people. folder: what its release unpacks to.
    pattern: of a whole file name, with the groups `person`, `camera` and `frame`. example: one such name.
    official: what each folder of the release holds, in the words of `describe`.
    """

    name: str
    title: str
    folder: str
    pattern: re.Pattern[str]
    example: str
    official: Mapping[str, str]

    def load(self, folder: Path) -> Split:
        """Read the folder that holds `self.folder`, or that folder itself.

        Other counts than the official ones are allowed and said in `Split.notes`. Raises DatasetError where a folder
        is missing or empty, or names differ.
        """
        root = self.find(folder)
        train, query, gallery = (self.read(root / part) for part in (TRAIN, QUERY, GALLERY))
        notes = [
            f"{part}: {found}; the official release has {self.official[part]}"
            for part, crops in ((TRAIN, train), (QUERY, query), (GALLERY, gallery))
            if (found := describe(crops)) != self.official[part]
        ]
        if shared := persons(train) & (persons(query) | persons(gallery)):
            told = f"persons in {TRAIN} who are in the test folders as well"
            notes.append(f"{told}: {len(shared)}; scores will be too good")
        return Split(self.name, train, query, gallery, tuple(notes))

    def find(self, folder: Path) -> Path:
        """Return the folder that holds the three, `folder` itself or one below. Raises DatasetError."""
        for root in (folder, folder / self.folder):
            if any((root / part).is_dir() for part in (TRAIN, QUERY, GALLERY)):
                return root
        expected = f"{TRAIN}, {QUERY} and {GALLERY}"
        raise missing(folder, self.title, expected, f"give the folder that holds {self.folder}")

    def is_here(self, folder: Path) -> bool:
        """Whether `folder`, or `self.folder` below it, has training crops in this layout."""
        return any((root / TRAIN).is_dir() for root in (Path(folder), Path(folder) / self.folder))

    def parse_name(self, path: Path) -> Crop | None:
        """Make a record of a file's name; None where it is not named as in this data set."""
        found = self.pattern.fullmatch(path.name)
        return found and Crop(path, found["person"], found["camera"], time=float(found["frame"]))

    def read(self, folder: Path) -> tuple[Crop, ...]:
        """Read the names in one folder, sorted. Raises DatasetError where it is missing, empty, or names differ."""
        if not folder.is_dir():
            raise DatasetError(f"{folder}: expected a folder of crops, it is missing; unpack the data set again")
        advice = "move them away, or read the folder as --dataset folder"
        return read_crops(folder, self.parse_name, self.example, advice)


def describe(crops: tuple[Crop, ...]) -> str:
    """Say how many crops, persons, distractors and junk crops there are, in words."""
    distractors = sum(crop.person == DISTRACTOR for crop in crops)
    junk = sum(crop.person == JUNK for crop in crops)
    text = f"{len(crops):,} crops of {len(persons(crops)):,} persons"
    if distractors or junk:
        text += f", {distractors:,} of them distractors ({DISTRACTOR}) and {junk:,} junk ({JUNK})"
    return text


def persons(crops: tuple[Crop, ...]) -> set[str | None]:
    """Return who is on the crops, junk and distractors left out."""
    return {crop.person for crop in crops} - {JUNK, DISTRACTOR}

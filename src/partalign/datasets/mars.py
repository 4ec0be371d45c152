"""MARS (Zheng et al., ECCV 2016): tracklets of people, from the videos of Market-1501.

Frames lie in `bbox_train` and `bbox_test` as `PPPP/PPPPCcTttttFfff.jpg`: person (00-1 is junk, 0000 a distractor),
camera, tracklet, frame. `info` says which frames are a tracklet: `train_name.txt` and `test_name.txt` list frames in
order, `tracks_train_info.mat` and `tracks_test_info.mat` have a row [first, last, person, camera] for each tracklet
(lines of the list, from 1 on, the last one included), `query_IDX.mat` numbers the query tracklets among those of the
test.

The gallery is all test tracklets, the queries among them. A query's own is ignored, being of its person and camera,
but other queries of the person are to find it: 140 of the 1,980 have no match if query tracklets are left out.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partalign.crops import DISTRACTOR, JUNK, Crop, Split
from partalign.datasets.listing import is_clutter, some
from partalign.errors import DatasetError
from partalign.matlab import read_variables

INFO = "info"


@dataclass(frozen=True)
class _Part:
    """A half of the data set: its folder of frames, list of names, table (and variable in it), official counts."""

    name: str
    frames: str
    names: str
    table: str
    variable: str
    official: tuple[int, int]


TRAIN = _Part("train", "bbox_train", "train_name.txt", "tracks_train_info.mat", "track_train_info", (8_298, 509_914))
TEST = _Part("test", "bbox_test", "test_name.txt", "tracks_test_info.mat", "track_test_info", (12_180, 681_089))
QUERY, QUERY_VARIABLE, OFFICIAL_QUERIES = "query_IDX.mat", "query_IDX", 1_980

_ADVICE = f"take {INFO} from the official release"
_NAME = re.compile(r"(?:[0-9]{4}|00-1)C[1-9]T[0-9]{4}F[0-9]{3}\.jpg")


def load(folder: Path) -> Split:
    """Read the folder that holds `bbox_train`, `bbox_test` and `info`, or one that holds it as `MARS` or `mars`.

    A crop is a frame. `Crop.tracklet` is "train-" or "test-" and the number of the row in the official table, from 1
    on; `Crop.time` is the frame's number in the tracklet. Query and gallery share the records of the query tracklets'
    frames. Other counts than the official ones are allowed and said in `Split.notes`. Raises DatasetError where a file
    is missing or damaged, frames are missing, or lists, tables and names do not agree.
    """
    root = _find(Path(folder))
    train, train_notes = _load_part(root, TRAIN)
    test, test_notes = _load_part(root, TEST)
    query = read_query(root / INFO / QUERY, len(test))
    notes = train_notes + test_notes
    if len(query) != OFFICIAL_QUERIES:
        notes.append(f"{QUERY}: {len(query):,} query tracklets; the official release has {OFFICIAL_QUERIES:,}")
    if shared := {frames[0].person for frames in train} & {frames[0].person for frames in test} - {JUNK, DISTRACTOR}:
        notes.append(
            f"persons in {TRAIN.frames} who are in {TEST.frames} as well: {len(shared)}; scores will be too good"
        )
    return Split(
        "mars",
        tuple(crop for frames in train for crop in frames),
        tuple(crop for row in query for crop in test[row]),
        tuple(crop for frames in test for crop in frames),
        tuple(notes),
        protocol="mars",
    )


def read_tracks(path: Path, variable: str) -> np.ndarray:
    """Read a table of tracklets: (N, 4) integers [first, last, person, camera], lines from 1 on, the last included.

    Raises DatasetError where the file is missing, damaged or of another kind, a value is out of range, or tracklets
    overlap.
    """
    table = _read_matrix(path, variable, "N x 4", lambda shape: len(shape) == 2 and shape[0] > 0 and shape[1] == 4)
    first, last, person, camera = table.T
    wrong = (first < 1) | (last < first) | (person < -1) | (person > 9999) | (camera < 1) | (camera > 9)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DatasetError(
            f"{path}: expected rows [first line, last line, person, camera], found {wrong.sum():,} of {len(table):,} "
            f"out of range, the first is row {row + 1}, {table[row].tolist()}; {_ADVICE}"
        )
    order = np.argsort(first, kind="stable")
    overlap = np.flatnonzero(first[order][1:] <= last[order][:-1])
    if len(overlap):
        rows = sorted(int(order[overlap[0] + step]) + 1 for step in (0, 1))
        raise DatasetError(
            f"{path}: expected every frame in one tracklet, found {len(overlap):,} of {len(table):,} tracklets that "
            f"overlap, the first are rows {rows[0]} and {rows[1]}; {_ADVICE}"
        )
    return table


def read_query(path: Path, tracklets: int) -> np.ndarray:
    """Read which of the test tracklets are queries: (Q,) row numbers, here from 0 on.

    Raises DatasetError where the file is missing, damaged or of another kind, or a number is not that of a tracklet, or
    is there twice.
    """
    numbers = _read_matrix(path, QUERY_VARIABLE, "1 x Q", lambda shape: len(shape) == 2 and 1 in shape).ravel()
    outside = (numbers < 1) | (numbers > tracklets)
    twice = len(numbers) - len(np.unique(numbers))
    if outside.any() or twice:
        found = f"{outside.sum():,} outside and {twice:,} repeated"
        raise DatasetError(
            f"{path}: expected numbers of tracklets, each once, from 1 to {tracklets:,}, found {found} of "
            f"{len(numbers):,}; {_ADVICE}"
        )
    return numbers - 1


def _load_part(root: Path, part: _Part) -> tuple[list[tuple[Crop, ...]], list[str]]:
    """Read one half: the frames of each tracklet, in the table's order, and notes."""
    tracks = read_tracks(root / INFO / part.table, part.variable)
    names = _read_names(root / INFO / part.names)
    notes = []
    used = int((tracks[:, 1] - tracks[:, 0] + 1).sum())
    if (found := (len(tracks), used)) != part.official:
        told = "{:,} tracklets of {:,} frames"
        notes.append(f"{part.name}: {told.format(*found)}; the official release has {told.format(*part.official)}")
    if len(names) > used:
        notes.append(f"{part.names}: {len(names) - used:,} of {len(names):,} frames are in no tracklet, left out")
    frames = _tracklets(root, part, names, tracks)
    notes += _check_files(root, part, names)
    return frames, notes


def _tracklets(root: Path, part: _Part, names: Sequence[str], tracks: np.ndarray) -> list[tuple[Crop, ...]]:
    """Make the records of each tracklet's frames. Raises DatasetError where a name is of another person or camera."""
    if (last := int(tracks[:, 1].max())) > len(names):
        raise DatasetError(
            f"{root / INFO / part.names}: expected {last:,} names, to which {part.table} refers, found {len(names):,}; "
            "take both from the official release"
        )
    folders = {name: root / part.frames / name for name in {name[:4] for name in names}}
    times = [float(number) for number in range(1000)]
    tracklets, strange = [], []
    for row, (first, last, person, camera) in enumerate(tracks.tolist(), start=1):
        found = names[first - 1 : last]
        start = f"{'00-1' if person == -1 else f'{person:04}'}C{camera}T"
        strange += [name for name in found if not name.startswith(start)]
        who = {-1: JUNK, 0: DISTRACTOR}.get(person, start[:4])
        where, tracklet = f"c{camera}", f"{part.name}-{row:05}"
        tracklets.append(
            tuple(Crop(folders[name[:4]] / name, who, where, tracklet, times[int(name[12:15])]) for name in found)
        )
    if strange:
        raise DatasetError(
            f"{root / INFO / part.names}: expected names of the persons and cameras in {part.table}, found "
            f"{len(strange):,} of {len(names):,} of others: {some(strange)}; take both from the official release"
        )
    return tracklets


def _read_names(path: Path) -> list[str]:
    try:
        names = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: expected a list of frames, cannot read it: {error}; {_ADVICE}") from None
    strange = [name for name in names if not _NAME.fullmatch(name)]
    if strange:
        raise DatasetError(
            f"{path}: expected names like 0001C1T0001F001.jpg, found {len(strange):,} of {len(names):,} named "
            f"otherwise: {some(strange)}; {_ADVICE}"
        )
    if (twice := len(names) - len(set(names))) > 0:
        raise DatasetError(f"{path}: expected every frame once, found {twice:,} of {len(names):,} repeated; {_ADVICE}")
    return names


def _read_matrix(path: Path, variable: str, form: str, fits: Callable[[tuple[int, ...]], bool]) -> np.ndarray:
    """Read integers from a .mat file; `fits` says whether a shape is right, `form` names the right one."""
    matrix = read_variables(path, [variable], max_bytes=16_000_000)[variable]
    if matrix.dtype.kind not in "iuf" or not fits(matrix.shape):
        found = f"{matrix.dtype} of shape {matrix.shape}"
        raise DatasetError(f"{path}: expected {variable}, {form} numbers, found {found}; {_ADVICE}")
    # Neither NaN nor infinity passes.
    strange = ~((matrix == np.floor(matrix)) & (np.abs(matrix.astype(float)) < 2**31))
    if strange.any():
        raise DatasetError(
            f"{path}: expected whole numbers, found {strange.sum():,} of {matrix.size:,} others; {_ADVICE}"
        )
    return matrix.astype(np.int64)


def _check_files(root: Path, part: _Part, names: Sequence[str]) -> list[str]:
    """Compare the list with what is on disk, by folder: asking for a million files one by one takes minutes."""
    listed: dict[str, set[str]] = defaultdict(set)
    for name in names:
        listed[name[:4]].add(name)
    missing: list[str] = []
    unknown = 0
    for person, wanted in sorted(listed.items()):
        folder = root / part.frames / person
        try:
            there = set(os.listdir(folder))  # noqa: PTH208 - names only
        except OSError:
            there = set()
        missing += sorted(wanted - there)
        unknown += sum(not is_clutter(name) for name in there - wanted)
    if missing:
        raise DatasetError(
            f"{root / part.frames}: expected the {len(names):,} frames of {part.names}, {len(missing):,} are missing: "
            f"{some(missing)}; unpack {part.frames}.zip again"
        )
    return [f"{part.frames}: {unknown:,} files that {part.names} does not name left out"] if unknown else []


def _find(folder: Path) -> Path:
    """Return the folder that holds the data set, `folder` itself or one below."""
    wanted = (TRAIN.frames, TEST.frames, INFO)
    for root in (folder, folder / "MARS", folder / "mars"):
        there = [name for name in wanted if (root / name).is_dir()]
        if len(there) == len(wanted):
            return root
        if there:
            lost = ", ".join(name for name in wanted if name not in there)
            raise DatasetError(f"{root}: expected {', '.join(wanted)}, {lost} missing; unpack MARS again")
    found = "no such folder" if not folder.is_dir() else "found none of them"
    raise DatasetError(f"{folder}: expected a folder with {', '.join(wanted)}, {found}; give the one that holds them")

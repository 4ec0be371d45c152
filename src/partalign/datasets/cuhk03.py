"""CUHK03 (Li et al., CVPR 2014): 1,467 persons, each seen by one of five pairs of cameras; two protocols, two boxes.

* protocol "new" (Zhong et al., CVPR 2017): 767 persons to train on, 700 to test on, scored by the rules of Market-1501.
  It needs `cuhk03_new_protocol_config_{detected,labeled}.mat` beside `cuhk-03.mat`, or the folders that others have
  cut by it, `cuhk03-np/{detected,labeled}/{bounding_box_train,bounding_box_test,query}`.
* protocol "classic", that of this paper's Table 4: 20 test sets of 100 persons, one probe of the first view and one
  gallery crop of the second for each person. All other persons are for training. It needs `cuhk-03.mat`.

The two are not comparable. Papers on the classic one count 1,360 persons and 13,164 crops: those of the pairs 1 to 3,
the only ones from which test sets are drawn. Boxes are "detected", which is what a system in use sees, or "labeled" by
hand ("manual" in the paper). Crops are cut out of `cuhk-03.mat` on first use; see `cuhk03_crops`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from partalign.crops import Crop, Split
from partalign.datasets import cuhk03_crops
from partalign.datasets.layout import GALLERY, QUERY, TRAIN, Layout, describe
from partalign.datasets.listing import missing, some
from partalign.datasets.single_shot import single_shot
from partalign.errors import DatasetError
from partalign.matlab import read_variables, reading

FOLDER = "cuhk03_release"
CUT_FOLDER = "cuhk03-np"
PROTOCOLS = ("new", "classic")
BOXES = ("detected", "labeled")
PARTS = ("train", "query", "gallery")

OFFICIAL = {"detected": "14,097 crops of 1,467 persons", "labeled": "14,096 crops of 1,467 persons"}
OFFICIAL_NEW = {
    "detected": {
        TRAIN: "7,365 crops of 767 persons",
        QUERY: "1,400 crops of 700 persons",
        GALLERY: "5,332 crops of 700 persons",
    },
    "labeled": {
        TRAIN: "7,368 crops of 767 persons",
        QUERY: "1,400 crops of 700 persons",
        GALLERY: "5,328 crops of 700 persons",
    },
}

# The last number counts the crops of the whole data set.
_CUT_NAME = re.compile(
    r"(?P<person>[0-9]{4})_(?P<camera>c[0-9]+)(?:s[0-9]+)?_(?P<frame>[0-9]+)(?:_[0-9]+)?\.(?:png|jpe?g)"
)
_KEYS = ("filelist", "labels", "camId", "train_idx", "query_idx", "gallery_idx")


def load(folder: Path, *, protocol: str = "new", boxes: str = "detected", test_set: int | str | None = 0) -> Split:
    """Read the folder that holds `cuhk03_release` (with `cuhk-03.mat`) or `cuhk03-np`, or that folder itself.

    protocol: "new" or "classic". boxes: "detected" or "labeled". test_set: of the classic protocol, 0 to 19; "all" or
    None: all of them in turn, with nobody to train on. The first use cuts out the crops, which takes a minute or two
    and some hundred megabytes beside `cuhk-03.mat`. Other counts than the official ones are said in `Split.notes`.
    Raises DatasetError where something is missing, damaged or of another version, MissingExtraError without h5py,
    SaveError where the crops cannot be written.
    """
    folder = Path(folder)
    for value, known, option in ((protocol, PROTOCOLS, "protocol"), (boxes, BOXES, "boxes")):
        if value not in known:
            raise DatasetError(f"cuhk03: expected {option} {' or '.join(known)}, found {value!r}; choose one of them")
    if protocol == "classic":
        return _load_classic(_find_mat(folder, boxes), boxes, test_set)
    if test_set not in (0, "all", None):
        raise DatasetError(
            f"cuhk03: expected no test set with protocol new, found {test_set!r}; choose protocol classic"
        )
    return _load_new(folder, boxes)


def read_protocol(table: Path) -> dict[str, list[str]]:
    """Read the new protocol's table: "train", "query" and "gallery" -> names of crops.

    Raises DatasetError where the file is no such table, or contradicts itself.
    """
    with reading(table):
        content = read_variables(table, _KEYS, max_bytes=16_000_000)
        names = list(map(str, content["filelist"].flat))
        persons, cameras, *rows = (_whole_numbers(content[key]) for key in _KEYS[1:])
    if problem := _contradiction(names, persons, cameras, np.concatenate(rows)):
        raise DatasetError(f"{table}: expected {problem}; download it again")
    return {part: [names[row - 1] for row in found] for part, found in zip(PARTS, rows, strict=True)}


def _load_new(folder: Path, boxes: str) -> Split:
    tables = [root / f"cuhk03_new_protocol_config_{boxes}.mat" for root in _roots(folder)]
    table = next((path for path in tables if path.is_file()), None)
    cut = _find_cut(folder, boxes)
    if cut and not (table and _existing_mat(folder, boxes)):
        return _load_cut(cut, boxes)
    mat = _find_mat(folder, boxes)
    if table is None:
        raise DatasetError(
            f"{folder}: expected {tables[0].name}, the table of the new protocol, it is missing; put it beside "
            f"{cuhk03_crops.FILE}, or choose protocol classic"
        )
    wanted = read_protocol(table)
    crops = {crop.path.name: crop for crop in _cut_out(mat, boxes)}
    names = [name for part in wanted.values() for name in part]
    if lost := [name for name in names if name not in crops]:
        raise DatasetError(
            f"{table}: expected its {len(names):,} crops in {mat}, {len(lost):,} are missing: {some(lost)}; "
            f"download both again"
        )
    train, query, gallery = (tuple(crops[name] for name in wanted[part]) for part in PARTS)
    notes = [
        f"{part}: {found}; the official protocol has {official}"
        for part, official, chosen in zip(PARTS, OFFICIAL_NEW[boxes].values(), (train, query, gallery), strict=True)
        if (found := describe(chosen)) != official
    ]
    return Split("cuhk03", train, query, gallery, tuple(notes))


def _load_cut(folder: Path, boxes: str) -> Split:
    layout = Layout("cuhk03", "CUHK03", boxes, _CUT_NAME, "0001_c1_1.png", OFFICIAL_NEW[boxes])
    split = layout.load(folder)
    train, query, gallery = (  # a number in these names is no time
        tuple(replace(crop, time=None) for crop in crops) for crops in (split.train, split.query, split.gallery)
    )
    return replace(split, train=train, query=query, gallery=gallery)


def _load_classic(mat: Path, boxes: str, test_set: int | str | None) -> Split:
    sets = cuhk03_crops.read_test_sets(mat)
    crops = _cut_out(mat, boxes)
    notes = []
    if (found := describe(crops)) != OFFICIAL[boxes]:
        notes.append(f"{boxes}: {found}; the official release has {OFFICIAL[boxes]}")
    if len(sets) != 20 or {len(persons) for persons in sets} != {100}:
        sizes = " and ".join(str(size) for size in sorted({len(persons) for persons in sets})[:3])
        notes.append(f"test sets: {len(sets)} of {sizes} persons; the official release has 20 of 100")
    first, second = ([crop for crop in crops if str(crop.camera).endswith(view)] for view in ("_1", "_2"))
    return single_shot("cuhk03", first, second, sets, test_set, notes)


def _cut_out(mat: Path, boxes: str) -> tuple[Crop, ...]:
    crops = [_record(path) for path in sorted(cuhk03_crops.cut_crops(mat, boxes).glob("*.png"))]
    return tuple(crop for crop in crops if crop is not None)


def _record(path: Path) -> Crop | None:
    """Make a record of a cut crop. Persons are numbered in each pair anew, and so are views."""
    found = cuhk03_crops.NAME.fullmatch(path.name)
    return found and Crop(path, found["person"], f"{path.name[0]}_{found['view']}")


def _roots(folder: Path) -> tuple[Path, Path]:
    return folder, folder / FOLDER


def _existing_mat(folder: Path, boxes: str) -> Path | None:
    """Return where `cuhk-03.mat` is, or was when its crops were cut out."""
    places = [root / cuhk03_crops.FILE for root in _roots(folder)]
    return next((mat for mat in places if mat.is_file() or cuhk03_crops.is_cut(mat, boxes)), None)


def _find_mat(folder: Path, boxes: str) -> Path:
    if mat := _existing_mat(folder, boxes):
        return mat
    alone = _find_cut(folder, boxes) is not None
    advice = f"{CUT_FOLDER} serves protocol new only" if alone else f"give the folder that holds {FOLDER}"
    raise missing(folder, "CUHK03", f"{FOLDER}/{cuhk03_crops.FILE}, it is missing", advice)


def _find_cut(folder: Path, boxes: str) -> Path | None:
    """Return the folder with the three folders of others' crops."""
    return next((root / boxes for root in (folder, folder / CUT_FOLDER) if (root / boxes / TRAIN).is_dir()), None)


def _whole_numbers(values: Any) -> np.ndarray:
    numbers = np.asarray(values, dtype=float).ravel()
    if not len(numbers) or (numbers != numbers.round()).any() or abs(numbers).max() > 1e9:
        raise ValueError("expected whole numbers")
    return numbers.astype(np.int64)


def _contradiction(names: list[str], persons: np.ndarray, cameras: np.ndarray, rows: np.ndarray) -> str | None:
    """Say what is expected and not so, if anything."""
    if odd := [name[:30] for name in names if not cuhk03_crops.NAME.fullmatch(name)]:
        return f"names like 1_001_1_01.png, found {some(list(map(repr, odd)))}"
    if not len(names) == len(set(names)) == len(persons) == len(cameras):
        return f"a name, label and camera for each crop, found {len(set(names))}, {len(persons)} and {len(cameras)}"
    if rows.min() < 1 or rows.max() > len(names) or len(set(rows.tolist())) < len(rows):
        return f"row numbers from 1 to {len(names)} in train_idx, query_idx and gallery_idx, each in one of them"
    if [int(name.split("_")[2]) for name in names] != cameras.tolist():
        return "the views of the names in camId"
    named = [name.rsplit("_", 2)[0] for name in names]
    if not len(set(zip(named, persons.tolist(), strict=True))) == len(set(named)) == len(set(persons.tolist())):
        return "one label for each person of the names"
    return None

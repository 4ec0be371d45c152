"""A folder of one's own crops. Who is on a crop is read, in this order, from

1. `crops.csv` in the folder, where there is one: columns `path` (relative to the folder) and, as far as known,
   `person`, `camera`, `tracklet`, `time` (seconds); only the crops that it lists are read;
2. one sub-folder for each person, `PERSON/anything.jpg`, with the camera (`cN` or `camN`) as a word of the file's name
   or as a further folder: `PERSON/cam2_0815.jpg`, `PERSON/c2/0815.jpg`, `c2/PERSON/0815.jpg`;
3. names like Market-1501's, `PERSON_cCAMERA[sSEQUENCE][_FRAME][_...].jpg`, where PERSON is a number.

Crops named in none of these ways have no person: they can be embedded and searched. Sub-folders `train`, `query` and
`gallery` divide the crops; without them all are gallery. Person -1 is junk and 0000 a distractor, as in Market-1501.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from partalign.crops import Crop, Split
from partalign.errors import DatasetError

PARTS = ("train", "query", "gallery")
TABLE = "crops.csv"
COLUMNS = ("path", "person", "camera", "tracklet", "time")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

_MARKET = re.compile(r"(?P<person>-1|[0-9]+)_(?P<camera>c[0-9]+)(?:s[0-9]+)?(?:_f?(?P<frame>[0-9]+))?(?:_.*)?")
_CAMERA = re.compile(r"(?<![a-z0-9])(c(?:am)?[0-9]+)(?:s[0-9]+)?(?![a-z0-9])")
_NOT_A_PERSON = {*PARTS, "bounding_box_train", "bounding_box_test", "gt_bbox"}
_HIDDEN = {"thumbs.db", "desktop.ini", "__macosx"}


def load(folder: Path) -> Split:
    """Read a folder of crops. `Split.notes` says what was left out and what cannot be scored, and why.

    Folders that are links are not followed, but for `train`, `query` and `gallery` themselves. Raises DatasetError
    where there are no pictures, or `crops.csv` cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatasetError(f"{root}: expected a folder of crops, no such folder; check --data")
    table = root / TABLE
    crops, notes = _read_table(table) if table.is_file() else _read_names(root)
    parts = {part: tuple(crop for name, crop in crops.items() if name.startswith(f"{part}/")) for part in PARTS}
    if not any(parts.values()):
        parts["gallery"] = tuple(crops.values())
    elif stray := [name for name in crops if name.partition("/")[0] not in PARTS]:
        notes.append(f"{_count(stray, 'picture')} outside {', '.join(PARTS)} left out: {_some(stray)}")
    notes += _ambiguous(crops.values()) + _training_notes(parts["train"])
    notes += _scoring_notes(parts["query"], parts["gallery"])
    return Split("folder", **parts, notes=tuple(notes))


def find_crops(places: Iterable[str | Path]) -> tuple[Crop, ...]:
    """Records of pictures, and of all pictures in folders, in the order given; to embed or search by.

    Raises DatasetError where one does not exist, or a folder holds no picture.
    """
    found: list[Crop] = []
    for place in map(Path, places):
        if place.is_dir():
            table = place / TABLE
            found += (_read_table(table) if table.is_file() else _read_names(place))[0].values()
        elif place.exists():
            found.append(_name(place, place.name))
        else:
            raise DatasetError(f"{place}: expected a picture or a folder of pictures, no such file; check the path")
    return tuple(found)


def _read_names(root: Path) -> tuple[dict[str, Crop], list[str]]:
    names, left_out = _scan(root)
    notes = [f"{len(found):,} {reason}: {_some(sorted(found))}" for reason, found in left_out.items()]
    if not names:
        raise DatasetError(
            f"{root}: expected pictures ({', '.join(SUFFIXES)}), found none{'; '.join(['', *notes])}; "
            "give the folder that holds the crops"
        )
    crops = {name: _name(root / name, name) for name in names}
    odd = [n for n, crop in crops.items() if (m := _MARKET.fullmatch(crop.path.stem)) and m["person"] != crop.person]
    if odd:
        notes.append(f"{_count(odd, 'crop')} named after another person than the folder, which counts: {_some(odd)}")
    return crops, notes


def _name(path: Path, relative: str) -> Crop:
    """Make a record of a picture's place below the folder of crops."""
    folders = [folder for folder in PurePosixPath(relative).parts[:-1] if folder.lower() not in _NOT_A_PERSON]
    cameras = [folder.lower() for folder in folders if _CAMERA.fullmatch(folder.lower())]
    persons = [folder for folder in folders if folder.lower() not in cameras]
    if not persons and (market := _MARKET.fullmatch(path.stem)):
        frame = market["frame"]
        return Crop(path, market["person"], market["camera"], time=float(frame) if frame else None)
    word = _CAMERA.search(path.stem.lower())
    camera = word[1] if word else cameras[0] if cameras else None
    return Crop(path, persons[0] if persons else None, camera)


def _scan(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the pictures below a folder, sorted, and what else was found, by reason."""
    names: list[str] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    inside, folders = root.resolve(), [""]
    while folders:
        folder = folders.pop()
        for entry in _entries(root / folder):
            name = folder + entry.name
            if entry.name.startswith(".") or entry.name.lower() in _HIDDEN:
                continue
            kind, link = _kind(entry), entry.is_symlink()
            if kind == "folder" and (not link or name in PARTS):
                folders.append(f"{name}/")
            elif kind == "folder":
                left_out["linked folders not followed"].append(name)
            elif kind == "broken":
                left_out["broken links or devices left out"].append(name)
            elif not entry.name.lower().endswith(SUFFIXES):
                if name != TABLE:
                    left_out["files left out, not named as pictures"].append(name)
            else:
                names.append(name)
                if link and not Path(entry.path).resolve().is_relative_to(inside):
                    left_out["pictures are links to files outside the folder, and are read"].append(name)
    return sorted(names), left_out


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DatasetError(
            f"{folder}: expected a folder, cannot list it ({error.strerror}); check its rights"
        ) from None


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "broken"
    except OSError:  # a link to itself
        return "broken"


def _read_table(table: Path) -> tuple[dict[str, Crop], list[str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            header = rows.fieldnames or ()
            if "path" not in header or not set(header) <= set(COLUMNS) or len(set(header)) < len(header):
                raise DatasetError(
                    f"{table}: expected columns of {', '.join(COLUMNS)}, found {', '.join(header) or 'none'}"
                )
            crops: dict[str, Crop] = {}
            for row in rows:
                name, crop = _from_row(table, row, f"{table}, line {rows.line_num}")
                if name in crops:
                    raise DatasetError(f"{table}, line {rows.line_num}: a second line for {name}; remove one")
                crops[name] = crop
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table}: expected a table of crops in UTF-8, cannot read it: {error}") from None
    if not crops:
        raise DatasetError(f"{table}: expected one line for each crop, found only the header; add crops or remove it")
    lost = [name for name, crop in crops.items() if not crop.path.is_file()]
    if lost:
        raise DatasetError(f"{table}: {_count(lost, 'listed file')} missing: {_some(lost)}; correct `path`")
    return crops, []


def _from_row(table: Path, row: dict[str, str], line: str) -> tuple[str, Crop]:
    if None in row or None in row.values():
        raise DatasetError(f"{line}: expected as many cells as columns; correct the line")
    cells = {column: (row.get(column) or "").strip() or None for column in COLUMNS}
    name = PurePosixPath((cells.pop("path") or "").replace("\\", "/"))
    if not name.name or name.is_absolute() or ".." in name.parts:
        raise DatasetError(f"{line}: expected a path inside {table.parent}, found {str(name)!r}; move the crop there")
    time = cells.pop("time")
    try:
        seconds = None if time is None else float(time)
    except ValueError:
        seconds = math.nan
    if seconds is not None and not math.isfinite(seconds):
        raise DatasetError(f"{line}: expected `time` in seconds, found {time!r}; correct or clear it")
    return str(name), Crop(table.parent / name, cells["person"], cells["camera"], cells["tracklet"], seconds)


def _ambiguous(crops: Iterable[Crop]) -> list[str]:
    twice = [key for key, count in Counter(crop.key for crop in crops).items() if count > 1]
    told = "used by more than one crop: embed these again if the folder is moved"
    return [f"{_count(twice, 'folder/file name')} {told}: {_some(twice)}"] if twice else []


def _training_notes(train: Sequence[Crop]) -> list[str]:
    if not train:
        return []
    crops_of = Counter(crop.person for crop in train if crop.person is not None)
    single = [person for person, count in crops_of.items() if count == 1]
    unknown = sum(crop.person is None for crop in train)
    notes = [f"train: {unknown:,} of {len(train):,} crops have no person and cannot be trained on"] if unknown else []
    if single:
        notes.append(f"train: {_count(single, 'person')} with one crop, of use as a non-match only: {_some(single)}")
    return notes


def _scoring_notes(query: Sequence[Crop], gallery: Sequence[Crop]) -> list[str]:
    """Say why the crops cannot be scored, or which queries cannot."""
    if not query or not gallery:
        return ["no query and gallery folders: the crops can be embedded and searched, but not scored"]
    for part, crops in (("query", query), ("gallery", gallery)):
        if unknown := sum(crop.person is None for crop in crops):
            return [f"{part}: {unknown:,} of {len(crops):,} crops have no person, so nothing can be scored"]
    unknown = sum(crop.camera is None for crop in (*query, *gallery))
    if unknown:
        return [f"{unknown:,} crops have no camera: scoring needs cameras, or same_camera=keep"]
    cameras = {crop.camera for crop in (*query, *gallery)}
    if len(cameras) == 1:
        return [f"all crops are of camera {cameras.pop()}: a match from another camera is needed, or same_camera=keep"]
    seen: dict[str | None, set[str | None]] = defaultdict(set)
    for crop in gallery:
        seen[crop.person].add(crop.camera)
    lonely = [crop.key for crop in query if not seen[crop.person] - {crop.camera}]
    told = f"of {len(query):,} queries have no match from another camera in the gallery"
    return [f"{len(lonely):,} {told}: {_some(lonely)}"] if lonely else []


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

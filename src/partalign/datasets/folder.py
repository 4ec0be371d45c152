"""A folder of one's own crops. Who is on a crop is read, in this order, from

1. `crops.csv` or `crops.parquet` in the folder, where there is one: columns `path` (relative to the folder) and, as far
   as known, `person`, `camera`, `tracklet`, `time` (seconds); only the crops that it lists are read (see `table`);
2. one sub-folder for each person, `PERSON/anything.jpg`, with the camera (`cN` or `camN`) as a word of the file's name
   or as a further folder: `PERSON/cam2_0815.jpg`, `PERSON/c2/0815.jpg`, `c2/PERSON/0815.jpg`;
3. names like Market-1501's, `PERSON_cCAMERA[sSEQUENCE][_FRAME][_...].jpg`, where PERSON is a number.

Crops named in none of these ways have no person: they can be embedded and searched. Sub-folders `train`, `query` and
`gallery` divide the crops; without them every crop is searched for among all others. Person -1 is junk and 0000 a
distractor, as in Market-1501. Crops of a single camera can be scored too: `Split.notes` says how.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from partalign.crops import DISTRACTOR, JUNK, Crop, Split
from partalign.datasets.listing import SUFFIXES, Note, count, find_pictures, some, walk_pictures
from partalign.datasets.table import CSV, PARQUET, find_table, read_table, walk_table
from partalign.errors import DatasetError

PARTS = ("train", "query", "gallery")

_MARKET = re.compile(r"(?P<person>-1|[0-9]+)_(?P<camera>c[0-9]+)(?:s[0-9]+)?(?:_f?(?P<frame>[0-9]+))?(?:_.*)?")
_CAMERA = re.compile(r"(?<![a-z0-9])(c(?:am)?[0-9]+)(?:s[0-9]+)?(?![a-z0-9])")
_NOT_A_PERSON = {*PARTS, "bounding_box_train", "bounding_box_test", "gt_bbox"}


def load(folder: Path) -> Split:
    """Read a folder of crops. `Split.notes` says what was left out and what cannot be scored, and why.

    Folders that are links are not followed, but for `train`, `query` and `gallery` themselves. Raises DatasetError
    where there are no pictures, or the table cannot be read; MissingExtraError for Parquet without pyarrow.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatasetError(f"{root}: expected a folder of crops, no such folder; check --data")
    crops, notes = _read(root)
    parts: dict[str, tuple[Crop, ...]] = {
        part: tuple(crop for name, crop in crops.items() if name.startswith(f"{part}/")) for part in PARTS
    }
    if not any(parts.values()):
        return _undivided(tuple(crops.values()), notes)
    if stray := [name for name in crops if name.partition("/")[0] not in PARTS]:
        notes.append(f"{count(stray, 'picture')} outside {', '.join(PARTS)} left out: {some(stray)}")
    notes += _ambiguous(crops.values()) + _training_notes(parts["train"])
    notes += _scoring_notes(parts["query"], parts["gallery"])
    return Split("folder", parts["train"], parts["query"], parts["gallery"], tuple(notes))


def _undivided(crops: tuple[Crop, ...], notes: Sequence[str]) -> Split:
    """Make every crop of a named person a query among all others."""
    query = tuple(crop for crop in crops if crop.person not in (None, JUNK, DISTRACTOR))
    several = len({crop.camera for crop in crops}) > 1 and all(crop.camera is not None for crop in crops)
    protocol = "market1501" if several else "single-camera"
    notes = [*notes, *_ambiguous(crops)]
    if not query:
        notes.append("no query and gallery folders, and no crop has a person: they can be searched, but not scored")
    else:
        rest = "" if several else "; cameras are unknown or one, so only a query's own picture is left out"
        notes.append(f"no query and gallery folders: each crop is searched for among the others{rest}")
        if unknown := sum(crop.person is None for crop in crops):
            notes.append(f"{unknown:,} of {len(crops):,} crops have no person, so nothing can be scored")
    return Split("folder", query=query, gallery=crops, notes=tuple(notes), protocol=protocol)


def find_crops(places: Iterable[str | Path]) -> tuple[Crop, ...]:
    """Records of pictures, and of all pictures in folders, in the order given; to embed or search by.

    Raises DatasetError where one does not exist, or a folder holds no picture.
    """
    found: list[Crop] = []
    for place in map(Path, places):
        if place.is_dir():
            found += _read(place)[0].values()
        elif place.exists():
            found.append(_name(place, place.name))
        else:
            raise DatasetError(f"{place}: expected a picture or a folder of pictures, no such file; check the path")
    return tuple(found)


def walk_crops(place: Path, note: Note | None = None) -> Iterator[Crop]:
    """Yield the crops of a folder, in the order of `find_crops`, or of a table (.csv, .parquet), one after another.

    For more crops than memory holds: of a folder the names in one sub-folder are held, of a table one line. So a
    table's lines for the same file, or for missing ones, are not noticed. note: see `listing.Note`. Raises
    DatasetError, MissingExtraError.
    """
    if not place.exists():
        raise DatasetError(f"{place}: expected a folder of crops, or a table of them, no such file; check the path")
    table = find_table(place) if place.is_dir() else place
    if table is not None:
        yield from (crop for _, _, crop in walk_table(table))
    else:
        yield from (_name(place / name, name) for name in walk_pictures(place, follow=PARTS, note=note))


def _read(root: Path) -> tuple[dict[str, Crop], list[str]]:
    """Records by place below the folder, and notes."""
    table = find_table(root)
    return (read_table(table), []) if table else _read_names(root)


def _read_names(root: Path) -> tuple[dict[str, Crop], list[str]]:
    names, notes = find_pictures(root, follow=PARTS)
    if not names:
        raise DatasetError(
            f"{root}: expected pictures ({', '.join(SUFFIXES)}), found none{'; '.join(['', *notes])}; "
            "give the folder that holds the crops"
        )
    crops = {name: _name(root / name, name) for name in names}
    odd = [n for n, crop in crops.items() if (m := _MARKET.fullmatch(crop.path.stem)) and m["person"] != crop.person]
    if odd:
        notes.append(f"{count(odd, 'crop')} named after another person than the folder, which counts: {some(odd)}")
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


def _ambiguous(crops: Iterable[Crop]) -> list[str]:
    twice = [key for key, number in Counter(crop.key for crop in crops).items() if number > 1]
    told = "used by more than one crop: embed these again if the folder is moved"
    return [f"{count(twice, 'folder/file name')} {told}: {some(twice)}"] if twice else []


def _training_notes(train: Sequence[Crop]) -> list[str]:
    if not train:
        return []
    crops_of = Counter(crop.person for crop in train if crop.person is not None)
    single = [person for person, number in crops_of.items() if number == 1]
    unknown = sum(crop.person is None for crop in train)
    notes = [f"train: {unknown:,} of {len(train):,} crops have no person and cannot be trained on"] if unknown else []
    if single:
        notes.append(f"train: {count(single, 'person')} with one crop, of use as a non-match only: {some(single)}")
    return notes


def _scoring_notes(query: Sequence[Crop], gallery: Sequence[Crop]) -> list[str]:
    """Say why the crops cannot be scored, or which queries cannot."""
    if not query or not gallery:
        return ["no query and gallery folders: the crops can be embedded and searched, but not scored"]
    for part, crops in (("query", query), ("gallery", gallery)):
        if unknown := sum(crop.person is None for crop in crops):
            return [f"{part}: {unknown:,} of {len(crops):,} crops have no person, so nothing can be scored"]
    if unknown := sum(crop.camera is None for crop in (*query, *gallery)):
        return [f"{unknown:,} crops have no camera, by which scoring tells matches apart: {_without_cameras(query)}"]
    cameras = {crop.camera for crop in (*query, *gallery)}
    if len(cameras) == 1:
        return [f"all crops are of camera {cameras.pop()}, but matches come from another: {_without_cameras(query)}"]
    seen: dict[str | None, set[str | None]] = defaultdict(set)
    for crop in gallery:
        seen[crop.person].add(crop.camera)
    lonely = [crop.key for crop in query if not seen[crop.person] - {crop.camera}]
    told = f"of {len(query):,} queries have no match from another camera in the gallery"
    return [f"{len(lonely):,} {told}: {some(lonely)}"] if lonely else []


def _without_cameras(query: Sequence[Crop]) -> str:
    """Advise how crops of a single camera, or of unknown ones, can be scored."""
    keep = "--same-camera keep, which leaves out only the query's own picture"
    tracklet = "--same-camera tracklet, which leaves out only crops of the query's tracklet"
    if all(crop.tracklet is not None for crop in query):
        return f"choose {tracklet}, or {keep}"
    return f"choose {keep}; or give tracklets in {CSV} or {PARQUET} and choose {tracklet}"

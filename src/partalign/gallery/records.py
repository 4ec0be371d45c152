"""What a gallery holds and gives back: records, filters, matches. Knows no store and no network."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from partalign.crops import Crop
from partalign.errors import GalleryError

FIRST_DATE = 1e8
"""A `time` from here on (March 1973) counts seconds since 1970, UTC: a date. A smaller one counts seconds from the
start of a video, or frames: a place in its source."""

REJECTED = "not:"
"""A record with this tag and a person's name behind it was rejected for that person."""

_LONGEST = 4096  # characters of a text
_NO_LINE = re.compile("[\n\r\0\ud800-\udfff]")  # the last: halves of a character, of file names that are no Unicode


@dataclass(frozen=True, slots=True)
class ModelName:
    """Which network made the descriptors: name, version (of its weights), and how many numbers a descriptor has."""

    name: str
    version: str
    dimension: int

    def __str__(self) -> str:
        return f"{self.name}, version {self.version}, {self.dimension} numbers"


@dataclass(frozen=True, slots=True)
class Record:
    """One crop in a gallery; everything but `id` is None (or empty) where unknown.

    id: names the record for ever; adding one of the same id again replaces it. `record_id` makes one from the source.
    time: seconds, either since 1970 (UTC) or from the start of the source; see `FIRST_DATE`. source: the picture file
    or the video. box: (left, top, width, height) in pixels of the source. added: when it entered the gallery, seconds
    since 1970; set by the gallery. Raises GalleryError where a value is of another kind.
    """

    id: str
    person: str | None = None
    camera: str | None = None
    time: float | None = None
    source: str | None = None
    tracklet: str | None = None
    tags: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None
    added: float | None = None

    def __post_init__(self):
        for name in ("id", "person", "camera", "source", "tracklet"):
            value = getattr(self, name)
            if value is not None or name == "id":
                _check_text(value, name)
        for name in ("time", "added"):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or not math.isfinite(value)):
                raise GalleryError(f"expected seconds as `{name}` of a record, found {value!r:.80}")
        for tag in self.tags:
            _check_text(tag, "tag")
        object.__setattr__(self, "tags", tuple(sorted(set(self.tags))))
        if self.box is not None:
            if len(self.box) != 4 or not all(_is_number(side) and math.isfinite(side) for side in self.box):
                raise GalleryError(f"expected (left, top, width, height) as `box` of a record, found {self.box!r:.80}")
            object.__setattr__(self, "box", tuple(map(float, self.box)))

    @classmethod
    def of_crop(cls, crop: Crop, tags: Iterable[str] = ()) -> Record:
        """Make the record of a crop file; its source is the file's full path."""
        source = str(crop.path.resolve())
        return cls(record_id(source), crop.person, crop.camera, crop.time, source, crop.tracklet, tuple(tags), crop.box)

    @property
    def date(self) -> datetime | None:
        """The time as a date, UTC; None where it is unknown, or a place in the source."""
        if self.time is None or self.time < FIRST_DATE:
            return None
        try:
            return datetime.fromtimestamp(self.time, UTC)
        except (OverflowError, OSError, ValueError):
            return None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self) | {"tags": list(self.tags), "box": None if self.box is None else list(self.box)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Build from what `as_dict` returned. Raises GalleryError where a field is unknown or of another kind."""
        names = {f.name for f in fields(cls)}
        if not isinstance(values, Mapping) or not set(values) <= names or "id" not in values:
            raise GalleryError(f"expected a record with fields of {', '.join(sorted(names))}, found {values!r:.80}")
        tags, box = values.get("tags") or (), values.get("box")
        if not isinstance(tags, list | tuple) or not (box is None or isinstance(box, list | tuple)):
            raise GalleryError(f"expected lists as tags and box of a record, found {values!r:.80}")
        return cls(**dict(values) | {"tags": tuple(tags), "box": None if box is None else tuple(box)})


def stored_record(*values: Any) -> Record:
    """Build a record of the values of its fields, in order, that a store holds: they were checked when they came in."""
    record = object.__new__(Record)
    for name, value in zip(_FIELDS, values, strict=True):
        object.__setattr__(record, name, value)
    return record


_FIELDS = tuple(f.name for f in fields(Record))

CHANGEABLE = ("person", "camera", "time", "source", "tracklet", "tags")
"""Fields of a record that `Gallery.update` changes."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are meant: those that meet every condition given; by default all.

    cameras, not_cameras, persons, tracklets, sources, ids, not_ids: any of these (or none of them); a record of unknown
    camera passes `not_cameras`. since, until: since <= time <= until; a record without a time does not pass,
    nor one whose time is a place in its source where `until` is a date.
    added_since, added_until: the same of when it entered the gallery. older_than: its time, if that is a date, else
    when it was added, is before. tags, not_tags: it has all of them, none of them. labelled: whether it has a person.
    after: its id sorts behind.
    """

    cameras: tuple[str, ...] | None = None
    not_cameras: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    tags: tuple[str, ...] = ()
    not_tags: tuple[str, ...] = ()
    persons: tuple[str, ...] | None = None
    tracklets: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    not_ids: tuple[str, ...] = ()
    added_since: float | None = None
    added_until: float | None = None
    older_than: float | None = None
    labelled: bool | None = None
    after: str | None = None

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "labelled":
                good = value is None or isinstance(value, bool)
            elif f.name == "after":
                good = value is None or isinstance(value, str)
            elif f.name.endswith(("since", "until", "than")):
                good = value is None or (_is_number(value) and not math.isnan(value))
            else:  # a single text would be taken apart into its letters
                good = (value is None and f.default is None) or (
                    isinstance(value, tuple | list) and all(isinstance(item, str) for item in value)
                )
                if good and value is not None:
                    object.__setattr__(self, f.name, tuple(value))
            if not good:
                raise GalleryError(f"expected another kind of value as filter `{f.name}`, found {value!r:.80}")

    def as_dict(self) -> dict[str, Any]:
        """Return the conditions that are given, for JSON, which knows no infinite numbers."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {
            name: list(value) if isinstance(value, tuple) else str(value) if value in (-math.inf, math.inf) else value
            for name, value in given.items()
        }


@dataclass(frozen=True, slots=True)
class Match:
    """One result of a search. rank: from 1. similarity: cosine, -1 to 1.

    probability: of the same person, where the search was given a calibration. more: of a search grouped by tracklet,
    how many further crops of the tracklet pass the filter; the record is its best.
    """

    rank: int
    record: Record
    similarity: float
    probability: float | None = None
    more: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        values = {"rank": self.rank, "similarity": self.similarity, "probability": self.probability, "more": self.more}
        return values | {"record": self.record.as_dict()}


@dataclass(frozen=True, slots=True)
class Added:
    """What an `add` did: ids that were new, those that have been replaced, and those that were left as they were."""

    new: int
    replaced: int
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Info:
    """A gallery in figures. first, last: the smallest and largest `time`. bytes: on the disk. index: None where every
    search is exact."""

    url: str
    store: str
    model: ModelName
    records: int
    persons: int
    cameras: int
    tracklets: int
    unlabelled: int
    first: float | None
    last: float | None
    bytes: int
    index: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the log of who did what. time: seconds since 1970. details: see `Gallery.log`."""

    time: float
    action: str
    who: str | None
    details: dict[str, Any] = field(default_factory=dict)


def record_id(source: str, box: Iterable[float] | None = None) -> str:
    """Return the id of what is seen in (a box of) a source: the same each time, 20 hexadecimal digits."""
    name = json.dumps([source, None if box is None else [round(float(side), 3) for side in box]])
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def _check_text(value: object, name: str) -> None:
    # Tags are stored in one cell, a line each; PostgreSQL holds no zero character.
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST or _NO_LINE.search(value):
        advice = "; rename the file or its folder" if name == "source" else ""
        raise GalleryError(f"expected a line of text as `{name}` of a record, found {value!r:.200}{advice}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

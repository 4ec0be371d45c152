"""What page and API do, without HTTP: queries, searches, explanations, decisions about records.

The network is used by one request at a time, the gallery by many. Files are read where a record of the gallery names
them, never by a path that a client gave.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from partalign.errors import ExplanationError, PictureError
from partalign.evaluation.calibration import Calibration
from partalign.explanation import Explanation, explain
from partalign.gallery import Filter, Match, Record
from partalign.gallery.records import REJECTED
from partalign.images import read_picture
from partalign.pictures.explanation import draw_explanation
from partalign.pictures.theme import DARK, LIGHT
from partalign.search import SAME, PictureSearch, thumbnail
from partalign.web.limits import Limits, Turns
from partalign.web.queries import Queries
from partalign.web.uploads import check_picture

_EXPLANATIONS = 32


class UnknownRecordError(Exception):
    """An id that no record of the gallery has."""


@dataclass(frozen=True)
class By:
    """What is searched by, one of: a remembered query, records of the gallery, a tracklet (of a camera)."""

    query: str | None = None
    like: tuple[str, ...] = ()
    tracklet: str | None = None
    camera: str | None = None


@dataclass(frozen=True, eq=False)
class Explained:
    """Why a record was found. thumbnail: its picture is the gallery's small copy, the file is gone or another.

    persons: how many it may have been before looking.
    """

    found: Explanation
    pictures: tuple[Image.Image, Image.Image]
    calibration: Calibration | None
    thumbnail: bool
    persons: int = 2

    @property
    def probability(self) -> float | None:
        """Of the same person, one of `persons`; None without a calibration."""
        return None if self.calibration is None else self.calibration.probability(self.found.score, 1 / self.persons)

    @property
    def sentence(self) -> str:
        """See `Explanation.sentence`: the pictures are as alike, however many persons there are."""
        return self.found.sentence(replace(self, persons=2).probability)

    def draw(self, *, dark: bool, bars: bool, lines: int = 10) -> bytes:
        """Return the picture of `partalign explain`, PNG; without bars (and probability) it suits a narrow screen."""
        sheet = draw_explanation(
            self.pictures,
            self.found.maps,
            self.found.strongest(lines),
            parts=self.found.parts if bars and self.found.weights is not None else None,
            probability=self.probability if bars else None,
            persons=self.persons,
            theme=DARK if dark else LIGHT,
        )
        file = io.BytesIO()
        sheet.save(file, "PNG")
        return file.getvalue()


class Service:
    """A search with what a server remembers between requests."""

    def __init__(self, search: PictureSearch, limits: Limits):
        self.search, self.gallery, self.limits = search, search.gallery, limits
        self.queries, self._turns = Queries(limits), Turns(limits.waiting)
        self._explained: OrderedDict[tuple[By, str, bytes], Explained] = OrderedDict()
        self._deciding = Lock()

    def remember(self, contents: Sequence[bytes]) -> str:
        """Check and describe uploaded pictures of one person; returns the query's name. Raises PictureError."""
        with self._turns.turn():  # decoding too: a picture may take 100 MB
            pictures = [check_picture(content, self.limits) for content in contents]
            return self.queries.keep(pictures, self.search.describe(pictures))

    def find(
        self, by: By, where: Filter, person: str | None, other_cameras: bool, **options: Any
    ) -> tuple[str | None, list[Match]]:
        """Search; returns who is looked for, where that is known, and the results.

        That is `person`, else whose the records are that are searched by; what was rejected for them is left out.
        """
        person = person or _person_of(self._records_by(by))
        if person is not None:
            where = replace(where, not_tags=(*where.not_tags, REJECTED + person))
        if by.query is not None:
            return person, self.search.by_vectors(self.queries.find(by.query).vectors, where, **options)
        options["other_cameras"] = other_cameras
        if by.tracklet is not None:
            return person, self.search.by_tracklet(by.tracklet, where, camera=by.camera, **options)
        return person, self.search.by_ids(by.like, where, **options)

    def record(self, name: str) -> Record:
        """Return a record. Raises UnknownRecordError."""
        found = self.gallery.get(name)
        if found is None:
            raise UnknownRecordError(name)
        return found

    def thumbnail(self, name: str) -> bytes:
        """Return a record's small picture, JPEG: the gallery's, else of its file. Raises UnknownRecordError."""
        kept = self.gallery.thumbnails([name]).get(name)
        if kept is not None:
            return kept
        record, stored = self.record(name), self.gallery.vectors([name])[0]
        with self._turns.turn():
            try:
                # Compared with its descriptor: a record that was imported may name any picture of this machine.
                return thumbnail(self._picture(record, stored)[0])
            except ExplanationError:
                raise UnknownRecordError(name) from None

    def explain(self, by: By, name: str, who: str, persons: int = 2) -> Explained:
        """Explain a result: of several pictures searched by, by the one most like it. Raises ExplanationError."""
        found = replace(self._explain(by, name), persons=persons)
        pictures = None if by.query is None else len(self.queries.find(by.query).pictures)
        said = {"pictures": pictures, "like": list(by.like) or None, "tracklet": by.tracklet, "camera": by.camera}
        self.gallery.log_reading("explain", who, record=name, **said)
        return found

    def _explain(self, by: By, name: str) -> Explained:
        record = self.record(name)
        # Asked anew each time: what was removed since is not explained again, what was added again is explained anew.
        vectors = self.gallery.vectors([name, *(other.id for other in self._records_by(by))])
        key, stored = (by, name, hashlib.sha256(vectors.tobytes()).digest()), vectors[0]
        if key in self._explained:
            return self._explained[key]
        with self._turns.turn():
            first = self._nearest(by, stored)
            picture, small = self._picture(record, stored)
            found = explain(self.search.embedder, first, picture)
        self._explained[key] = Explained(found, (first, picture), self.search.calibration, small)
        while len(self._explained) > _EXPLANATIONS:
            self._explained.popitem(last=False)
        return self._explained[key]

    def forget_explanations(self) -> None:
        """Drop what is held in memory of records that are being removed."""
        self._explained.clear()

    def decide(self, by: By, name: str, same: bool, person: str | None, who: str) -> tuple[str, list[Record]]:
        """Confirm or reject a result: it becomes the person's who is searched for, or is tagged as not theirs.

        That is `person`, else whose the records are that are searched by, else (confirmed) whose the result is, else
        a new one; records that are searched by and are nobody's become theirs. Returns the person, and the records
        that changed as they were before: `restore` takes that back.
        """
        with self._deciding:
            record, asked = self.record(name), self._records_by(by)
            person = person or _person_of(asked) or (record.person if same else None) or self._new_person()
            changed = [record, *(other for other in asked if other.person is None and other.id != name)]
            if theirs := tuple(other.id for other in changed[1:]):
                self.gallery.update(Filter(ids=theirs), person=person, who=who)
            rejected, this = REJECTED + person, Filter(ids=(name,))
            if same:
                drop = (rejected,) if rejected in record.tags else ()
                self.gallery.update(this, person=person, drop_tags=drop, who=who, action="confirm")
            else:
                left: dict[str, Any] = {"person": None} if record.person == person else {}
                self.gallery.update(this, **left, add_tags=(rejected,), who=who, action="reject")
        return person, changed

    def _new_person(self) -> str:
        known = self.gallery.values("person")
        while (name := f"someone-{secrets.token_hex(3)}") in known:
            pass
        return name

    def _records_by(self, by: By) -> list[Record]:
        """Return the records that are searched by, none for pictures. Raises UnknownRecordError."""
        if by.tracklet is not None:
            cameras = None if by.camera is None else (by.camera,)
            found = self.gallery.records(Filter(tracklets=(by.tracklet,), cameras=cameras))
            if not found:
                raise UnknownRecordError(by.tracklet)
            return found
        found = {record.id: record for record in self.gallery.records(Filter(ids=by.like))} if by.like else {}
        for name in by.like:
            if name not in found:
                raise UnknownRecordError(name)
        return [found[name] for name in by.like]

    def _nearest(self, by: By, stored: np.ndarray) -> Image.Image:
        """Return the picture, of those searched by, whose descriptor is most like the stored one."""
        if by.query is not None:
            query = self.queries.find(by.query)
            return query.pictures[int(np.argmax(query.vectors @ stored))]
        records = self._records_by(by)
        vectors = self.gallery.vectors([record.id for record in records])
        best = int(np.argmax(vectors @ stored))
        return self._picture(records[best], vectors[best])[0]

    def _picture(self, record: Record, stored: np.ndarray) -> tuple[Image.Image, bool]:
        """Return the picture that a record was made from, and whether it is only its thumbnail.

        A file may have been changed since, so its descriptor is compared with the stored one. Raises ExplanationError.
        """
        for picture, small in self._pictures(record):
            if small or float(self.search.describe([picture])[0] @ stored) >= SAME:
                return picture, small
        raise ExplanationError(
            "the record's picture is gone or was changed, and there is no thumbnail to explain it by"
        )

    def _pictures(self, record: Record) -> Iterator[tuple[Image.Image, bool]]:
        """Yield what a record may have been made from: its file, the box of that; then the thumbnail, with True."""
        with suppress(PictureError):
            if record.source is not None:
                whole = read_picture(record.source)
                yield whole, False
                if record.box is not None:
                    left, top, width, height = record.box
                    yield whole.crop((round(left), round(top), round(left + width), round(top + height))), False
        small = self.gallery.thumbnails([record.id]).get(record.id)
        if small is not None:
            yield read_picture(io.BytesIO(small)), True


def _person_of(records: Sequence[Record]) -> str | None:
    return next((record.person for record in records if record.person is not None), None)

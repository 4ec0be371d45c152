"""What the API takes and returns. Unknown fields are refused, so that a misspelt filter is not taken for none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from partalign.gallery import Filter, LogEntry, Match, Record
from partalign.web.service import By, Explained

# A line with something to read in it.
_LINE = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\x9f\s][^\x00-\x1f\x7f-\x9f]*$"

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=_LINE)]
Texts = Annotated[list[Text], Field(max_length=200)]


class Strict(BaseModel):
    """Refuses unknown fields, and values of another kind: `true` is no date."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Where(Strict):
    """Which records: those that meet every condition given.

    Times are seconds since 1970 (UTC), or from the start of a video where the gallery's are.
    """

    cameras: Texts | None = None
    not_cameras: Texts = []
    since: FiniteFloat | None = None
    until: FiniteFloat | None = None
    tags: Texts = Field(default=[], description="it has all of them")
    persons: Texts | None = None
    tracklets: Texts | None = None
    older_than: FiniteFloat | None = Field(
        default=None, description="its time, if that is a date, else when it was added, is before"
    )
    labelled: bool | None = Field(default=None, description="whether it has a person")

    def filter(self) -> Filter:
        """Return it as the gallery's."""
        return Filter(**self.model_dump(include=set(Where.model_fields)))


class Listing(Where):
    """A page of the records that pass; in an address, where all values are text."""

    model_config = ConfigDict(extra="forbid", strict=False)

    limit: int = Field(default=100, ge=1, le=1000)
    offset: int = Field(default=0, ge=0, le=1_000_000_000)


class Subject(Strict):
    """What is searched by: exactly one of query, like and tracklet."""

    query: Text | None = Field(default=None, description="pictures that were sent to /api/queries")
    like: Annotated[list[Text], Field(max_length=50)] = Field(default=[], description="records of the gallery")
    tracklet: Text | None = None
    camera: Text | None = Field(
        default=None, description="of the tracklet, where several cameras have one of that name"
    )

    @model_validator(mode="after")
    def _one(self):
        if (self.query is not None) + bool(self.like) + (self.tracklet is not None) != 1:
            raise ValueError("expected exactly one of query, like and tracklet")
        if self.camera is not None and self.tracklet is None:
            raise ValueError("expected a tracklet with its camera; the camera of results is `where.cameras`")
        return self

    @property
    def by(self) -> By:
        """Return it as the service's."""
        return By(self.query, tuple(dict.fromkeys(self.like)), self.tracklet, self.camera)


MEANT = "how many persons a record may be, all as likely before looking, one of them who is searched for"

Persons = Annotated[int, Field(ge=2, le=1_000_000_000, description=MEANT)]


class Search(Subject):
    """A search. person: who is looked for; what was rejected for them is left out."""

    person: Text | None = None
    where: Where = Where()
    other_cameras: bool = Field(default=False, description="leave out the cameras of the records searched by")
    group: bool = Field(default=False, description="one result for each tracklet, its best crop")
    rerank: bool = Field(default=False, description="reorder the best hundred by their neighbours (k-reciprocal)")
    combine: Literal["mean", "max"] = Field(default="mean", description="how several pictures are searched by")
    persons: Persons = 2
    limit: int = Field(default=24, ge=1, le=200)
    offset: int = Field(default=0, ge=0, le=10_000)

    @model_validator(mode="after")
    def _camera_known(self):
        if self.other_cameras and self.query is not None:
            raise ValueError("sent pictures have no camera that `other_cameras` could leave out: use `not_cameras`")
        return self


class Decide(Subject):
    """A result that is confirmed or rejected. person: whose the pictures are, where that is known."""

    record: Text
    same: bool
    person: Text | None = None


class Explain(Subject):
    """A result to explain."""

    record: Text
    persons: Persons = 2


class Change(Strict):
    """New values of a record; what is left out stays."""

    person: Text | None = None
    camera: Text | None = None
    tags: Texts = []


class Forget(Strict):
    """Whom, or what older than a date (seconds since 1970), to remove for good: one of both."""

    person: Text | None = None
    before: FiniteFloat | None = None

    @model_validator(mode="after")
    def _one(self):
        if (self.person is None) == (self.before is None):
            raise ValueError("expected either a person or a date")
        return self


class RecordOut(BaseModel):
    """A crop of the gallery. source: name of the file, without its folder. time: see `Where`."""

    id: str
    person: str | None
    camera: str | None
    time: float | None
    source: str | None
    tracklet: str | None
    tags: list[str]
    box: list[float] | None
    added: float | None

    @classmethod
    def of(cls, record: Record) -> RecordOut:
        """Build from the gallery's, without what would tell how the server's disk is laid out."""
        source = None if record.source is None else record.source.replace("\\", "/").rpartition("/")[2]
        lists = {"tags": list(record.tags), "box": None if record.box is None else list(record.box)}
        values = {name: getattr(record, name) for name in cls.model_fields}
        return cls.model_validate(values | lists | {"source": source})


class MatchOut(BaseModel):
    """A result. probability: of the same person, one of so many `persons`; null without a calibration."""

    rank: int
    record: RecordOut
    similarity: float
    probability: float | None
    more: int = Field(description="of a search in groups: further crops of the tracklet behind this one")

    @classmethod
    def of(cls, match: Match) -> MatchOut:
        """Build from the gallery's."""
        return cls(
            rank=match.rank,
            record=RecordOut.of(match.record),
            similarity=match.similarity,
            probability=match.probability,
            more=match.more,
        )


class Found(BaseModel):
    """A page of results. person: who was looked for. further: whether there are more."""

    person: str | None
    matches: list[MatchOut]
    further: bool


class Records(BaseModel):
    """A page of records."""

    records: list[RecordOut]
    total: int


class Query(BaseModel):
    """A remembered query and for how many seconds it is."""

    query: str
    pictures: int
    seconds: float


class Decided(BaseModel):
    """Whose the record is or is not, and the records that changed as they were before."""

    person: str
    before: list[RecordOut]


class Explanation(BaseModel):
    """What makes two pictures similar (eq. 8-9 of the paper); maps and parts each add up to the similarity.

    maps: what each place of the picture searched by (A) and of the record's (B) adds. parts: the same by body part,
    null for a network without a part stream. thumbnail: B's file is gone or was changed, its small copy is explained.
    """

    similarity: float
    probability: float | None
    sentence: str
    parts: dict[str, float] | None
    maps: list[list[list[float]]]
    thumbnail: bool

    @classmethod
    def of(cls, explained: Explained) -> Explanation:
        """Build from the service's."""
        found = explained.found
        return cls(
            similarity=found.score,
            probability=explained.probability,
            sentence=explained.sentence,
            parts=None if found.weights is None else found.parts,
            maps=[places.tolist() for places in found.maps],
            thumbnail=explained.thumbnail,
        )


class Overview(BaseModel):
    """The gallery in figures, the client's role, and what the server takes."""

    records: int
    persons: int
    cameras: int
    tracklets: int
    unlabelled: int
    first: float | None
    last: float | None
    model: str
    calibrated: bool
    role: Literal["search", "edit", "admin"]
    pictures: int
    picture_bytes: int
    pixels: int


class Entry(BaseModel):
    """A line of the log."""

    time: float
    action: str
    who: str | None
    details: dict[str, object]

    @classmethod
    def of(cls, entry: LogEntry) -> Entry:
        """Build from the gallery's."""
        return cls(time=entry.time, action=entry.action, who=entry.who, details=entry.details)


class Count(BaseModel):
    """How many records were removed."""

    removed: int


class Problem(BaseModel):
    """Why a request was refused, for people."""

    detail: str

"""The HTTP API: one function for each path. The page uses the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.security import HTTPBearer

from partalign.gallery import Filter
from partalign.gallery.records import REJECTED
from partalign.web import schemas
from partalign.web.access import Client, Role
from partalign.web.schemas import Problem, Text
from partalign.web.service import By, Service

_REFUSALS = (400, 401, 403, 404, 408, 409, 413, 421, 422, 429, 503)

BEARER = Depends(HTTPBearer(auto_error=False, description="A token; browsers may show their session's cookie instead."))
"""Only describes: the guard has checked before."""

router = APIRouter(prefix="/api", responses={status: {"model": Problem} for status in _REFUSALS})


def _service(request: Request) -> Service:
    return request.app.state.service


def _at_least(role: Role) -> Callable[[Request], Client]:
    def check(request: Request) -> Client:
        client: Client = request.state.client
        if client.role < role:
            raise HTTPException(403, f"this needs the role {role.name}, the token has {client.role.name}")
        return client

    return check


The = Annotated[Service, Depends(_service)]
Searcher = Annotated[Client, Depends(_at_least(Role.search))]
Editor = Annotated[Client, Depends(_at_least(Role.edit))]
Admin = Annotated[Client, Depends(_at_least(Role.admin))]
Id = Annotated[Text, InPath(description="of a record")]
Word = Annotated[Text | None, Query()]
Words = Annotated[list[Text], Query(max_length=50)]


@router.get("/info")
def info(the: The, who: Searcher) -> schemas.Overview:
    """Say what the gallery holds and what the server takes."""
    found, limits = the.gallery.info(), the.limits
    return schemas.Overview.model_validate(
        found.as_dict()
        | {"model": str(found.model), "calibrated": the.search.calibration is not None, "role": who.role.name}
        | {"pictures": limits.pictures, "picture_bytes": limits.picture_bytes, "pixels": limits.pixels}
    )


@router.get("/values/{field}")
def values(field: Literal["person", "camera", "tracklet", "tags"], the: The) -> dict[str, int]:
    """Count the records of each value of a field."""
    return {name: count for name, count in the.gallery.values(field).items() if not name.startswith(REJECTED)}


@router.post("/queries", status_code=201)
def query(pictures: list[UploadFile], the: The) -> schemas.Query:
    """Send pictures of one person, to search by and to explain results with; they are forgotten after a while."""
    if len(pictures) > the.limits.pictures:
        raise HTTPException(413, f"expected at most {the.limits.pictures} pictures, found {len(pictures)}")
    most = the.limits.picture_bytes + 1
    name = the.remember([picture.file.read(most) for picture in pictures])
    return schemas.Query(query=name, pictures=len(pictures), seconds=the.limits.lifetime)


@router.post("/search")
def search(wanted: schemas.Search, the: The, who: Searcher, request: Request) -> schemas.Found:
    """Search by pictures or by records; results come best first."""
    _check_persons(the, wanted.persons)
    person, found = the.find(
        wanted.by,
        wanted.where.filter(),
        wanted.person,
        wanted.other_cameras,
        limit=wanted.limit,
        peek=True,
        persons=wanted.persons,
        offset=wanted.offset,
        group=wanted.group,
        rerank=wanted.rerank,
        combine=wanted.combine,
        who=_name(request, who),
    )
    matches = [schemas.MatchOut.of(match) for match in found[: wanted.limit]]
    return schemas.Found(person=person, matches=matches, further=len(found) > wanted.limit)


@router.get("/records")
def records(the: The, wanted: Annotated[schemas.Listing, Query()]) -> schemas.Records:
    """List records that pass, the latest first, those of unknown time last."""
    where = wanted.filter()
    page = the.gallery.records(where, limit=wanted.limit, offset=wanted.offset, latest=True)
    return schemas.Records(records=[schemas.RecordOut.of(record) for record in page], total=the.gallery.count(where))


@router.get("/records/{name:path}")
def record(name: Id, the: The) -> schemas.RecordOut:
    """Return one record."""
    return schemas.RecordOut.of(the.record(name))


@router.patch("/records/{name:path}")
def change(name: Id, wanted: schemas.Change, the: The, who: Editor, request: Request) -> schemas.RecordOut:
    """Change a record; this also takes back a decision."""
    changes: dict[str, Any] = wanted.model_dump(exclude_unset=True)
    if not changes:
        raise HTTPException(422, "expected a new person, camera or tags")
    the.record(name)
    the.gallery.update(Filter(ids=(name,)), **changes, who=_name(request, who))
    return schemas.RecordOut.of(the.record(name))


@router.delete("/records/{name:path}")
def remove(name: Id, the: The, who: Admin, request: Request) -> schemas.Count:
    """Remove a record with its descriptor and thumbnail; its picture file stays."""
    the.record(name)
    removed = the.gallery.remove(Filter(ids=(name,)), who=_name(request, who))
    the.forget_explanations()
    return schemas.Count(removed=removed)


@router.post("/forget")
def forget(wanted: schemas.Forget, the: The, who: Admin, request: Request) -> schemas.Count:
    """Remove all records of a person, or all older than a date; nothing of them can be read afterwards."""
    removed = the.gallery.forget(person=wanted.person, before=wanted.before, who=_name(request, who))
    the.forget_explanations()
    return schemas.Count(removed=removed)


@router.get("/thumbnails/{name:path}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
def thumbnail(name: Id, the: The) -> Response:
    """Return a record's small picture."""
    return Response(the.thumbnail(name), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})


@router.post("/decisions")
def decide(wanted: schemas.Decide, the: The, who: Editor, request: Request) -> schemas.Decided:
    """Confirm a result (it becomes the person's who is searched for) or reject it (it is not found for them again)."""
    person, before = the.decide(wanted.by, wanted.record, wanted.same, wanted.person, _name(request, who))
    return schemas.Decided(person=person, before=[schemas.RecordOut.of(record) for record in before])


@router.post("/explanations")
def explanation(wanted: schemas.Explain, the: The, who: Searcher, request: Request) -> schemas.Explanation:
    """Say why a record was found: which places and body parts make it similar (eq. 8-9 of the paper)."""
    _check_persons(the, wanted.persons)
    return schemas.Explanation.of(the.explain(wanted.by, wanted.record, _name(request, who), wanted.persons))


@router.get("/explanation.png", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def explanation_picture(
    the: The,
    who: Searcher,
    request: Request,
    record: Text,
    query: Word = None,
    like: Words = [],  # noqa: B006 - FastAPI copies defaults
    tracklet: Word = None,
    camera: Word = None,
    theme: Literal["light", "dark"] = "light",
    bars: bool = True,
    persons: schemas.Persons = 2,
) -> Response:
    """Draw the explanation; without bars it suits a narrow screen."""
    if (query is not None) + bool(like) + (tracklet is not None) != 1:
        raise HTTPException(422, "expected exactly one of query, like and tracklet")
    if camera is not None and tracklet is None:
        raise HTTPException(422, "expected a tracklet with its camera")
    _check_persons(the, persons)
    by = By(query, tuple(dict.fromkeys(like)), tracklet, camera)
    explained = the.explain(by, record, _name(request, who), persons)
    return Response(explained.draw(dark=theme == "dark", bars=bars), media_type="image/png")


@router.get("/log", dependencies=[Depends(_at_least(Role.admin))])
def log(the: The, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[schemas.Entry]:
    """Return the newest lines of the log of searches, explanations, changes and removals."""
    return [schemas.Entry.of(entry) for entry in the.gallery.entries(limit)]


def _check_persons(the: Service, persons: int) -> None:
    if persons != 2 and the.search.calibration is None:
        raise HTTPException(422, "the model has no calibration, and so no probability that `persons` would change")


def _name(request: Request, who: Client) -> str:
    return f"{who.name} from {request.client.host if request.client else 'unknown'}"

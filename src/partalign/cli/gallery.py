"""partalign gallery add, search, list, info, remove and forget; the others are in `gallery_upkeep`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.types import PositiveInt
from cyclopts.validators import Number

from partalign.cli import gallery_upkeep
from partalign.cli.engine import Engine
from partalign.cli.gallery_filter import EVERYTHING, Chosen, Texts, count, plain, skipped, who
from partalign.errors import GalleryError

Flag = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]

gallery = App(
    name="gallery",
    help="Keep crops of people and search them by picture. GALLERY is a folder, or, for several machines, a PostgreSQL "
    "server: postgresql://USER@HOST/DATABASE?gallery=NAME.",
)
for _name in ("update", "export", "import", "verify", "compact", "cluster", "merge", "split", "index", "log"):
    gallery.command(getattr(gallery_upkeep, f"{_name}_"), name=_name)


@gallery.command
def add(
    gallery: str,
    *pictures: Path,
    model: Path | None = None,
    tag: Texts = (),
    camera: str | None = None,
    corrupt: Literal["refuse", "skip"] = "refuse",
    device: str = "cpu",
    engine: Engine = "auto",
) -> None:
    """Add pictures of people; the gallery is made where there is none.

    A picture that is there is replaced; its tags, and a person or camera that its file does not say, stay. One whose
    file has not changed is not looked at again: after Ctrl-C the same call goes on where it was.

    Example: partalign gallery add people.gallery crops/ --tag entrance

    Args:
        gallery: its folder, or the address on a server
        pictures: pictures of one person each, or folders of them, also of `partalign people`
        model: the model that describes the pictures, by default the shipped one
        tag: a word to find them by; may be repeated
        camera: of pictures whose camera is not known
        corrupt: what a picture that cannot be read does: stop the work, or be named and left out
        device: cpu, cuda, cuda:1 ...
    """
    from dataclasses import replace

    from partalign.datasets.folder import find_crops
    from partalign.search import PictureSearch

    if not pictures:
        raise GalleryError("expected pictures or folders of pictures to add, found none")
    crops = [c if c.camera or not camera else replace(c, camera=camera) for c in find_crops(pictures)]
    how = {"device": device, "engine": engine, "crops": len(crops)}
    with PictureSearch.open(gallery, model, create=True, on_error=corrupt, **how) as search:
        done = search.add(crops, tag, who=who())
        print(
            f"{search.gallery.url}: {done.new:,} added, {done.replaced:,} replaced, {done.unchanged:,} unchanged, "
            f"{search.gallery.count():,} in all"
        )


@gallery.command
def search(
    gallery: str,
    *pictures: Path,
    like: Texts = (),
    by_tracklet: str | None = None,
    by_camera: str | None = None,
    chosen: Chosen = EVERYTHING,
    other_cameras: Flag = False,
    top: PositiveInt = 10,
    page: PositiveInt = 1,
    persons: Annotated[int, Parameter(validator=Number(gte=2))] = 2,
    combine: Literal["mean", "max"] = "mean",
    group: Flag = False,
    rerank: Flag = False,
    approximate: Flag = False,
    json_: Json = False,
    out: Path | None = None,
    model: Path | None = None,
    device: str = "cpu",
    engine: Engine = "auto",
) -> None:
    """Search by one or several pictures of a person, by records of the gallery, or by a tracklet.

    Example: partalign gallery search people.gallery anna.jpg --not-camera lobby --out found.png

    Args:
        gallery: its folder, or the address on a server
        pictures: pictures of one person
        like: the id of a record of that person; may be repeated
        by_tracklet: the name of a tracklet of that person
        by_camera: the camera of that tracklet, where several have one of that name
        other_cameras: with --like and --by-tracklet, leave out the cameras that these are of
        top: how many matches
        page: the second so many matches, the third ...
        persons: how many persons a match may be, all as likely before looking, one of them who is searched for; the
            column `same` is of that; by default 2: as likely as not
        combine: search by the mean of several pictures, or by the most similar of them
        group: show the best crop of each tracklet only
        rerank: reorder the best 100 by whom they have for neighbours
        approximate: use the index of a gallery on a server
        json_: print everything as JSON
        out: also draw the matches, to this picture (.png)
        model: the model that made the gallery, by default the shipped one
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.images import read_picture
    from partalign.pictures.saving import check_target
    from partalign.search import PictureSearch

    if bool(pictures) + bool(like) + bool(by_tracklet) != 1:
        raise GalleryError("expected pictures to search by, or --like ID, or --by-tracklet NAME: give one of them")
    if by_camera and not by_tracklet:
        raise GalleryError("--by-camera is of --by-tracklet NAME; the camera of results is --camera")
    if pictures and other_cameras:
        raise GalleryError("a picture has no camera that --other-cameras could leave out: say which, --not-camera NAME")
    if approximate and "://" not in gallery:
        raise GalleryError(f"{gallery}: a gallery in a folder is searched exactly: leave out --approximate")
    if out is not None:
        check_target(out)
    where = chosen.filter()
    options: dict[str, Any] = {"limit": top, "offset": skipped(top, page), "combine": combine, "group": group}
    options |= {"rerank": rerank, "exact": not approximate, "persons": persons, "who": who()}
    with PictureSearch.open(gallery, model, device=device, engine=engine, crops=len(pictures)) as found:
        if pictures:
            matches = found.by_pictures(pictures, where, **options)
        elif like:
            matches = found.by_ids(like, where, other_cameras=other_cameras, **options)
        else:
            options |= {"camera": by_camera, "other_cameras": other_cameras}
            matches = found.by_tracklet(by_tracklet or "", where, **options)
        print(json.dumps([match.as_dict() for match in matches]) if json_ else _table(matches))
        if out is not None:
            query = (
                read_picture(pictures[0]) if pictures else found.picture(_query(found, like, by_tracklet, by_camera))
            )
            _draw(found, query, matches, out)


@gallery.command(name="list")
def list_(
    gallery: str, *, chosen: Chosen = EVERYTHING, top: PositiveInt = 50, page: PositiveInt = 1, json_: Json = False
) -> None:
    """List records, the latest first.

    Example: partalign gallery list people.gallery --camera lobby --since 2026-05-01

    Args:
        gallery: its folder, or the address on a server
        top: how many records
        page: the second so many records, the third ...
        json_: print everything as JSON
    """
    from partalign.gallery import open_gallery
    from partalign.gallery.matching import Options

    where = chosen.filter()
    options = Options(limit=top, offset=skipped(top, page))  # refuses what is too large
    with open_gallery(gallery, read_only=True) as opened:
        records = opened.records(where, limit=options.limit, offset=options.offset, latest=True)
        total = opened.count(where)
    if json_:
        print(json.dumps([record.as_dict() for record in records]))
        return
    print(_lines(["id", *_HEADINGS], [[record.id, *_cells(record)] for record in records]))
    print(f"{len(records):,} of {count(total, 'record')}")


@gallery.command
def info(gallery: str, *, json_: Json = False) -> None:
    """Show how many records, persons and cameras there are, and which model describes them.

    Example: partalign gallery info people.gallery

    Args:
        gallery: its folder, or the address on a server
        json_: print everything as JSON
    """
    from partalign.gallery import Record, open_gallery
    from partalign.gallery.times import show_time

    with open_gallery(gallery, read_only=True) as opened:
        found, cameras, tags = opened.info(), opened.values("camera"), opened.values("tags")
    if json_:
        print(json.dumps(found.as_dict() | {"records_of_camera": cameras, "records_with_tag": tags}))
        return
    how = "exactly" if found.index is None else f"exactly, or by {found.index}"
    print(f"{found.url}: {found.store}, {found.bytes / 2**20:,.1f} MiB, searched {how}")
    print(f"model: {found.model}")
    print(
        f"{count(found.records, 'record')} of {count(found.persons, 'person')}, {found.unlabelled:,} without a person"
    )
    print(f"{count(found.tracklets, 'tracklet')}; cameras: {_counts(cameras)}; tags: {_counts(tags)}")
    if found.first is not None:
        print(f"times: {show_time(Record('x', time=found.first))} to {show_time(Record('x', time=found.last))}")


@gallery.command
def remove(gallery: str, *, chosen: Chosen = EVERYTHING, yes: Flag = False) -> None:
    """Remove the records that are chosen, with descriptors and thumbnails; the pictures themselves stay.

    Example: partalign gallery remove people.gallery --camera lobby --until 2026-05-01

    Args:
        gallery: its folder, or the address on a server
        yes: remove everything, where no condition is given
    """
    from partalign.gallery import open_gallery

    if chosen == EVERYTHING and not yes:
        raise GalleryError("expected a condition, such as --id or --camera; --yes removes everything")
    where = chosen.filter()
    with open_gallery(gallery) as opened:
        print(f"{count(opened.remove(where, who=who()), 'record')} removed")


@gallery.command
def forget(gallery: str, *, person: str | None = None, older_than: str | None = None, yes: Flag = False) -> None:
    """Remove all of a person, or all that is older than an age, so that nothing of it stays in the gallery's files.

    Example: partalign gallery forget people.gallery --older-than 30d

    Args:
        gallery: its folder, or the address on a server
        person: the person's name
        older_than: an age, such as 30d, 12h or 8w; from when a picture was taken, or added where that is unknown
        yes: also where no record would be left
    """
    from partalign.gallery import Filter, open_gallery
    from partalign.gallery.times import parse_age

    before = None if older_than is None else time.time() - parse_age(older_than)
    where = Filter(persons=None if person is None else (person,), older_than=before)
    with open_gallery(gallery) as opened:
        if not yes and where != Filter() and 0 < opened.count(where) == (total := opened.count()):
            raise GalleryError(f"{gallery}: no record of {total:,} would be left; --yes forgets everything")
        print(f"{count(opened.forget(person=person, before=before, who=who()), 'record')} forgotten")


_HEADINGS = ["person", "camera", "time", "tracklet", "source"]


def _cells(record: Any) -> list[str]:
    from partalign.gallery.times import show_time

    return [record.person or "", record.camera or "", show_time(record), record.tracklet or "", record.source or ""]


def _table(matches: list[Any]) -> str:
    """Return matches as lines; columns that say nothing of any match are left out."""
    from partalign.evaluation.calibration import percent

    rows = [
        [
            str(match.rank),
            f"{match.similarity:.3f}",
            "" if match.probability is None else percent(match.probability),
            f"+{match.more}" if match.more else "",
            match.record.id,
            *_cells(match.record),
        ]
        for match in matches
    ]
    return _lines(["rank", "similarity", "same", "more", "id", *_HEADINGS], rows) if rows else "no match"


def _lines(headings: list[str], rows: list[list[str]]) -> str:
    rows = [[plain(cell) for cell in row] for row in rows]
    kept = [i for i in range(len(headings)) if any(row[i] for row in rows) or headings[i] == "id"]
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in kept]
    return "\n".join(
        "  ".join(row[i].ljust(width) for i, width in zip(kept, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    )


def _counts(values: dict[str, int]) -> str:
    shown = [f"{plain(name)} ({number:,})" for name, number in list(values.items())[:12]]
    return ", ".join(shown + ([f"and {len(values) - 12} more"] if len(values) > 12 else [])) or "none"


def _query(found: Any, like: tuple[str, ...], tracklet: str | None, camera: str | None) -> str:
    """Return the record whose picture stands for those that are searched by: of a tracklet, the one in the middle."""
    from partalign.gallery import Filter

    if like:
        return like[0]
    of = Filter(tracklets=(tracklet or "",), cameras=None if camera is None else (camera,))
    crops = sorted(found.gallery.records(of), key=lambda record: (record.time or 0, record.id))
    return crops[len(crops) // 2].id


def _draw(found: Any, query: Any, matches: list[Any], out: Path) -> None:
    from partalign.pictures.ranked_list import RankedRow, Shown, draw_ranked_list
    from partalign.pictures.saving import save_picture

    shown = tuple(Shown(found.picture(m.record.id), m.record.camera, m.similarity) for m in matches)
    save_picture(draw_ranked_list([RankedRow(Shown(query), shown)]), out)
    print(out)

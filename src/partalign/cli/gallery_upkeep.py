"""partalign gallery update, export, import, verify, compact, cluster, merge, split, index, log."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from partalign.cli.gallery_filter import EVERYTHING, Chosen, Texts, count, plain, who
from partalign.errors import GalleryError
from partalign.gallery.records import FIRST_DATE
from partalign.gallery.times import DATES, parse_age, parse_time

if TYPE_CHECKING:
    from partalign.gallery import Gallery

Flag = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]


def update_(
    gallery: str,
    *,
    chosen: Chosen = EVERYTHING,
    set_person: str | None = None,
    set_camera: str | None = None,
    set_time: str | None = None,
    add_tag: Texts = (),
    drop_tag: Texts = (),
    clear: Annotated[tuple[Literal["person", "camera", "time", "tags"], ...], Parameter(negative="")] = (),
    yes: Flag = False,
) -> None:
    """Change what is known of the records that are chosen: person, camera, time, tags.

    Example: partalign gallery update people.gallery --camera cam3 --set-camera lobby --add-tag checked

    Args:
        gallery: its folder, or the address on a server
        set_person: the name of their person
        set_camera: their camera
        set_time: when they were seen: 2026-05-01T12:30 (UTC), or seconds from the start of a video
        add_tag: a tag that they get; may be repeated
        drop_tag: a tag that they lose; may be repeated
        clear: what is not known of them, or no longer true: person, camera, time or tags; may be repeated
        yes: change all records, where no condition is given
    """
    from partalign.gallery import open_gallery

    where = chosen.filter()
    if chosen == EVERYTHING and not yes:
        raise GalleryError("expected a condition, such as --id or --camera; --yes changes all records")
    given = {"person": set_person, "camera": set_camera, "time": None if set_time is None else parse_time(set_time)}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if both := sorted(set(changes) & set(clear)):
        raise GalleryError(f"expected a new {both[0]} or none, found both --set-{both[0]} and --clear {both[0]}")
    changes |= {name: () if name == "tags" else None for name in clear}
    if not changes and not add_tag and not drop_tag:
        raise GalleryError("expected something to change, such as --set-person NAME or --add-tag WORD")
    with open_gallery(gallery) as opened:
        number = opened.update(where, add_tags=add_tag, drop_tags=drop_tag, who=who(), **changes)
    print(f"{count(number, 'record')} changed")


def export_(gallery: str, out: Path, *, chosen: Chosen = EVERYTHING) -> None:
    """Write records, descriptors and thumbnails to one Parquet file.

    Example: partalign gallery export people.gallery people.parquet

    Args:
        gallery: its folder, or the address on a server
        out: the file to write (.parquet)
    """
    from partalign.gallery import open_gallery
    from partalign.gallery.transfer import export_gallery

    where = chosen.filter()
    with open_gallery(gallery) as opened:
        print(f"{count(export_gallery(opened, out, where, who=who()), 'record')}: {out}")


def import_(gallery: str, file: Path) -> None:
    """Add what another gallery exported; the gallery is made where there is none.

    Example: partalign gallery import postgresql://me@server/people people.parquet

    Args:
        gallery: its folder, or the address on a server
        file: made by `partalign gallery export`
    """
    from partalign.gallery import open_gallery
    from partalign.gallery.transfer import import_gallery, read_model

    with open_gallery(gallery, model=read_model(file), create=True) as opened:
        done = import_gallery(opened, file, who=who())
        print(f"{opened.url}: {done.new:,} added, {done.replaced:,} replaced, {opened.count():,} in all")


def verify_(gallery: str) -> int:
    """Read everything and say what is damaged; leaves with 1 where something is.

    Example: partalign gallery verify people.gallery

    Args:
        gallery: its folder, or the address on a server
    """
    from partalign.gallery import open_gallery

    with open_gallery(gallery, read_only=True) as opened:
        problems, total = opened.verify(), opened.count()
    for line in problems:
        print(line, file=sys.stderr)
    print(f"{count(total, 'record')}, {count(len(problems), 'problem') if problems else 'nothing damaged'}")
    return 1 if problems else 0


def compact_(gallery: str, *, log_older_than: str | None = None) -> None:
    """Give back the space of what was removed; and drop old lines of the log, if told which.

    Example: partalign gallery compact people.gallery --log-older-than 365d

    Args:
        gallery: its folder, or the address on a server
        log_older_than: drop lines of the log from before that age, such as 365d or 52w; by default none is dropped
    """
    from partalign.gallery import open_gallery

    before = None if log_older_than is None else time.time() - parse_age(log_older_than)
    with open_gallery(gallery) as opened:
        given = opened.compact(log_before=before, who=who())
        print(f"{given / 2**20:,.1f} MiB given back, {opened.info().bytes / 2**20:,.1f} MiB in all")


def cluster_(
    gallery: str,
    *,
    chosen: Chosen = EVERYTHING,
    similarity: float | None = None,
    least: PositiveInt = 2,
    again: Flag = False,
    dry: Flag = False,
    model: Path | None = None,
) -> None:
    """Tell persons apart in crops without names: alike crops get one name, person-1, person-2 ...

    Correct what went wrong with `merge` and `split`; names that you gave stay as they are.

    Example: partalign gallery cluster people.gallery --similarity 0.6

    Args:
        gallery: its folder, or the address on a server
        similarity: how alike the crops of a person are on average; by default what makes the same person 95%
            probable, by the model's calibration
        least: crops that a person has at least; others stay without a name
        again: also those that an earlier run named
        dry: only say how many persons there would be
        model: the file of the gallery's model, whose calibration is taken, where that is no shipped one
    """
    from partalign.gallery import open_gallery
    from partalign.gallery.people import name_people

    where = chosen.filter()
    if similarity is not None and not -1 < similarity <= 1:
        raise GalleryError(f"expected a --similarity above -1 and up to 1, found {similarity:g}")
    with open_gallery(gallery, read_only=dry) as opened:
        if similarity is None:
            similarity = _similarity_of(opened, model)
        found = name_people(opened, where, similarity, least=least, again=again, dry=dry, who=who())
    told = f"{count(found.persons, 'person')} in {found.named:,} of {count(found.records, 'record')}"
    if not found.records:
        told = "no record to name" + ("" if again else "; --again names those anew that were named so")
    print(f"at a similarity of {similarity:.3f}: {told}{', nothing changed' if dry else ''}")


def _similarity_of(opened: Gallery, model: Path | None) -> float:
    """Return from which similarity on one person is 95% probable, by the calibration of the gallery's own model."""
    from partalign.weights.info import read_info
    from partalign.weights.shipped import shipped_models

    wanted = opened.model
    if model is None and wanted.name not in shipped_models():
        raise GalleryError(f"{opened.url}: made with {wanted}, no shipped model: give its file as --model")
    info = read_info(model or wanted.name)
    if (info.name, info.version) != (wanted.name, wanted.version):
        raise GalleryError(
            f"{opened.url}: expected the calibration of {wanted}, found that of {info.name}, version {info.version}: "
            "what is alike to one model is not to another; give the gallery's model as --model, or --similarity"
        )
    if info.calibration is None:
        raise GalleryError(f"{info.name} has no calibration to take a similarity from: give --similarity")
    return info.calibration.threshold(0.95)


def merge_(gallery: str, person: str, *others: str) -> None:
    """Say that several names are one person.

    Example: partalign gallery merge people.gallery anna person-3 person-8

    Args:
        gallery: its folder, or the address on a server
        person: the name that stays, or a new one
        others: names that become this one
    """
    from partalign.gallery import open_gallery
    from partalign.gallery.people import merge

    with open_gallery(gallery) as opened:
        number = merge(opened, person, others, who=who())
        print(f"{_are(number)} now of {person}")


def split_(gallery: str, *records: str, person: str | None = None) -> None:
    """Say that some records are of another person than their name says.

    Example: partalign gallery split people.gallery 5f0c2b... 77ab01... --person berta

    Args:
        gallery: its folder, or the address on a server
        records: ids of the records
        person: their person's name; by default a new one, person-N
    """
    from partalign.gallery import open_gallery
    from partalign.gallery.people import split

    with open_gallery(gallery) as opened:
        name = split(opened, records, person, who=who())
        print(f"{_are(len(set(records)))} now of {name}")


def _are(number: int) -> str:
    return f"{count(number, 'record')} {'is' if number == 1 else 'are'}"


def index_(gallery: str, *, queries: PositiveInt = 100, drop: Flag = False) -> None:
    """Build an approximate index on a server, for `search --approximate`, and say what share of the best it finds.

    Example: partalign gallery index postgresql://me@server/people

    Args:
        gallery: the address on a server
        queries: records that are searched by, to measure that
        drop: remove the index instead
    """
    from partalign.gallery import open_gallery

    with open_gallery(gallery) as opened:
        if drop:
            opened.drop_index()
            print("index removed")
        else:
            print(f"recall of the exact best 10: {opened.build_index(queries):.2%}")


def log_(gallery: str, *, top: PositiveInt = 50, json_: Json = False) -> None:
    """Show who searched, exported, added, changed and removed what, newest first.

    Example: partalign gallery log people.gallery

    Args:
        gallery: its folder, or the address on a server
        top: how many lines
        json_: print everything as JSON
    """
    from dataclasses import asdict

    from partalign.gallery import open_gallery

    with open_gallery(gallery, read_only=True) as opened:
        entries = opened.entries(top)
    if json_:
        print(json.dumps([asdict(entry) for entry in entries]))
        return
    for entry in entries:
        told = plain(" ".join(_said(entry.details)))
        at = datetime.fromtimestamp(entry.time, UTC)
        print(f"{at:%Y-%m-%d %H:%M:%S}  {plain(entry.who or '-')}  {plain(entry.action)}  {told}")


def _said(details: Mapping[str, Any]) -> Iterator[str]:
    """Yield name=value of everything that a line of the log says; of conditions and changes, what is in them."""
    for name, value in details.items():
        if isinstance(value, dict):
            yield f"{name}:"
            yield from _said(value)
        else:
            yield f"{name}={','.join(map(str, value)) if isinstance(value, list) else _dated(name, value)}"


def _dated(name: str, value: Any) -> Any:
    """Return a date for people, where a value is one; everything else as it is."""
    if name in DATES and isinstance(value, int | float) and value >= FIRST_DATE:
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%dT%H:%M:%S}"
    return value

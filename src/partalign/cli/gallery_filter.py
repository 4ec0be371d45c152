"""The options by which commands of `partalign gallery` choose records."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from partalign.errors import GalleryError
from partalign.gallery.matching import MOST
from partalign.gallery.records import Filter
from partalign.gallery.times import parse_time

Texts = Annotated[tuple[str, ...], Parameter(negative="")]


@Parameter(name="*", help="which records")
@dataclass(frozen=True)
class Chosen:
    """Records that meet all of these conditions; by default all records.

    Args:
        camera: of this camera; this and the next ones may be repeated
        not_camera: of any camera but this
        person: of this person
        tracklet: of this tracklet
        source: of this file
        id: of this id
        tag: with this tag
        since: seen at this time or later: 2026-05-01T12:30 (UTC), or seconds from the start of a video
        until: seen at this time or earlier
        labelled: with a person's name, or (--no-labelled) without one
    """

    camera: Texts = ()
    not_camera: Texts = ()
    person: Texts = ()
    tracklet: Texts = ()
    source: Texts = ()
    id: Texts = ()
    tag: Texts = ()
    since: str | None = None
    until: str | None = None
    labelled: bool | None = None

    def filter(self) -> Filter:
        """Return the choice as the gallery takes it. Raises GalleryError."""
        since, until = (None if text is None else parse_time(text) for text in (self.since, self.until))
        if since is not None and until is not None and since > until:
            raise GalleryError(f"expected --since before --until, found {self.since} after {self.until}")
        return Filter(
            cameras=self.camera or None,
            not_cameras=self.not_camera,
            persons=self.person or None,
            tracklets=self.tracklet or None,
            sources=self.source or None,
            ids=self.id or None,
            tags=self.tag,
            since=since,
            until=until,
            labelled=self.labelled,
        )


EVERYTHING = Chosen()


def skipped(top: int, page: int) -> int:
    """Return how many come before a page of `top`. Raises GalleryError for a page beyond any gallery."""
    if page > (last := max(1, MOST // top)):
        raise GalleryError(f"expected a --page up to {last:,} with --top {top:,}, found {page:,}")
    return (page - 1) * top


def who() -> str:
    """Return who types, for the gallery's log: several people and machines may share one."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # of a container: no name for the number
        user = "somebody"
    return f"{user} on {socket.gethostname()}, command line"


def plain(text: str) -> str:
    """Return text without what a terminal would obey: names come from others."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count(number: int, what: str) -> str:
    """Return a number with the word for what is counted: 1 record, 2,000 records."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"

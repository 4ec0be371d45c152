"""What a gallery takes: each function refuses other values in one line, and returns them as the stores want them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from partalign.errors import GalleryError
from partalign.gallery.records import CHANGEABLE, Record


def check_persons(persons: Mapping[str, str | None]) -> list[tuple[str | None, str]]:
    """Return (person, id) sorted by id. Raises GalleryError where a person is no text."""
    for person in set(persons.values()):
        Record("x", person)
    return [(person, name) for name, person in sorted(persons.items())]


def check_changes(changes: Mapping[str, Any], add_tags: Sequence[str], drop_tags: Sequence[str]) -> dict[str, Any]:
    """Return all changes, for the log. Raises GalleryError unless they are values of `CHANGEABLE` fields."""
    tags = {"add_tags": list(add_tags), "drop_tags": list(drop_tags)}
    told = {**changes, **{name: value for name, value in tags.items() if value}}
    if not told or not set(changes) <= set(CHANGEABLE):
        found = ", ".join(sorted(set(changes) - set(CHANGEABLE))) or "none"
        raise GalleryError(f"expected changes of {', '.join(CHANGEABLE)}, found {found}")
    if "tags" in changes and (add_tags or drop_tags):
        raise GalleryError("expected either all tags, or tags to add and to drop, found both")
    Record("x", **dict(changes))
    Record("x", tags=(*add_tags, *drop_tags))
    return told


def check_field(name: str) -> str:
    """Return the name of a field that `Gallery.values` counts. Raises GalleryError for another."""
    if name not in ("person", "camera", "tracklet", "source", "tags"):
        raise GalleryError(f"expected person, camera, tracklet, source or tags, found {name!r:.80}")
    return name


def check_thumbnails(
    records: Sequence[Record], vectors: np.ndarray, thumbnails: Sequence[bytes | None] | None
) -> Sequence[bytes | None]:
    """Return one thumbnail (or None) for each record. Raises GalleryError where lengths differ or one is no JPEG."""
    thumbnails = [None] * len(records) if thumbnails is None else thumbnails
    if not len(records) == len(vectors) == len(thumbnails):
        raise GalleryError(
            f"expected a descriptor and a thumbnail (or none at all) for each of {len(records)} records, found "
            f"{len(vectors)} and {len(thumbnails)}"
        )
    for picture in thumbnails:
        if picture is not None and (not isinstance(picture, bytes) or picture[:2] != b"\xff\xd8"):
            raise GalleryError("expected the bytes of a JPEG picture as thumbnail")
    return thumbnails

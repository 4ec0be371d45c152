"""Filters as SQL. SQLite and PostgreSQL differ in two conditions; values always go beside the text, never into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from partalign.gallery.records import FIRST_DATE, Filter


@dataclass(frozen=True)
class Dialect:
    """How an engine says "one of these" and "has this tag", and what values it wants for them; `?` is a value."""

    any_of: str
    texts: Callable[[Sequence[str]], Any]
    has_tag: str
    tag: Callable[[str], Any]


SQLITE = Dialect("{} IN (SELECT value FROM json_each(?))", json.dumps, "instr(tags, ?) > 0", lambda tag: f"\n{tag}\n")
POSTGRES = Dialect("{} = ANY(?)", list, "tags @> ARRAY[?]::text[]", str)

_LISTS = {"cameras": "camera", "persons": "person", "tracklets": "tracklet", "sources": "source", "ids": "id"}
_RANGES = {
    "since": "time >= ?",
    "until": "time <= ?",
    "added_since": "added >= ?",
    "added_until": "added <= ?",
    "older_than": f"CASE WHEN time >= {FIRST_DATE} THEN time ELSE added END < ?",
}


def condition(where: Filter, dialect: Dialect) -> tuple[str, list[Any]]:
    """Return the condition that records pass the filter, for use behind WHERE, and its values."""
    parts, values = ["TRUE"], []

    def require(text: str, *more: Any) -> None:
        parts.append(text)
        values.extend(more)

    for name, column in _LISTS.items():
        if (wanted := getattr(where, name)) is not None:
            require(dialect.any_of.format(column), dialect.texts(wanted))
    if where.not_cameras:
        require(f"(camera IS NULL OR NOT {dialect.any_of.format('camera')})", dialect.texts(where.not_cameras))
    if where.not_ids:
        require(f"NOT {dialect.any_of.format('id')}", dialect.texts(where.not_ids))
    for name, text in _RANGES.items():
        if (limit := getattr(where, name)) is not None:
            require(text, float(limit))
    for tag in where.tags:
        require(dialect.has_tag, dialect.tag(tag))
    if where.after is not None:
        require("id > ?", where.after)
    if where.labelled is not None:
        parts.append(f"person IS {'NOT ' if where.labelled else ''}NULL")
    return " AND ".join(parts), values

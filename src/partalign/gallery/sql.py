"""Filters and changes as SQL. SQLite and PostgreSQL differ in lists; values go beside the text, never into it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from partalign.gallery.cells import joined_tags
from partalign.gallery.records import FIRST_DATE, Filter


@dataclass(frozen=True)
class Dialect:
    """How an engine says "one of these", "has this tag" and "the tags, some added, some dropped"; `?` is a value.

    texts, tag, tags: what values it wants for several texts, for a tag to look for, for all tags of a record.
    """

    any_of: str
    texts: Callable[[Sequence[str]], Any]
    has_tag: str
    tag: Callable[[str], Any]
    retagged: str
    tags: Callable[[Sequence[str]], Any]


SQLITE = Dialect(
    any_of="{} IN (SELECT value FROM json_each(?))",
    texts=json.dumps,
    has_tag="(instr(tags, ?) > 0)",
    tag=lambda tag: f"\n{tag}\n",
    retagged="retagged(tags, ?, ?)",  # of cells.py
    tags=joined_tags,
)
POSTGRES = Dialect(
    any_of="{} = ANY(?)",
    texts=list,
    has_tag="(tags @> ARRAY[?]::text[])",
    tag=str,
    retagged='ARRAY(SELECT DISTINCT tag COLLATE "C" FROM unnest(tags || ?::text[]) AS tag '
    "WHERE tag <> ALL(?::text[]) ORDER BY 1)",
    tags=lambda tags: sorted(set(tags)),
)

_LISTS = {"cameras": "camera", "persons": "person", "tracklets": "tracklet", "sources": "source", "ids": "id"}
_RANGES = {
    "since": "time >= ?",
    "until": "time <= ?",
    "added_since": "added >= ?",
    "added_until": "added <= ?",
    "older_than": f"CASE WHEN time >= {FIRST_DATE} THEN time ELSE added END < ?",
}


def assignments(
    changes: Mapping[str, Any], add_tags: Sequence[str], drop_tags: Sequence[str], dialect: Dialect
) -> tuple[str, list[Any]]:
    """Return what goes behind SET for new values of fields, with tags to add and to drop, and its values."""
    parts = [f"{name} = ?" for name in changes]
    values = [dialect.tags(value) if name == "tags" else value for name, value in changes.items()]
    if add_tags or drop_tags:
        parts.append(f"tags = {dialect.retagged}")
        values += [dialect.texts(add_tags), dialect.texts(drop_tags)]
    return ", ".join(parts), values


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
    if where.until is not None and FIRST_DATE <= where.until < math.inf:
        parts.append(f"time >= {FIRST_DATE}")  # a place in a video is before no date
    for tag in where.tags:
        require(dialect.has_tag, dialect.tag(tag))
    for tag in where.not_tags:
        require(f"NOT {dialect.has_tag}", dialect.tag(tag))
    if where.after is not None:
        require("id > ?", where.after)
    if where.labelled is not None:
        parts.append(f"person IS {'NOT ' if where.labelled else ''}NULL")
    return " AND ".join(parts), values

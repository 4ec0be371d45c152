"""A record as cells of an embedded gallery's tables, and back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from partalign.gallery.records import Record, stored_record

FIELDS = "id, person, camera, time, source, tracklet, tags, box, added"


def cells_of(record: Record, now: float) -> tuple:
    """Return the cells of `FIELDS`; `now`: when it was added, where it does not say."""
    box = None if record.box is None else json.dumps(record.box)
    added = now if record.added is None else record.added
    tags = joined_tags(record.tags)
    return (record.id, record.person, record.camera, record.time, record.source, record.tracklet, tags, box, added)


def joined_tags(tags: Sequence[str]) -> str:
    """Return tags as one cell: a line each, with a line break before and behind."""
    return "".join(f"\n{tag}" for tag in sorted(set(tags))) + "\n" if tags else ""


def split_tags(cell: str) -> list[str]:
    """Return the tags of such a cell."""
    return cell.split("\n")[1:-1]


def retagged(cell: str, add: str, drop: str) -> str:
    """Return tags as one cell with some added, then some dropped: a function of SQL, so that lists come as JSON."""
    return joined_tags(list({*split_tags(cell), *json.loads(add)} - {*json.loads(drop)}))


def record_of(row: Sequence[Any]) -> Record:
    """Return the record of a row of `FIELDS`."""
    *plain, tags, box, added = row
    frame = None if box is None else tuple(json.loads(box))
    return stored_record(*plain, tuple(split_tags(tags)), frame, added)


def checksum(vector: np.ndarray) -> int:
    """Return the CRC-32 of a descriptor's bytes."""
    return zlib.crc32(vector.astype("<f4", copy=False))  # type: ignore[arg-type]

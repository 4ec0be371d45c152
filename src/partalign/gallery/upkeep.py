"""The upkeep of an embedded gallery: find what is damaged, give back the space of what was removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from partalign.errors import GalleryError
from partalign.gallery.cells import checksum
from partalign.gallery.database import Database
from partalign.gallery.matrix import Rows, write_rows

_AT_ONCE = 16384  # rows


def problems(database: Database, vectors: Path, rows: int, dimension: int) -> list[str]:
    """Return what is damaged, a line each; the caller holds the database in one view."""
    found = [f"{database.path}: {line}" for (line,) in database.execute("PRAGMA integrity_check") if line != "ok"]
    if found:
        return found
    try:
        matrix = Rows(vectors, rows, dimension).matrix()
    except GalleryError as error:
        return [str(error)]
    owned = np.zeros(rows, np.int8)
    last = -1
    while True:
        statement = "SELECT slot, checksum, id FROM crops WHERE slot > ? ORDER BY slot LIMIT ?"
        page = database.execute(statement, (last, _AT_ONCE))
        if not page:
            break
        last = page[-1][0]
        inside = [row for row in page if 0 <= row[0] < rows]
        found += [f"record {name}: its descriptor lies behind the end of the file" for *_, name in page[len(inside) :]]
        owned[[slot for slot, *_ in inside]] += 1
        found += [
            f"record {name}: its descriptor is not the one that was added; add it again"
            for slot, stored, name in inside
            if checksum(matrix[slot]) != stored
        ]
    free = database.execute("SELECT slot, wiped FROM free")
    for slot, wiped in free:
        if slot >= rows:
            found.append(f"row {slot}: free, but behind the end of the file")
            continue
        owned[slot] += 1
        if wiped and matrix[slot].any():
            found.append(f"row {slot} of {vectors}: removed, but not overwritten; compact the gallery")
    if len(wrong := np.flatnonzero(owned != 1)):
        found.append(f"{len(wrong)} rows belong to no record or to several, the first is {wrong[0]}")
    lost = database.execute("SELECT COUNT(*) FROM thumbnails WHERE id NOT IN (SELECT id FROM crops)")[0][0]
    return found + ([f"{lost} thumbnails belong to no record; compact the gallery"] if lost else [])


def pack(database: Database, old: Path, new: Path, dimension: int) -> None:
    """Copy the rows of records, and no others, to a new file, and point the records to it; within a change."""
    meta = dict(database.execute("SELECT name, value FROM meta"))
    matrix = Rows(old, meta["rows"], dimension).matrix()
    slots = np.array([slot for (slot,) in database.execute("SELECT slot FROM crops ORDER BY slot")], np.intp)
    new.unlink(missing_ok=True)  # of a compact that was interrupted
    write_rows(new, 0, np.empty((0, dimension), np.float32))
    for first in range(0, len(slots), _AT_ONCE):
        write_rows(new, first, matrix[slots[first : first + _AT_ONCE]])
    # In ascending order: the place that a record moves to was left by one before it.
    moved = [(place, slot) for place, slot in enumerate(slots.tolist()) if place != slot]
    database.many("UPDATE crops SET slot = ? WHERE slot = ?", moved)
    database.execute("DELETE FROM free")
    database.execute("DELETE FROM thumbnails WHERE id NOT IN (SELECT id FROM crops)")
    database.many(
        "UPDATE meta SET value = ? WHERE name = ?", [(meta["generation"] + 1, "generation"), (len(slots), "rows")]
    )

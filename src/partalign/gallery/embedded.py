"""A gallery in one folder on a disk: records in SQLite, descriptors in a matrix file that is mapped into memory.

An addition first writes its rows behind the end of the matrix, where no record points, and waits for the disk; one
transaction of the database then makes them part of the gallery. Rows of removed and replaced records are overwritten
with zeros and never used again, until `compact` writes a new matrix. Any number of processes may read while one writes;
a second writer waits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from partalign.errors import GalleryError
from partalign.gallery.base import EVERYTHING, Gallery
from partalign.gallery.cells import FIELDS, cells_of, checksum, record_of
from partalign.gallery.checks import check_changes, check_field, check_persons, check_thumbnails
from partalign.gallery.database import NAME, Database
from partalign.gallery.forgetting import NAMED, erase
from partalign.gallery.matching import Hits
from partalign.gallery.matrix import Rows, sync_folder, wipe_rows, write_rows
from partalign.gallery.ranking import best_rows
from partalign.gallery.records import Added, Filter, Info, LogEntry, ModelName, Record
from partalign.gallery.sql import SQLITE, assignments, condition
from partalign.gallery.upkeep import pack, problems


class _State(NamedTuple):
    """Which matrix file holds the descriptors, and how many rows of it are written."""

    generation: int
    rows: int


class EmbeddedGallery(Gallery):
    """See `Gallery` and `open_gallery`."""

    def __init__(self, folder: Path, *, model: ModelName | None, create: bool, read_only: bool):
        self.folder, self.url, self._given = Path(folder), str(folder), model
        exists = (self.folder / NAME).is_file()
        if not exists and not create:
            found = "another kind of folder" if self.folder.is_dir() else "no such folder"
            found = "a file" if self.folder.is_file() else found
            raise GalleryError(f"{folder}: expected a gallery, found {found}; make one with `partalign gallery add`")
        if not exists:
            self._make_folder()
        self.read_only = read_only or not os.access(self.folder, os.W_OK)
        self._database = Database(self.folder, read_only=self.read_only)
        try:
            if not self._database.format():
                self._create(model if create else None)
            self.model = self._stored_model()
            self._check_model(model)
            self._mapped = self._state()
            self._rows = self._open_rows(self._mapped)
        except BaseException:
            self._database.close()
            raise

    def add(
        self,
        records: Sequence[Record],
        vectors: np.ndarray,
        thumbnails: Sequence[bytes | None] | None = None,
        *,
        who: str | None = None,
        action: str = "add",
    ) -> Added:
        """See `Gallery.add`."""
        self._require_model()
        vectors = self._unit(np.asarray(vectors))
        thumbnails = check_thumbnails(records, vectors, thumbnails)
        chosen = list({record.id: i for i, record in enumerate(records)}.values())  # of one id twice, the last
        with self._changing() as state:
            slots = self._slots([records[i].id for i in chosen])
            moved, first, now = [], state.rows, time.time()
            matrix = self._map()
            for i in chosen:
                slot = slots.get(records[i].id)
                if slot is None or not np.array_equal(matrix[slot], vectors[i]):
                    moved.append(i)
            write_rows(self._file(state.generation), first, vectors[moved])
            target = {i: first + n for n, i in enumerate(moved)}
            rows = [
                (*cells_of(records[i], now), target.get(i, slots.get(records[i].id)), checksum(vectors[i]))
                for i in chosen
            ]
            self._database.many(
                f"INSERT INTO crops ({FIELDS}, slot, checksum) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO "  # noqa: S608
                "UPDATE SET person=excluded.person, camera=excluded.camera, time=excluded.time, source=excluded.source,"
                " tracklet=excluded.tracklet, tags=excluded.tags, box=excluded.box, added=excluded.added,"
                " slot=excluded.slot, checksum=excluded.checksum",
                rows,
            )
            left = [slots[records[i].id] for i in moved if records[i].id in slots]
            self._database.many("INSERT INTO free (slot) VALUES (?)", [(slot,) for slot in left])
            pictures = [(records[i].id, thumbnails[i]) for i in chosen if thumbnails[i] is not None]
            self._database.many("INSERT OR REPLACE INTO thumbnails VALUES (?, ?)", pictures)
            self._set("rows", first + len(moved))
            added = Added(len(chosen) - len(slots), len(slots))
            self._log(action, who, {"new": added.new, "replaced": added.replaced})
        self._wipe()
        return added

    def update(
        self,
        where: Filter,
        *,
        add_tags: Sequence[str] = (),
        drop_tags: Sequence[str] = (),
        who: str | None = None,
        action: str = "change",
        **changes: Any,
    ) -> int:
        """See `Gallery.update`."""
        told = check_changes(changes, add_tags, drop_tags)
        text, values = condition(where, SQLITE)
        new, new_values = assignments(changes, add_tags, drop_tags, SQLITE)
        with self._changing():
            number = self.count(where)
            self._database.execute(f"UPDATE crops SET {new} WHERE {text}", [*new_values, *values])  # noqa: S608
            self._log(action, who, {"records": number, "where": where.as_dict(), "to": told})
        return number

    def name(self, persons: Mapping[str, str | None], *, who: str | None = None, action: str = "cluster") -> None:
        """See `Gallery.name`."""
        rows = check_persons(persons)
        with self._changing():
            self._database.many("UPDATE crops SET person = ? WHERE id = ?", rows)
            self._log(action, who, {"records": len(rows)})

    def remove(self, where: Filter, *, who: str | None = None) -> int:
        """See `Gallery.remove`."""
        with self._changing():
            removed = len(self._delete(where))
            self._log("remove", who, {"removed": removed, "where": where.as_dict()})
        self._wipe()
        self._database.forget_journal()
        return removed

    def records(
        self, where: Filter = EVERYTHING, *, limit: int | None = None, offset: int = 0, latest: bool = False
    ) -> list[Record]:
        """See `Gallery.records`."""
        text, values = condition(where, SQLITE)
        order = "time DESC, id" if latest else "id"  # SQLite has NULL below all numbers
        statement = f"SELECT {FIELDS} FROM crops WHERE {text} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608
        return [
            record_of(row)
            for row in self._database.execute(statement, [*values, -1 if limit is None else limit, offset])
        ]

    def count(self, where: Filter = EVERYTHING) -> int:
        """See `Gallery.count`."""
        text, values = condition(where, SQLITE)
        return self._database.execute(f"SELECT COUNT(*) FROM crops WHERE {text}", values)[0][0]  # noqa: S608

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """See `Gallery.vectors`."""
        with self._database.reading():
            matrix, slots = self._map(), self._slots(ids)
            self._require_known(ids, slots)
            return matrix[[slots[name] for name in ids]].reshape(-1, self.model.dimension)

    def thumbnails(self, ids: Sequence[str]) -> dict[str, bytes]:
        """See `Gallery.thumbnails`."""
        statement = "SELECT id, jpeg FROM thumbnails WHERE id IN (SELECT value FROM json_each(?))"
        return dict(self._database.execute(statement, (json.dumps(list(ids)),)))

    def values(self, name: Literal["person", "camera", "tracklet", "source", "tags"]) -> dict[str, int]:
        """See `Gallery.values`."""
        found = self._database.execute(f"SELECT {check_field(name)}, COUNT(*) FROM crops GROUP BY {name}")  # noqa: S608
        counts: dict[str, int] = {}
        for value, number in found:
            for item in value.split("\n") if name == "tags" else [value]:
                if item:
                    counts[item] = counts.get(item, 0) + number
        return dict(sorted(counts.items()))

    def info(self) -> Info:
        """See `Gallery.info`."""
        (row,) = self._database.execute(
            "SELECT COUNT(*), COUNT(DISTINCT person), COUNT(DISTINCT camera), COUNT(DISTINCT tracklet), "
            "SUM(person IS NULL), MIN(time), MAX(time) FROM crops"
        )
        records, persons, cameras, tracklets, unlabelled, first, last = row
        figures = (records, persons, cameras, tracklets, unlabelled or 0, first, last)
        return Info(self.url, "embedded", self.model, *figures, self._bytes())

    def log(self, action: str, *, who: str | None = None, **details: Any) -> None:
        """See `Gallery.log`."""
        with self._database.writing():
            self._log(action, who, details)

    def entries(self, limit: int = 100) -> list[LogEntry]:
        """See `Gallery.entries`."""
        found = self._database.execute(
            "SELECT time, action, who, details FROM log ORDER BY number DESC LIMIT ?", (limit,)
        )
        return [LogEntry(at, action, who, json.loads(details)) for at, action, who, details in found]

    def verify(self) -> list[str]:
        """See `Gallery.verify`."""
        with self._database.reading():
            state = self._state()
            return problems(self._database, self._file(state.generation), state.rows, self.model.dimension)

    def compact(self, *, log_before: float | None = None, who: str | None = None) -> int:
        """See `Gallery.compact`."""
        before = self._bytes()
        with self._changing() as state:
            if log_before is not None:
                lines = len(self._database.execute("DELETE FROM log WHERE time < ? RETURNING 1", (log_before,)))
                self._log("shorten the log", who, {"lines": lines, "before": log_before})
            pack(self._database, self._file(state.generation), self._file(state.generation + 1), self.model.dimension)
            sync_folder(self.folder)
        self._wipe()
        self._database.execute("VACUUM")
        self._database.forget_journal()
        return before - self._bytes()

    def close(self) -> None:
        """See `Gallery.close`."""
        self._database.close()

    def _forget(self, where: Filter, person: str | None, action: str, who: str | None) -> int:
        with self._changing():
            removed = self._delete(where)
            erase(self._database.execute, SQLITE, removed, person, self.values("tags"))
            self._log(action, who, {"removed": len(removed)})
        self._wipe()
        self._database.forget_journal()
        return len(removed)

    def _delete(self, where: Filter) -> list[tuple]:
        """Remove all records that pass, within a change; returns what `erase` needs of each."""
        text, values = condition(where, SQLITE)
        run = self._database.execute
        run(f"DELETE FROM thumbnails WHERE id IN (SELECT id FROM crops WHERE {text})", values)  # noqa: S608
        run(f"INSERT INTO free (slot) SELECT slot FROM crops WHERE {text}", values)  # noqa: S608
        return run(f"DELETE FROM crops WHERE {text} RETURNING {', '.join(NAMED)}", values)  # noqa: S608

    def _rank(self, queries: np.ndarray, where: Filter, count: int, exact: bool) -> list[Hits]:  # noqa: ARG002
        while True:
            with self._database.reading():
                matrix, mask = self._map(), self._mask(where)
                generation = self._mapped.generation
            found = best_rows(matrix, queries, count, mask)
            slots = np.unique(np.concatenate([rows for rows, _ in found])).tolist() if found else []
            with self._database.reading():
                unchanged = self._state().generation == generation
                statement = f"SELECT {FIELDS}, slot FROM crops WHERE slot IN (SELECT value FROM json_each(?))"  # noqa: S608
                known = {
                    row[-1]: record_of(row[:-1]) for row in self._database.execute(statement, (json.dumps(slots),))
                }
            if unchanged:
                return [_hits(rows, scores, known, count) for rows, scores in found]

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            strange = sorted(path.name for path in self.folder.iterdir())
        except OSError as error:
            raise GalleryError(f"{self.folder}: a gallery cannot be made here ({error.strerror})") from None
        if strange:
            raise GalleryError(
                f"{self.folder}: expected a gallery or an empty folder, found {strange[0]} in it; choose a new name"
            )

    def _create(self, model: ModelName | None) -> None:
        if model is None:
            raise GalleryError(f"{self.folder}: expected a gallery, found an empty one; name the model to make it")
        if any(path.stat().st_size for path in self.folder.glob("vectors-*.f32")):
            raise GalleryError(
                f"{self.folder}: expected a gallery, found descriptors without records: the folder was copied only in "
                "part; copy it again, or restore it from a backup"
            )
        write_rows(self._file(1), 0, np.empty((0, model.dimension), np.float32))
        meta = {"model": model.name, "version": model.version, "dimension": model.dimension, "generation": 1, "rows": 0}
        self._database.create(meta)
        sync_folder(self.folder)
        sync_folder(self.folder.resolve().parent)

    def _stored_model(self) -> ModelName:
        meta = dict(self._database.execute("SELECT name, value FROM meta"))
        return ModelName(str(meta["model"]), str(meta["version"]), self._number(meta, "dimension"))

    def _file(self, generation: int) -> Path:
        return self.folder / f"vectors-{generation}.f32"

    def _state(self) -> _State:
        meta = dict(self._database.execute("SELECT name, value FROM meta WHERE name IN ('generation', 'rows')"))
        return _State(self._number(meta, "generation"), self._number(meta, "rows"))

    def _number(self, meta: Mapping[str, Any], name: str) -> int:
        """Return a number that files are found and read by: a gallery may come from anybody."""
        value = meta.get(name)
        if not isinstance(value, int) or value < (name == "dimension"):
            raise GalleryError(f"{self.folder}: damaged, its {name} is no number; restore it from a backup")
        return value

    def _set(self, name: str, value: int) -> None:
        self._database.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    def _map(self) -> np.ndarray:
        """Return the descriptors as they are now."""
        state = self._state()
        if state != self._mapped:
            self._rows, self._mapped = self._open_rows(state), state
        return self._rows.matrix()

    def _open_rows(self, state: _State) -> Rows:
        return Rows(self._file(state.generation), state.rows, self.model.dimension)

    def _mask(self, where: Filter) -> np.ndarray | None:
        """Return which rows pass; None for all."""
        rows = self._mapped.rows
        if where == EVERYTHING:
            dead = self._numbers("SELECT group_concat(slot) FROM free WHERE slot < ?", [rows])
            if not len(dead):
                return None
            mask = np.ones(rows, bool)
            mask[dead] = False
            return mask
        text, values = condition(where, SQLITE)
        mask = np.zeros(rows, bool)
        mask[self._inside(self._numbers(f"SELECT group_concat(slot) FROM crops WHERE {text}", values))] = True  # noqa: S608
        return mask

    def _numbers(self, statement: str, values: list[Any]) -> np.ndarray:
        """Return numbers that a query joins with commas: a third of the time that a row for each of them takes."""
        joined = self._database.execute(statement, values)[0][0]
        return np.fromstring(joined or "", np.intp, sep=",")

    def _slots(self, ids: Sequence[str]) -> dict[str, int]:
        statement = "SELECT id, slot FROM crops WHERE id IN (SELECT value FROM json_each(?))"
        slots = dict(self._database.execute(statement, (json.dumps(list(ids)),)))
        self._inside(np.array(list(slots.values()), np.intp))
        return slots

    def _inside(self, slots: np.ndarray) -> np.ndarray:
        """Return rows that records point to, which must be there: a gallery may come from anybody."""
        if len(slots) and not 0 <= slots.min() <= slots.max() < self._state().rows:
            raise GalleryError(
                f"{self.folder}: damaged, records point behind the end of the descriptors; see `partalign gallery "
                "verify`, or restore it from a backup"
            )
        return slots

    @contextmanager
    def _changing(self) -> Iterator[_State]:
        try:
            with self._database.writing():
                yield self._state()
        except OSError as error:
            raise GalleryError(
                f"{self.folder}: cannot be written, nothing was changed ({error.strerror or error}); free "
                "space or check the rights"
            ) from None

    def _wipe(self) -> None:
        """Overwrite descriptors that belong to nobody any more, and remove files of older generations.

        A crash before that changes no answer, and the next change makes up for it.
        """
        with self._changing() as state:
            for path in self.folder.glob("vectors-*.f32"):
                if path != self._file(state.generation):
                    path.unlink(missing_ok=True)
            slots = [slot for (slot,) in self._database.execute("SELECT slot FROM free WHERE NOT wiped")]
            self._inside(np.array(slots, np.intp))
            if slots:
                wipe_rows(self._file(state.generation), slots, self.model.dimension)
                self._database.execute("UPDATE free SET wiped = 1 WHERE NOT wiped")

    def _log(self, action: str, who: str | None, details: dict[str, Any]) -> None:
        values = (time.time(), action, who, json.dumps(details))
        self._database.execute("INSERT INTO log (time, action, who, details) VALUES (?, ?, ?, ?)", values)

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())


def _hits(rows: np.ndarray, scores: np.ndarray, known: dict[int, Record], count: int) -> Hits:
    """Join rows with their records, but for those that were removed in between."""
    found = [(known[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True) if row in known]
    found.sort(key=lambda hit: (-hit[1], hit[0].id))
    return [record for record, _ in found[:count]], np.array([score for _, score in found[:count]], np.float32)

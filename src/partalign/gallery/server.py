"""A gallery on a PostgreSQL server with pgvector: many machines add to it and search it at once.

Searches read every descriptor that passes, and so are exact, unless an approximate index was built and is asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pgvector import Vector

from partalign.errors import GalleryError
from partalign.gallery.base import EVERYTHING, Gallery
from partalign.gallery.cells import checksum
from partalign.gallery.checks import check_changes, check_field, check_persons, check_thumbnails
from partalign.gallery.connection import FORMAT, Connection
from partalign.gallery.forgetting import NAMED, erase
from partalign.gallery.matching import Hits
from partalign.gallery.records import Added, Filter, Info, LogEntry, ModelName, Record, stored_record
from partalign.gallery.sql import POSTGRES, assignments, condition

_FIELDS = "id, person, camera, time, source, tracklet, tags, box, added"
_TYPES = ["text", "text", "text", "float8", "text", "text", "text[]", "float8[]", "float8", "int8", "vector", "bytea"]
_TABLES = ("crops", "thumbnails", "log")
_INDEX = "crops_hnsw"
_LONGEST_INDEXED = 2000  # numbers of a descriptor, pgvector's limit
_READ_AT_ONCE = 2000


class ServerGallery(Gallery):
    """See `Gallery` and `open_gallery`."""

    def __init__(self, url: str, *, model: ModelName | None, create: bool, read_only: bool):
        self._server = Connection(url, read_only=read_only)
        self.url, self._given = self._server.name, model
        try:
            if not self._server.tables():
                if not create or model is None:
                    raise GalleryError(
                        f"{self.url}: expected a gallery, the database has none of that name; make one with "
                        "`partalign gallery add`"
                    )
                self._server.create(model)
            self.model = self._stored_model()
            self._check_model(model)
            # Who may only look on may search, without a line in the log; as in a folder that cannot be written.
            self.read_only = read_only or not self._server.may_write()
        except BaseException:
            self._server.close()
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
        chosen = {record.id: i for i, record in enumerate(records)}  # of one id twice, the last
        now = time.time()
        with self._server.transaction():
            self._server.script(
                "CREATE TEMP TABLE incoming (LIKE crops) ON COMMIT DROP; ALTER TABLE incoming ADD COLUMN jpeg bytea"
            )
            statement = f"COPY incoming ({_FIELDS}, checksum, vector, jpeg) FROM STDIN (FORMAT BINARY)"
            with self._server.copying(statement) as copy:
                copy.set_types(_TYPES)
                # Always in the same order: two that add the same records then wait for, and not against, each other.
                for _, i in sorted(chosen.items()):
                    copy.write_row(_cells(records[i], vectors[i], thumbnails[i], now))
            new = self._server.run(
                f"WITH done AS (INSERT INTO crops ({_FIELDS}, checksum, vector) "  # noqa: S608
                f"SELECT {_FIELDS}, checksum, vector FROM incoming ORDER BY id "
                "ON CONFLICT (id) DO UPDATE SET person=excluded.person, camera=excluded.camera, time=excluded.time, "
                "source=excluded.source, tracklet=excluded.tracklet, tags=excluded.tags, box=excluded.box, "
                "added=excluded.added, checksum=excluded.checksum, vector=excluded.vector "
                "RETURNING xmax = 0 AS new) SELECT count(*) FROM done WHERE new"
            )[0][0]
            self._server.run(
                "INSERT INTO thumbnails SELECT id, jpeg FROM incoming WHERE jpeg IS NOT NULL ORDER BY id "
                "ON CONFLICT (id) DO UPDATE SET jpeg = excluded.jpeg"
            )
            added = Added(new, len(chosen) - new)
            self._log(action, who, {"new": added.new, "replaced": added.replaced})
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
        text, values = condition(where, POSTGRES)
        new, new_values = assignments(changes, add_tags, drop_tags, POSTGRES)
        statement = f"WITH done AS (UPDATE crops SET {new} WHERE {text} RETURNING 1) SELECT count(*) FROM done"  # noqa: S608
        with self._server.transaction():
            number = self._server.run(statement, [*new_values, *values])[0][0]
            self._log(action, who, {"records": number, "where": where.as_dict(), "to": told})
        return number

    def name(self, persons: Mapping[str, str | None], *, who: str | None = None, action: str = "cluster") -> None:
        """See `Gallery.name`."""
        rows = check_persons(persons)
        statement = (
            "UPDATE crops SET person = new.person FROM unnest(?::text[], ?::text[]) AS new (person, id) "
            "WHERE crops.id = new.id"
        )
        with self._server.transaction():
            self._server.run(statement, ([person for person, _ in rows], [name for _, name in rows]))
            self._log(action, who, {"records": len(rows)})

    def remove(self, where: Filter, *, who: str | None = None) -> int:
        """See `Gallery.remove`."""
        text, values = condition(where, POSTGRES)
        statement = f"WITH done AS (DELETE FROM crops WHERE {text} RETURNING 1) SELECT count(*) FROM done"  # noqa: S608
        with self._server.transaction():
            removed = self._server.run(statement, values)[0][0]
            self._log("remove", who, {"removed": removed, "where": where.as_dict()})
        return removed

    def records(
        self, where: Filter = EVERYTHING, *, limit: int | None = None, offset: int = 0, latest: bool = False
    ) -> list[Record]:
        """See `Gallery.records`."""
        text, values = condition(where, POSTGRES)
        order = "time DESC NULLS LAST, id" if latest else "id"
        statement = f"SELECT {_FIELDS} FROM crops WHERE {text} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608
        return [_record(row) for row in self._server.run(statement, [*values, limit, offset])]

    def count(self, where: Filter = EVERYTHING) -> int:
        """See `Gallery.count`."""
        text, values = condition(where, POSTGRES)
        return self._server.run(f"SELECT count(*) FROM crops WHERE {text}", values)[0][0]  # noqa: S608

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """See `Gallery.vectors`."""
        found = dict(self._server.run("SELECT id, vector FROM crops WHERE id = ANY(?)", (list(ids),)))
        self._require_known(ids, found)
        rows = [found[name].to_numpy() for name in ids]
        return np.array(rows, np.float32).reshape(-1, self.model.dimension)

    def thumbnails(self, ids: Sequence[str]) -> dict[str, bytes]:
        """See `Gallery.thumbnails`."""
        found = self._server.run("SELECT id, jpeg FROM thumbnails WHERE id = ANY(?)", (list(ids),))
        return {name: bytes(jpeg) for name, jpeg in found}

    def values(self, name: Literal["person", "camera", "tracklet", "source", "tags"]) -> dict[str, int]:
        """See `Gallery.values`."""
        column = "unnest(tags)" if check_field(name) == "tags" else name
        found = self._server.run(f"SELECT {column} AS value, count(*) FROM crops GROUP BY value")  # noqa: S608
        return dict(sorted((value, number) for value, number in found if value is not None))

    def info(self) -> Info:
        """See `Gallery.info`."""
        found = self._server.run(
            "SELECT count(*), count(DISTINCT person), count(DISTINCT camera), count(DISTINCT tracklet), "
            "count(*) FILTER (WHERE person IS NULL), min(time), max(time), "
            "(pg_total_relation_size('crops') + pg_total_relation_size('thumbnails') + pg_total_relation_size('log'))"
            "::bigint FROM crops"
        )
        index = "HNSW" if self._indexed() else None
        return Info(self.url, "PostgreSQL", self.model, *found[0], index=index)

    def log(self, action: str, *, who: str | None = None, **details: Any) -> None:
        """See `Gallery.log`."""
        with self._server.transaction():
            self._log(action, who, details)

    def entries(self, limit: int = 100) -> list[LogEntry]:
        """See `Gallery.entries`."""
        found = self._server.run("SELECT time, action, who, details FROM log ORDER BY number DESC LIMIT ?", (limit,))
        return [LogEntry(*row) for row in found]

    def verify(self) -> list[str]:
        """See `Gallery.verify`."""
        problems, last = [], ""
        with self._server.transaction(read=True):
            while True:
                statement = "SELECT id, checksum, vector FROM crops WHERE id > ? ORDER BY id LIMIT ?"
                rows = self._server.run(statement, (last, _READ_AT_ONCE))
                if not rows:
                    return problems
                last = rows[-1][0]
                for name, stored, vector in rows:
                    if checksum(vector.to_numpy()) != stored:
                        problems.append(f"record {name}: its descriptor is not the one that was added; add it again")

    def compact(self, *, log_before: float | None = None, who: str | None = None) -> int:
        """See `Gallery.compact`."""
        before = self.info().bytes
        with self._server.transaction():  # refuses where the gallery is open for reading only
            if log_before is not None:
                statement = "WITH done AS (DELETE FROM log WHERE time < ? RETURNING 1) SELECT count(*) FROM done"
                lines = self._server.run(statement, (log_before,))[0][0]
                self._log("shorten the log", who, {"lines": lines, "before": log_before})
        for table in _TABLES:
            self._server.script(f"VACUUM FULL ANALYZE {table}")
        return before - self.info().bytes

    def build_index(self, queries: int = 100, count: int = 10) -> float:
        """See `Gallery.build_index`. HNSW (Malkov and Yashunin 2018), with pgvector's parameters."""
        if self.model.dimension > _LONGEST_INDEXED:
            raise GalleryError(
                f"{self.url}: expected descriptors of at most {_LONGEST_INDEXED} numbers for an index, found "
                f"{self.model.dimension}: search exactly"
            )
        with self._server.transaction():
            self._server.script(f"CREATE INDEX IF NOT EXISTS {_INDEX} ON crops USING hnsw (vector vector_ip_ops)")
        self._server.script("ANALYZE crops")
        return self.recall(queries, count)

    def drop_index(self) -> None:
        """Remove the approximate index."""
        with self._server.transaction():
            self._server.script(f"DROP INDEX IF EXISTS {_INDEX}")

    def close(self) -> None:
        """See `Gallery.close`."""
        self._server.close()

    def _forget(self, where: Filter, person: str | None, action: str, who: str | None) -> int:
        text, values = condition(where, POSTGRES)
        with self._server.transaction():
            removed = self._server.run(f"DELETE FROM crops WHERE {text} RETURNING {', '.join(NAMED)}", values)  # noqa: S608
            erase(self._server.run, POSTGRES, removed, person, self.values("tags"))
            self._log(action, who, {"removed": len(removed)})
        for table in _TABLES:
            self._server.script(f"VACUUM {table}")
        return len(removed)

    def _rank(self, queries: np.ndarray, where: Filter, count: int, exact: bool) -> list[Hits]:
        approximate = not exact and self._indexed()
        with self._server.transaction(read=True):
            found = self._nearest(queries, where, count, approximate)
            # The index gives up after so many rows that do not pass; then all that pass are read.
            short = [i for i, rows in enumerate(found) if len(rows) < count] if approximate else []
            for i, rows in zip(short, self._nearest(queries[short], where, count, False), strict=True):
                found[i] = rows
        return [([_record(row[1:]) for row in rows], np.array([row[0] for row in rows], np.float32)) for rows in found]

    def _nearest(self, queries: np.ndarray, where: Filter, count: int, approximate: bool) -> list[list[Any]]:
        """Return similarities and cells of records for each query; within a transaction."""
        if not len(queries):
            return []
        text, values = condition(where, POSTGRES)
        # Two keys would keep the planner from the index.
        order = "vector <#> ?" if approximate else "vector <#> ?, id"
        statement = f"SELECT -(vector <#> ?), {_FIELDS} FROM crops WHERE {text} ORDER BY {order} LIMIT ?"  # noqa: S608
        if approximate:
            # Not a scan of everything, which it would prefer where that is quick; but of a filter's few, if they are.
            self._server.run("SET LOCAL enable_seqscan TO off")
            self._server.run("SET LOCAL hnsw.iterative_scan TO strict_order")
            self._server.run(f"SET LOCAL hnsw.ef_search TO {min(max(100, 2 * count), 1000)}")
        self._server.run(f"SET LOCAL enable_indexscan TO {'on' if approximate else 'off'}")
        found = []
        for vector in map(Vector, queries):
            rows = self._server.run(statement, [vector, *values, vector, count])
            found.append(sorted(rows, key=lambda row: (-row[0], row[1])))
        if approximate:
            self._server.run("SET LOCAL enable_seqscan TO on")
        return found

    def _indexed(self) -> bool:
        return bool(self._server.run("SELECT to_regclass(?) IS NOT NULL", (_INDEX,))[0][0])

    def _stored_model(self) -> ModelName:
        meta = dict(self._server.run("SELECT name, value FROM meta"))
        if int(meta["format"]) > FORMAT:
            raise GalleryError(
                f"{self.url}: expected a gallery of format {FORMAT}, found {meta['format']}: it was written by a newer "
                "partalign; install that"
            )
        return ModelName(meta["model"], meta["version"], int(meta["dimension"]))

    def _log(self, action: str, who: str | None, details: dict[str, Any]) -> None:
        values = (time.time(), action, who, json.dumps(details))
        self._server.run("INSERT INTO log (time, action, who, details) VALUES (?, ?, ?, ?)", values)


def _cells(record: Record, vector: np.ndarray, thumbnail: bytes | None, now: float) -> tuple:
    box = None if record.box is None else list(record.box)
    added = now if record.added is None else float(record.added)
    at = None if record.time is None else float(record.time)
    plain = (record.id, record.person, record.camera, at, record.source, record.tracklet)
    return (*plain, list(record.tags), box, added, checksum(vector), Vector(vector), thumbnail)


def _record(row: Sequence[Any]) -> Record:
    *plain, tags, box, added = row
    return stored_record(*plain, tuple(tags), None if box is None else tuple(box), added)

"""The SQLite file of an embedded gallery: its tables, its transactions, and its errors in a user's words.

A transaction is on the disk when it ends (`synchronous = FULL`), and one that did not end leaves no trace.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from partalign.errors import GalleryError
from partalign.gallery.cells import retagged

NAME = "gallery.sqlite"
FORMAT = 1
WAIT = 30.0
"""Seconds that a change waits for another process's to end."""

_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE crops (
    slot INTEGER PRIMARY KEY, -- row of the descriptor in the matrix file
    id TEXT NOT NULL UNIQUE, person TEXT, camera TEXT, time REAL, source TEXT, tracklet TEXT,
    tags TEXT NOT NULL, -- a line each, with a line break before and behind
    box TEXT, added REAL NOT NULL,
    checksum INTEGER NOT NULL -- CRC-32 of the descriptor's bytes
);
CREATE INDEX crops_camera ON crops (camera, time);
CREATE INDEX crops_time ON crops (time);
CREATE INDEX crops_person ON crops (person) WHERE person IS NOT NULL;
CREATE INDEX crops_tracklet ON crops (tracklet, camera) WHERE tracklet IS NOT NULL;
CREATE TABLE thumbnails (id TEXT PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE free (slot INTEGER PRIMARY KEY, wiped INTEGER NOT NULL DEFAULT 0); -- rows that belong to nobody
CREATE TABLE log (number INTEGER PRIMARY KEY, time REAL NOT NULL, action TEXT NOT NULL, who TEXT, details TEXT);
PRAGMA user_version = {FORMAT};
"""


class Database:
    """One connection, which any thread may use; only one at a time does."""

    def __init__(self, folder: Path, *, read_only: bool):
        self.path, self.read_only = folder / NAME, read_only
        self._lock = threading.RLock()
        how = ""
        if read_only:
            # Without a journal beside it nobody writes, and SQLite need not make files of its own to find that out.
            how = "?mode=ro" if Path(f"{self.path}-wal").exists() else "?immutable=1"
        with self._told():
            self._connection = sqlite3.connect(
                self.path.resolve().as_uri() + how,
                uri=True,
                timeout=WAIT,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.create_function("retagged", 3, retagged, deterministic=True)
            self._connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from anybody
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")  # zeros in place of what was removed
            self._connection.execute("PRAGMA cache_size = -16000")
            self._check_format()

    def create(self, meta: dict[str, Any]) -> None:
        """Make the tables, in one transaction; nothing where another process just has."""
        self.execute("PRAGMA journal_mode = WAL")
        with self.writing():
            if not self.format():
                if self.execute("SELECT 1 FROM sqlite_master"):
                    raise GalleryError(f"{self.path}: expected a gallery, found a database of another program")
                for statement in _statements(_SCHEMA):
                    self.execute(statement)
                self.many("INSERT INTO meta VALUES (?, ?)", list(meta.items()))

    def format(self) -> int:
        """Return the format's number; 0 of an empty file."""
        return self.execute("PRAGMA user_version")[0][0]

    def execute(self, statement: str, values: Any = ()) -> list[Any]:
        """Run one statement and return its rows."""
        with self._lock, self._told():
            return self._connection.execute(statement, values).fetchall()

    def many(self, statement: str, rows: list[Any]) -> int:
        """Run one statement for each row of values; returns how many rows of the table changed."""
        with self._lock, self._told():
            return self._connection.executemany(statement, rows).rowcount

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One view of the whole database, whatever others write in the meantime."""
        with self._lock:
            self.execute("BEGIN")
            try:
                yield
            finally:
                self.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: nobody else writes; all of it or, if it raises, nothing is done."""
        with self._lock:
            if self.read_only:
                raise GalleryError(f"{self.path.parent}: opened for reading only, or its folder cannot be written")
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise

    def forget_journal(self) -> None:
        """Move everything from the journal into the database, so that what was removed is in neither."""
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connection; another call does nothing."""
        with self._lock:
            self._connection.close()

    def _check_format(self) -> None:
        found = self.format()
        if found > FORMAT:
            self._connection.close()
            raise GalleryError(
                f"{self.path.parent}: expected a gallery of format {FORMAT}, found {found}: it was written by a newer "
                "partalign; install that"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.ProgrammingError as error:  # of a closed connection
            raise GalleryError(f"{self.path.parent}: {error}") from None
        except sqlite3.Error as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            advice = {
                sqlite3.SQLITE_BUSY: f"another process has been writing for {WAIT:.0f} s; try again when it is done",
                sqlite3.SQLITE_FULL: "the disk is full, nothing was changed; free space",
                sqlite3.SQLITE_IOERR: "the disk is full or fails, nothing was changed; free space or check the disk",
                sqlite3.SQLITE_READONLY: "its folder cannot be written; check the rights",
                sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that the folder is there and its rights",
                sqlite3.SQLITE_CORRUPT: "damaged; copy it again, or restore it from a backup",
                sqlite3.SQLITE_NOTADB: "no gallery, or a damaged one; copy it again, or restore it from a backup",
            }.get(code, "damaged, or of another program; restore it from a backup")
            raise GalleryError(f"{self.path}: {advice} ({error})") from None


def _statements(script: str) -> list[str]:
    """Split a script: `executescript` would end the transaction."""
    plain = "\n".join(line.partition("--")[0] for line in script.splitlines())
    return [statement for statement in plain.split(";") if statement.strip()]

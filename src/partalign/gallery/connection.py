"""The connection of a gallery to PostgreSQL: address, tables, transactions, and errors in a user's words.

A gallery is a schema of a database, so that one database holds several. What a transaction did is on the server's disk
when it ends, however the server is set.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from partalign.errors import GalleryError, MissingExtraError
from partalign.gallery.records import ModelName

try:
    import psycopg
    from pgvector.psycopg import register_vector
    from psycopg import errors, sql
except ImportError:
    raise MissingExtraError('a gallery on a server needs psycopg: pip install "partalign[postgres]"') from None

FORMAT = 1
WAIT = 30
"""Seconds that a change waits for another's locks."""

_SCHEMA = """
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE crops (
    id text COLLATE "C" PRIMARY KEY, person text, camera text, time double precision, source text, tracklet text,
    tags text[] NOT NULL, box double precision[], added double precision NOT NULL, checksum bigint NOT NULL,
    vector vector({dimension}) NOT NULL
);
ALTER TABLE crops ALTER COLUMN vector SET STORAGE PLAIN; -- beside its record: a scan then reads one file
CREATE INDEX ON crops (camera, time);
CREATE INDEX ON crops (time DESC NULLS LAST, id);
CREATE INDEX ON crops (person) WHERE person IS NOT NULL;
CREATE INDEX ON crops (tracklet, camera) WHERE tracklet IS NOT NULL;
CREATE TABLE thumbnails (
    id text COLLATE "C" PRIMARY KEY REFERENCES crops ON DELETE CASCADE, jpeg bytea NOT NULL
);
CREATE TABLE log (
    number bigserial PRIMARY KEY, time double precision NOT NULL, action text NOT NULL, who text, details jsonb NOT NULL
);
"""


class Connection:
    """One connection, which any thread may use; only one at a time does. Opened anew where the server was restarted."""

    def __init__(self, url: str, *, read_only: bool):
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        self.gallery = options.pop("gallery", "main")
        if not self.gallery.isidentifier() or len(self.gallery) > 40:
            raise GalleryError(
                f"expected a gallery's name of letters and digits behind ?gallery=, found {self.gallery!r}"
            )
        self.schema = f"partalign_{self.gallery}"
        self._address = parts._replace(query=urlencode(options)).geturl()
        host = parts.netloc.rpartition("@")[2] or options.get("host", "")
        user = parts.username or options.get("user", "")
        self.name = f"postgresql://{user}@{host}{parts.path}?gallery={self.gallery}"  # without the password
        self.read_only = read_only
        self._lock = threading.RLock()
        self._connection: Any = None

    def run(self, statement: str, values: Any = ()) -> list[Any]:
        """Run a statement, `?` in place of a value, and return its rows."""
        with self._lock, self._told():
            cursor = self._open().execute(statement.replace("?", "%s"), values or None, binary=True)
            return cursor.fetchall() if cursor.description else []

    def script(self, statements: str) -> None:
        """Run several statements without values or results."""
        with self._lock, self._told():
            self._open().execute(statements)

    @contextmanager
    def copying(self, statement: str) -> Iterator[Any]:
        """COPY: yields psycopg's copy object."""
        with self._lock, self._told(), self._open().cursor() as cursor, cursor.copy(statement) as copy:
            yield copy

    @contextmanager
    def transaction(self, *, read: bool = False) -> Iterator[None]:
        """All or nothing; read: one view of the whole gallery, whatever others write in the meantime."""
        with self._lock, self._told():
            if self.read_only and not read:
                raise GalleryError(f"{self.name}: opened for reading only")
            with self._open().transaction():
                if read:
                    self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield

    def tables(self) -> bool:
        """Whether the gallery is there."""
        return bool(self.run("SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = 'meta'", (self.schema,)))

    def may_write(self) -> bool:
        """Whether this user may add to the log, and so change what is there, and this server is no standby."""
        return self.run("SELECT has_table_privilege('log', 'INSERT') AND NOT pg_is_in_recovery()")[0][0]

    def create(self, model: ModelName) -> None:
        """Make the tables, in one transaction; nothing where another process just has."""
        with self.transaction():
            self.run("SELECT pg_advisory_xact_lock(hashtext(?))", (self.schema,))
            if not self.tables():
                self.script(f"CREATE SCHEMA IF NOT EXISTS {self.schema}")
                self.script(_SCHEMA.format(dimension=model.dimension))
                meta = {"format": FORMAT, "model": model.name, "version": model.version, "dimension": model.dimension}
                for name, value in meta.items():
                    self.run("INSERT INTO meta VALUES (?, ?)", (name, str(value)))

    def close(self) -> None:
        """Close the connection; another call does nothing."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _open(self) -> Any:
        if self._connection is None or self._connection.broken:
            connection = psycopg.connect(self._address, autocommit=True, connect_timeout=15)
            # The extension can only be made by whoever may; where it is there, anybody may ask.
            if not connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(connection)
            connection.execute(sql.SQL("SET search_path TO {}, public").format(sql.Identifier(self.schema)))
            connection.execute(sql.SQL("SET lock_timeout TO {}").format(f"{WAIT}s"))
            if connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
                connection.execute("SET synchronous_commit TO on")
            self._connection = connection
        return self._connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn psycopg's errors into ours."""
        try:
            yield
        except psycopg.Error as error:
            told = " ".join(str(error).split())[:300]
            raise GalleryError(f"{self.name}: {_advice(error)} ({told})") from None


def _advice(error: psycopg.Error) -> str:
    if isinstance(error, errors.DiskFull):
        return "the server's disk is full, nothing was changed; free space there"
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected | errors.SerializationFailure):
        return "another process is writing the same records, nothing was changed; try again"
    if isinstance(error, errors.InsufficientPrivilege | errors.ReadOnlySqlTransaction):
        return "this user may not do that there; ask for the rights"
    if isinstance(error, errors.UndefinedFile | errors.FeatureNotSupported):
        return "expected a server with the extension pgvector; install it there"
    if isinstance(error, psycopg.OperationalError):
        return "the server does not answer; check the address and that it runs"
    return "the server refuses; check that the gallery is whole"

"""Who may do what: roles, tokens in a file as hashes, sessions of browsers."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from threading import Lock

from partalign.errors import AccessError
from partalign.files import atomic_file

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine for itself."""

SESSION_SECONDS = 12 * 3600
_SESSIONS = 1000


class Role(IntEnum):
    """search: look and explain; edit: also confirm and reject; admin: also remove, and read the log."""

    search = 1
    edit = 2
    admin = 3


@dataclass(frozen=True)
class Client:
    """Who asks: the token's name, by which the log knows it, and its role."""

    name: str
    role: Role


@dataclass(frozen=True)
class Token:
    """A token as it is stored: its SHA-256 (a token is random, 256 bits: it needs no salt and no slow hash)."""

    client: Client
    digest: bytes = field(repr=False)


LOCAL = Client("local", Role.admin)


class Access:
    """The doors. Without tokens everybody who reaches the server is its administrator: for the loopback address only.

    hosts: names that the server answers to, as browsers write them in `Host` without the port; None for any. A page of
    a foreign name that resolves to this machine (DNS rebinding) is thereby refused.
    """

    def __init__(self, tokens: Sequence[Token] = (), *, hosts: Sequence[str] | None = LOOPBACK):
        self._tokens = tuple(tokens)
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._sessions: OrderedDict[bytes, tuple[Client, float]] = OrderedDict()
        self._lock = Lock()

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return not self._tokens

    def check(self, token: str) -> Client | None:
        """Return whose token this is, in the same time whether it is right or wrong."""
        digest, found = _digest(token), None
        for known in self._tokens:
            if hmac.compare_digest(known.digest, digest):
                found = known.client
        return found

    def sign_in(self, client: Client) -> str:
        """Begin a browser's session; returns its key, for a cookie."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_digest(key)] = (client, time.monotonic() + SESSION_SECONDS)
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        return key

    def session(self, key: str) -> Client | None:
        """Return whose session this is; None where there is none, or it has ended."""
        client, until = self._sessions.get(_digest(key), (None, 0.0))
        return client if until > time.monotonic() else None

    def sign_out(self, key: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(key), None)


def new_token(path: Path, role: Role, name: str) -> str:
    """Make a token, write its hash to the file (made, for its owner only, where it is missing), and return it.

    Raises AccessError where the name is taken or no plain word, SaveError.
    """
    if not name.isprintable() or not name or any(c.isspace() for c in name) or len(name) > 64:
        raise AccessError(f"expected a name without spaces, of 64 letters at the most, for a token, found {name!r:.80}")
    known = read_tokens(path) if path.exists() else ()
    if name in {token.client.name for token in known}:
        raise AccessError(f"{path}: has a token named {name}; choose another name, or delete its line")
    token = secrets.token_urlsafe(32)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else ["# role name SHA-256 of the token"]
    with atomic_file(path) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write("\n".join([*lines, f"{role.name} {name} {_digest(token).hex()}", ""]).encode())
    return token


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read what `new_token` wrote: a line each, role, name, SHA-256. Raises AccessError naming the line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(
            f"{path}: expected tokens (`partalign token ROLE --file FILE`), cannot read it: {error}"
        ) from None
    tokens = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            role, name, digest = line.split()
            token = Token(Client(name, Role[role]), bytes.fromhex(digest))
        except (ValueError, KeyError):
            token = None
        if token is None or len(token.digest) != 32:
            raise AccessError(f"{path}: line {number}: expected `ROLE NAME SHA256` with role search, edit or admin")
        tokens.append(token)
    if not tokens:
        raise AccessError(
            f"{path}: expected at least one token, found none; make one: partalign token ROLE --file FILE"
        )
    return tuple(tokens)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

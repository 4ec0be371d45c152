"""What stands before page and API: who may come in, how often, with how much, and what every answer says to browsers.

All of it is decided before a body is read.
"""

from __future__ import annotations

import asyncio
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from partalign.web.access import LOCAL, Access, Client
from partalign.web.limits import Limits, RateLimit

COOKIE = "partalign"
SIGN_IN = "/sign-in"
UPLOAD = "/api/queries"

_SAFE = ("GET", "HEAD", "OPTIONS")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""Of every answer: nothing from elsewhere is loaded, and no other page may frame or read what is here."""


class Guard:
    """ASGI middleware. Leaves the client in `scope["state"]["client"]`, None where only the sign-in is open to it."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits):
        self._app, self._access, self._limits = app, access, limits
        self._rate = RateLimit(limits.rate, limits.burst)
        self._attempts = RateLimit(limits.attempts / 60, limits.attempts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = Headers(scope=scope)
            secure = scope["scheme"] == "https"
            refusal = self._refusal(scope, headers)
            if refusal is None:
                await self._app(scope, self._bounded(scope, receive), _with_headers(send, secure))
            else:
                await refusal(scope, receive, _with_headers(send, secure))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._is_known_host(headers.get("host", "")):
            return refuse(421, "this server does not answer to that name; start it with --name NAME")
        if _from_elsewhere(scope, headers):
            return refuse(403, "requests of other pages are refused")
        address = scope["client"][0] if scope.get("client") else "unknown"
        client, wrong = self._client(headers)
        scope.setdefault("state", {})["client"] = client
        wait = self._rate.wait(client.name if client and not self._access.open else address)
        if not wait and (wrong or (scope["path"] == SIGN_IN and scope["method"] == "POST")):
            wait = self._attempts.wait(address)
        if wait:
            return refuse(429, "too many requests; wait a moment", {"Retry-After": str(int(wait) + 1)})
        if client is None and not _is_public(scope["path"]):
            if scope["path"] == "/" and not wrong:
                return RedirectResponse(SIGN_IN, 303)
            return refuse(401, "a token is required: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > self._most(scope):
            return _too_much(self._most(scope))
        return None

    def _is_known_host(self, host: str) -> bool:
        if self._access.hosts is None:
            return True
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return name.lower() in self._access.hosts

    def _client(self, headers: Headers) -> tuple[Client | None, bool]:
        """Return whose request it is, and whether a wrong token was shown."""
        if self._access.open:
            return LOCAL, False
        authorization = headers.get("authorization")
        if authorization is not None:
            kind, _, token = authorization.partition(" ")
            client = self._access.check(token.strip()) if kind.lower() == "bearer" else None
            return client, client is None
        key = session_key(headers)
        return (None if key is None else self._access.session(key)), False

    def _most(self, scope: Scope) -> int:
        return self._limits.upload_bytes if scope["path"] == UPLOAD else self._limits.body_bytes

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Count what is received, for a body may come without its length, and wait for all of it only so long."""
        left, whole = self._most(scope), False
        until = asyncio.get_running_loop().time() + self._limits.arrival

        async def counted() -> Message:
            nonlocal left, whole
            try:
                async with asyncio.timeout_at(None if whole else until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"expected all of it within {self._limits.arrival:g} seconds") from None
            whole = not message.get("more_body", False)
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"expected at most {self._most(scope):,} bytes")
            return message

        return counted


def session_key(headers: Headers) -> str | None:
    """Return the session's key that a browser sent."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that says in one line why there is no other."""
    return JSONResponse({"detail": detail}, status, headers)


def _too_much(most: int) -> JSONResponse:
    return refuse(413, f"expected at most {most:,} bytes")


def _is_public(path: str) -> bool:
    return path == SIGN_IN or path.startswith("/static/")


def _from_elsewhere(scope: Scope, headers: Headers) -> bool:
    """Whether another site's page made the browser ask; a link that is followed to the page itself is none."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return True
    followed = scope["method"] in _SAFE and scope["path"] in ("/", SIGN_IN)
    return not followed and headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


def _with_headers(send: Send, secure: bool) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            if secure:
                headers["Strict-Transport-Security"] = "max-age=31536000"
        await send(message)

    return sending

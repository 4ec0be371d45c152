"""The server's application: routes, the guard before them, and errors in one line that tell nothing of the machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from partalign import __version__
from partalign.errors import ExplanationError, GalleryError, PictureError
from partalign.search import PictureSearch
from partalign.web import api, pages
from partalign.web.access import Access
from partalign.web.guard import Guard, refuse
from partalign.web.limits import BusyError, Limits
from partalign.web.queries import UnknownQueryError
from partalign.web.service import Service, UnknownRecordError

Handler = Callable[[Request, Any], Response]

_log = logging.getLogger("partalign.web")


def make_app(search: PictureSearch, access: Access | None = None, limits: Limits | None = None) -> FastAPI:
    """Make the application over an open gallery.

    access: by default everybody is admin, and the server answers to names of this machine only. The API's description
    is at /openapi.json.
    """
    access, limits = access or Access(), limits or Limits()
    app = FastAPI(
        title="partalign",
        version=__version__,
        summary="Search a gallery of persons by picture, and see why two pictures match.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service, app.state.access = Service(search, limits), access
    app.add_middleware(Guard, access=access, limits=limits)
    app.include_router(api.router, dependencies=[] if access.open else [api.BEARER])
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=pages.FOLDER / "static"))
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


def _refused(_: Request, error: Any) -> Response:
    return refuse(error.status_code, str(error.detail), dict(error.headers or {}))


def _invalid(_: Request, error: Any) -> Response:
    """Say what is wrong where, without what was sent: it may be large, or no text at all."""
    found = [f"{'.'.join(str(part) for part in e['loc'][1:])}: {e['msg']}".strip(": ") for e in error.errors()[:5]]
    return refuse(422, "; ".join(found)[:1000].encode("ascii", "backslashreplace").decode())


def _gallery(request: Request, error: Exception) -> Response:
    """A gallery's errors name folders and servers: they are for the log."""
    _log.error("%s %s: %s", request.method, request.url.path, error)
    return refuse(409, "the gallery refused this; its administrator finds the reason in the server's output")


def _answer(status: int, detail: str | None = None, headers: dict[str, str] | None = None) -> Handler:
    """Make a handler that answers with a status and a line, by default the error's own."""
    return lambda _, error: refuse(status, detail or str(error), headers)


_HANDLERS: dict[type[Exception], Handler] = {
    HTTPException: _refused,
    RequestValidationError: _invalid,
    PictureError: _answer(400),
    UnknownRecordError: _answer(404, "no such record"),
    UnknownQueryError: _answer(404, "no such query; pictures are forgotten after a while: send them again"),
    BusyError: _answer(503, "the network is busy; try again in a moment", {"Retry-After": "2"}),
    ExplanationError: _answer(409),
    GalleryError: _gallery,
    Exception: _answer(500, "something went wrong; its administrator finds the reason in the server's output"),
}

"""The page, and the sign-in before it where tokens are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.templating import Jinja2Templates

from partalign import __version__
from partalign.gallery.records import FIRST_DATE, REJECTED
from partalign.web.access import SESSION_SECONDS, Access, Client, Role
from partalign.web.guard import COOKIE, SIGN_IN, session_key
from partalign.web.service import Service

FOLDER = Path(__file__).parent

_templates = Jinja2Templates(FOLDER / "templates")

router = APIRouter(include_in_schema=False)


@router.get("/")
def page(request: Request) -> Response:
    """The page, with the filters that this gallery has values for."""
    service: Service = request.app.state.service
    client: Client = request.state.client
    found = service.gallery.info()
    content = {
        "info": found,
        "name": _title(found.url),
        "cameras": service.gallery.values("camera"),
        "tags": {name: n for name, n in service.gallery.values("tags").items() if not name.startswith(REJECTED)},
        "dated": found.last is not None and found.last >= FIRST_DATE,
        "may_edit": client.role >= Role.edit,
        "may_admin": client.role >= Role.admin,
        "open": _access(request).open,
        "limits": service.limits,
        "calibrated": service.search.calibration is not None,
        "version": __version__,
    }
    return _templates.TemplateResponse(request, "page.html", content)


@router.get("/favicon.ico")
def icon() -> FileResponse:
    """The icon, for browsers that ask for it unasked."""
    return FileResponse(FOLDER / "static/icon.svg", media_type="image/svg+xml")


@router.get(SIGN_IN)
def sign_in_page(request: Request) -> Response:
    """A form for the token."""
    return _templates.TemplateResponse(request, "sign-in.html", {"wrong": False})


@router.post(SIGN_IN)
def sign_in(request: Request, token: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Turn a token into a session, whose key no script can read and no other site's page sends along."""
    client = _access(request).check(token.strip())
    if client is None:
        return _templates.TemplateResponse(request, "sign-in.html", {"wrong": True}, status_code=401)
    answer = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, _access(request).sign_in(client), SESSION_SECONDS, httponly=True, samesite="strict", secure=secure
    )
    return answer


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session."""
    if (key := session_key(request.headers)) is not None:
        _access(request).sign_out(key)
    answer = RedirectResponse(SIGN_IN, 303)
    answer.delete_cookie(COOKIE)
    return answer


def _access(request: Request) -> Access:
    return request.app.state.access


def _title(url: str) -> str:
    """Return a gallery's name without its folder, its server or who signs in there."""
    if "://" in url:
        return url.rpartition("gallery=")[2].partition("&")[0] if "gallery=" in url else "main"
    return Path(url).resolve().name

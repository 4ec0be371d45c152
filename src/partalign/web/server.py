"""From a gallery to a process that listens."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partalign.errors import AccessError, MissingExtraError
from partalign.progress import say
from partalign.web.access import LOOPBACK, Access, read_tokens
from partalign.web.limits import Limits

if TYPE_CHECKING:
    from partalign.engines import EngineName


@dataclass(frozen=True)
class Address:
    """Where a server listens. names: further ones that it is reached by; certificate and key: for TLS, both or none."""

    host: str = "127.0.0.1"
    port: int = 8765
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def run(
    gallery: str,
    model: Path | None,
    address: Address,
    tokens: Path | None,
    *,
    device: str = "cpu",
    engine: EngineName = "auto",
    **limits: Any,
) -> None:
    """Serve a gallery until the process is stopped; limits: some of `Limits`.

    Raises AccessError where the server would stand open, MissingExtraError, GalleryError, WeightsError.
    """
    access = open_doors(address, tokens)
    with listen(address) as listening:
        _serve(gallery, model, address, access, listening, replace(Limits(), **limits), device=device, engine=engine)


def _serve(
    gallery: str,
    model: Path | None,
    address: Address,
    access: Access,
    listening: socket.socket,
    limits: Limits,
    **how: Any,
) -> None:
    try:
        import uvicorn

        from partalign.search import PictureSearch
        from partalign.web.app import make_app
    except ImportError as error:
        raise MissingExtraError(f'the page needs {error.name}: pip install "partalign[web]"') from None
    with PictureSearch.open(gallery, model, **how) as search:
        search.gallery.log("serve", address=address.host)  # a gallery that cannot keep a log is not served
        app = make_app(search, access, limits)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=256,
            timeout_graceful_shutdown=5,
            ssl_certfile=address.certificate,
            ssl_keyfile=address.key,
        )
        _load(config, address)
        for line in greeting(address, access, listening.getsockname()[1]):
            say(line)
        with suppress(KeyboardInterrupt):  # the usual way to end a server
            uvicorn.Server(config).run([listening])


def open_doors(address: Address, tokens: Path | None) -> Access:
    """Return who may come in. Raises AccessError where an address that others reach has no tokens."""
    if (address.certificate is None) != (address.key is None):
        raise AccessError("expected both a certificate and its key for TLS, found one: give --certificate and --key")
    if tokens is None and not address.is_loopback:
        raise AccessError(
            f"{address.host}: expected tokens, for others can reach this address: make one with `partalign token "
            "search --file tokens.txt`, and give --tokens tokens.txt"
        )
    host = f"[{address.host}]" if ":" in address.host else address.host
    named = (*LOOPBACK, host, *address.names)
    # Who has to show a token gains nothing by another name for the server, unless names were given.
    hosts = named if address.is_loopback or address.names else None
    return Access(() if tokens is None else read_tokens(tokens), hosts=hosts)


def listen(address: Address) -> socket.socket:
    """Return a socket that listens there. Raises AccessError where it is taken or not this machine's."""
    if not 0 <= address.port <= 65535:  # the system would take it modulo 65,536
        raise AccessError(f"expected a port from 0 (any) to 65535, found {address.port}; choose another --port")
    try:
        kind, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(kind, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(address, error) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen()
    except OSError as error:
        listening.close()
        raise _cannot_listen(address, error) from None
    return listening


def greeting(address: Address, access: Access, port: int) -> list[str]:
    """Say where the page is and who may use it."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [f"{'http' if address.certificate is None else 'https'}://{host}:{port}  (Ctrl-C ends)"]
    if access.open:
        lines.append("Without tokens: whoever has an account on this machine may search, change and remove.")
    elif address.certificate is None and not address.is_loopback:
        lines.append(
            "Without TLS tokens and pictures can be read on the way: give --certificate and --key, or listen on "
            "127.0.0.1 behind a proxy that ends TLS, with --name NAME."
        )
    return lines


def _cannot_listen(address: Address, error: OSError) -> AccessError:
    found = f"cannot listen on {address.host} port {address.port} ({error.strerror})"
    return AccessError(f"{found}; choose another --host or --port")


def _load(config: Any, address: Address) -> None:
    try:
        config.load()
    except OSError as error:  # SSLError is one
        raise AccessError(
            f"{address.certificate}: expected a certificate and its key (.pem), cannot use them ({error})"
        ) from None

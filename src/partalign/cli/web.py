"""partalign serve, partalign token."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts.types import PositiveFloat, PositiveInt

from partalign.cli.engine import Engine


def serve(
    gallery: str,
    *,
    model: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    name: tuple[str, ...] = (),
    tokens: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    rate: PositiveFloat = 50.0,
    waiting: PositiveInt = 16,
    device: str = "cpu",
    engine: Engine = "auto",
) -> None:
    """Show a gallery as a page to search it by picture, with an HTTP API.

    Without --tokens only this machine can reach it, and whoever has an account on it may do everything. On any other
    address tokens are required. Passwords and pictures are safe on the way only with TLS: give --certificate and --key,
    or let a proxy that ends TLS pass requests on to this address (with --name, the name by which it is reached).

    Example: partalign serve people.gallery --tokens tokens.txt --host 0.0.0.0 --certificate c.pem --key k.pem

    Args:
        gallery: its folder, or postgresql://USER@HOST/DATABASE?gallery=NAME
        model: the model that made its descriptors, by default the shipped one
        host: the address to listen on
        port: the port to listen on; 0 for any that is free
        name: a further name that the server is reached by
        tokens: a file of tokens, made by `partalign token`
        certificate: a TLS certificate, with those above it (.pem)
        key: its private key (.pem)
        rate: requests that one client may make in a second
        waiting: requests that may wait for the network
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.web.server import Address, run

    address, limits = Address(host, port, name, certificate, key), {"rate": rate, "waiting": waiting}
    run(gallery, model, address, tokens, device=device, engine=engine, **limits)


def token(role: Literal["search", "edit", "admin"], *, file: Path, name: str | None = None) -> None:
    """Make a token for `partalign serve` and show it, once; the file keeps only its hash.

    Example: partalign token search --file tokens.txt --name reception

    Args:
        role: search (look and explain), edit (also confirm and reject), admin (also remove, and read the log)
        file: where hashes are kept; delete a line to take a token back
        name: by which the log of the gallery knows the token, by default the role
    """
    from partalign.web.access import Role, new_token

    print(new_token(file, Role[role], name or role))

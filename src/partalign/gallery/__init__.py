"""Galleries: descriptors of crops with their records, on one disk or on a server, searched by similarity."""

from __future__ import annotations

from pathlib import Path

from partalign.errors import GalleryError
from partalign.gallery.base import Gallery
from partalign.gallery.records import Added, Filter, Info, LogEntry, Match, ModelName, Record, record_id

__all__ = [
    "Added",
    "Filter",
    "Gallery",
    "Info",
    "LogEntry",
    "Match",
    "ModelName",
    "Record",
    "open_gallery",
    "record_id",
]

SERVER = ("postgresql://", "postgres://")


def open_gallery(
    url: str | Path, *, model: ModelName | None = None, create: bool = False, read_only: bool = False
) -> Gallery:
    """Open a gallery: a folder, or `postgresql://USER@HOST/DATABASE?gallery=NAME` (NAME: "main" by default).

    model: which network's descriptors will be added or searched by; refused where the gallery holds another's. Without
    it records can be listed, changed and removed, and searched by one another. create: make the gallery where there is
    none, for which the model is needed. read_only: refuse changes. Raises GalleryError, and MissingExtraError for a
    server without psycopg.
    """
    if str(url).startswith(SERVER):
        from partalign.gallery.server import ServerGallery

        return ServerGallery(str(url), model=model, create=create, read_only=read_only)
    if "://" in str(url):  # a misspelt address would be made as a folder, with the password in its name
        raise GalleryError(
            f"expected a folder or postgresql://USER@HOST/DATABASE, found {str(url).split(':')[0]}://..."
        )
    from partalign.gallery.embedded import EmbeddedGallery

    return EmbeddedGallery(Path(url), model=model, create=create, read_only=read_only)

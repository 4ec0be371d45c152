"""Who is who in a gallery without names: groups of alike crops get names, which people then correct."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from partalign.errors import GalleryError
from partalign.gallery.base import EVERYTHING, Gallery
from partalign.gallery.clustering import cluster
from partalign.gallery.records import Filter, Record

_AUTOMATIC = re.compile(r"person-([0-9]+)")


@dataclass(frozen=True)
class Named:
    """What `name_people` found: persons, records that have got a name, and records that were looked at."""

    persons: int
    named: int
    records: int


def name_people(
    gallery: Gallery,
    where: Filter = EVERYTHING,
    similarity: float = 0.6,
    *,
    least: int = 2,
    again: bool = False,
    dry: bool = False,
    who: str | None = None,
) -> Named:
    """Give records without a person names, person-1, person-2 ..., one for each group of alike crops; all or none.

    similarity: as for `cluster`. A tracklet is one person, and counts by the mean of its crops. least: crops of a
    group; smaller ones get no name. again: also records with a name of this kind, which may lose it. dry: change
    nothing. Raises GalleryError, MissingExtraError.
    """
    records = [
        record
        for page in gallery.pages(where)
        for record in page
        if record.person is None or (again and _AUTOMATIC.fullmatch(record.person))
    ]
    if not records:
        return Named(0, 0, 0)
    tracklet_of, vectors = _tracklets(gallery, records)
    group_of = cluster(vectors, similarity)[tracklet_of]
    large = [group for group, size in enumerate(np.bincount(group_of)) if size >= least]
    kept = [name for name in gallery.values("person") if not again or not _AUTOMATIC.fullmatch(name)]
    number_of = dict(zip(large, range(_next(kept), _next(kept) + len(large)), strict=True))
    numbers = [number_of.get(group) for group in group_of.tolist()]
    persons = {r.id: n if n is None else f"person-{n}" for r, n in zip(records, numbers, strict=True)}
    if not dry:
        gallery.name(persons, who=who)
    return Named(len(large), sum(n is not None for n in numbers), len(records))


def merge(gallery: Gallery, person: str, others: Iterable[str], *, who: str | None = None) -> int:
    """Give all records of `others` to `person`; returns how many. Raises GalleryError where a name is unknown."""
    others = tuple(others)
    known = gallery.values("person")
    if unknown := [name for name in others if name not in known]:
        raise GalleryError(f"{gallery.url}: expected names of persons to merge, no record has {unknown[0]!r:.80}")
    if not others:
        raise GalleryError(f"{gallery.url}: expected names of persons to merge with {person!r:.80}, found none")
    return gallery.update(Filter(persons=others), person=person, who=who, action="merge")


def split(gallery: Gallery, ids: Sequence[str], person: str | None = None, *, who: str | None = None) -> str:
    """Give records to a person, by default to a new one; returns the name. Raises GalleryError for an unknown id."""
    found = {record.id for record in gallery.records(Filter(ids=tuple(ids)))}
    if not ids or len(found) < len(set(ids)):
        told = next((repr(name)[:80] for name in ids if name not in found), "none")
        raise GalleryError(f"{gallery.url}: expected ids of the gallery, found {told}")
    name = person or f"person-{_next(gallery.values('person'))}"
    gallery.update(Filter(ids=tuple(sorted(found))), person=name, who=who, action="split")
    return name


def _tracklets(gallery: Gallery, records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each record (N,) its tracklet's row, and the tracklets' mean descriptors (T, D) of unit length."""
    rows: dict[tuple[str | None, ...], int] = {}
    of = np.empty(len(records), np.intp)
    for i, record in enumerate(records):
        key = (record.id,) if record.tracklet is None else (record.camera, record.tracklet)
        of[i] = rows.setdefault(key, len(rows))
    sums = np.zeros((len(rows), gallery.model.dimension), np.float32)
    for first in range(0, len(records), 1000):
        part = slice(first, first + 1000)
        np.add.at(sums, of[part], gallery.vectors([record.id for record in records[part]]))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return of, sums / np.maximum(lengths, 1e-12)


def _next(names: Iterable[str]) -> int:
    numbers = [int(found[1]) for name in names if (found := _AUTOMATIC.fullmatch(name))]
    return max(numbers, default=0) + 1

"""Searching a gallery, as far as all stores share it: by what, with which conditions, shown how, and logged.

A store ranks descriptors; a network, a calibration and re-ranking are not known here: who searches hands in the last
two as functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from partalign.errors import GalleryError
from partalign.gallery.matching import Hits, Options, Ranked, best_of_any, grouped, matches, reordered
from partalign.gallery.records import Filter, Match, ModelName, Record

EVERYTHING = Filter()


class Searching(ABC):
    """The part of `Gallery` that searches."""

    url: str
    model: ModelName
    read_only: bool
    _given: ModelName | None

    @abstractmethod
    def records(
        self, where: Filter = EVERYTHING, *, limit: int | None = None, offset: int = 0, latest: bool = False
    ) -> list[Record]:
        """Return records that pass, in the order of their ids. latest: the latest first, those of no time last."""

    @abstractmethod
    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the descriptors (N, D) of these records, in this order. An unknown id is an error."""

    @abstractmethod
    def log(self, action: str, *, who: str | None = None, **details: Any) -> None:
        """Write a line (details: JSON values) to the log of who did what. Only `compact` with `log_before` drops lines.

        Our own lines say what was searched by and with which conditions, or what was changed to what and how many
        records; of a picture only that it was one.
        """

    @abstractmethod
    def _rank(self, queries: np.ndarray, where: Filter, count: int, exact: bool) -> list[Hits]:
        """Return for each query (Q, D) of unit length the best `count` records that pass."""

    def search(
        self, vectors: np.ndarray, where: Filter = EVERYTHING, *, who: str | None = None, **options: Any
    ) -> list[Match]:
        """Return what looks most like one person, best first.

        vectors: (D,) or (Q, D), descriptors of one or several pictures of that person. options: the fields of
        `matching.Options`: limit=20, offset=0, combine="mean", group=False, rerank, rerank_top=100, probability,
        exact=True, peek=False.
        """
        self._require_model()
        queries = self._unit(np.atleast_2d(np.asarray(vectors)))
        if not len(queries):
            raise GalleryError(f"{self.url}: expected a descriptor to search by, found none")
        return self._search(queries, where, Options(**options), who, pictures=len(queries))

    def search_many(
        self,
        vectors: np.ndarray,
        where: Filter = EVERYTHING,
        *,
        limit: int = 20,
        exact: bool = True,
        who: str | None = None,
    ) -> list[list[Match]]:
        """Search by many pictures (Q, D), each on its own, in one pass over the gallery."""
        self._require_model()
        self._require_index(exact)
        options = Options(limit=limit, exact=exact)
        found = self._rank(self._unit(np.asarray(vectors)), where, limit, exact)
        self.log_reading("search", who, where, pictures=len(vectors), each=True)
        return [matches(best_of_any([hits], limit), options) for hits in found]

    def search_like(
        self,
        ids: Sequence[str],
        where: Filter = EVERYTHING,
        *,
        other_cameras: bool = False,
        who: str | None = None,
        **options: Any,
    ) -> list[Match]:
        """Search by records of the gallery, which are not among the results; options as of `search`.

        other_cameras: leave out the cameras that these records are of.
        """
        found = {record.id: record for record in self.records(Filter(ids=tuple(ids)))}
        if not ids or len(found) < len(set(ids)):
            raise GalleryError(f"{self.url}: expected ids of the gallery to search by, {_lacking(ids, found)}")
        return self._search_like(list(found.values()), where, other_cameras, options, who, like=list(found))

    def search_tracklet(
        self,
        tracklet: str,
        where: Filter = EVERYTHING,
        *,
        camera: str | None = None,
        other_cameras: bool = False,
        who: str | None = None,
        **options: Any,
    ) -> list[Match]:
        """Search by all crops of a tracklet (of one camera, where several have one of that name); as `search_like`."""
        of = Filter(tracklets=(tracklet,), cameras=None if camera is None else (camera,))
        found = self.records(of)
        if not found:
            raise GalleryError(f"{self.url}: expected the name of a tracklet, no record has {tracklet!r:.80}")
        return self._search_like(found, where, other_cameras, options, who, tracklet=tracklet, camera=camera)

    def recall(self, queries: int = 100, count: int = 10) -> float:
        """Return the share of the exact best `count` records that an approximate search finds.

        Measured with so many records of the gallery as queries, drawn by lot with a fixed seed, without themselves.
        """
        every = [record.id for page in self.pages() for record in page]
        drawn = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:queries]]
        if len(every) < 2:
            return 1.0
        vectors = self.vectors(drawn)
        best, found = (self._rank(vectors, EVERYTHING, count + 1, exact) for exact in (True, False))
        shares = []
        for name, *both in zip(drawn, best, found, strict=True):
            wanted, seen = ([record.id for record in part if record.id != name][:count] for part, _ in both)
            shares.append(len(set(wanted) & set(seen)) / len(wanted))
        return float(np.mean(shares))

    def log_reading(self, action: str, who: str | None, where: Filter = EVERYTHING, **details: Any) -> None:
        """Log what changes nothing: where it is said who reads, and the gallery can be written."""
        if who is not None and not self.read_only:
            conditions = {"where": where.as_dict()} if where != EVERYTHING else {}
            said = {name: value for name, value in details.items() if value is not None and value is not False}
            self.log(action, who=who, **said, **conditions)

    def get(self, record: str) -> Record | None:
        """Return the record of this id, None where there is none."""
        return next(iter(self.records(Filter(ids=(record,)))), None)

    def pages(self, where: Filter = EVERYTHING, size: int = 1000) -> Iterator[list[Record]]:
        """Yield all records that pass, `size` at a time."""
        while page := self.records(where, limit=size):
            yield page
            where = replace(where, after=page[-1].id)

    def _search_like(
        self,
        found: Sequence[Record],
        where: Filter,
        other_cameras: bool,
        options: Mapping[str, Any],
        who: str | None,
        **subject: Any,
    ) -> list[Match]:
        ids = tuple(record.id for record in found)
        if other_cameras:
            cameras = {record.camera for record in found if record.camera is not None}
            if not cameras:
                raise GalleryError(
                    f"{self.url}: expected records of a known camera to leave out, none of those searched by has one: "
                    "search without other_cameras"
                )
            where = replace(where, not_cameras=(*where.not_cameras, *sorted(cameras)))
        return self._search(self.vectors(ids), where, Options(**options), who, leave=ids, **subject)

    def _search(
        self,
        queries: np.ndarray,
        where: Filter,
        options: Options,
        who: str | None,
        leave: tuple[str, ...] = (),
        **subject: Any,
    ) -> list[Match]:
        """Search, without the records `leave`; subject: what is searched by, for the log."""
        self._require_index(options.exact)
        found = self._matches(queries, replace(where, not_ids=(*where.not_ids, *leave)), options)
        self.log_reading("search", who, where, **subject, results=min(len(found), options.limit))
        return found

    def _matches(self, queries: np.ndarray, where: Filter, options: Options) -> list[Match]:
        if options.combine == "mean" and len(queries) > 1:
            queries = self._unit(queries.mean(axis=0, keepdims=True))
        count = options.depth
        while True:
            ranked = best_of_any(self._rank(queries, where, count, options.exact), count)
            complete = len(ranked) < count
            if options.rerank and ranked:
                rows = self.vectors([record.id for record, _ in ranked[: options.rerank_top]])
                ranked = reordered(ranked, options.rerank(queries, rows))
            if not options.group:
                return matches(ranked, options)
            firsts, more = grouped(ranked)
            if len(firsts) >= options.last or complete:
                return matches(firsts, options, more if complete else self._further(firsts, where, options))
            count *= 4

    def _further(self, firsts: Ranked, where: Filter, options: Options) -> list[int]:
        """Return how many more crops of its tracklet pass than each that is shown: not all were looked through."""
        shown = [record.tracklet for record, _ in firsts[options.offset : options.last] if record.tracklet is not None]
        where = replace(where, tracklets=tuple(shown))
        held = Counter((record.camera, record.tracklet) for record in self.records(where))
        return [max(held[record.camera, record.tracklet] - 1, 0) for record, _ in firsts]

    def _indexed(self) -> bool:
        """Whether there is an approximate index."""
        return False

    def _require_index(self, exact: bool) -> None:
        """Raise GalleryError where a search is to use an approximate index and there is none."""
        if not exact and not self._indexed():
            raise GalleryError(
                f"{self.url}: expected an approximate index to search by, found none: search exactly, or, on a server, "
                "make one with `partalign gallery index`"
            )

    def _require_model(self) -> None:
        """Raise GalleryError unless the gallery was opened with a model."""
        if self._given is None:
            raise GalleryError(
                f"{self.url}: expected to know which model made the descriptors: open it with model=ModelName(...)"
            )

    def _require_known(self, ids: Sequence[str], found: Mapping[str, object]) -> None:
        if unknown := [name for name in ids if name not in found]:
            raise GalleryError(f"{self.url}: expected ids of the gallery, found {unknown[0]!r:.80}")

    def _unit(self, vectors: np.ndarray) -> np.ndarray:
        """Check descriptors (N, D) and return them float32, of unit length."""
        if vectors.ndim != 2 or vectors.shape[1] != self.model.dimension:
            raise GalleryError(
                f"{self.url}: expected descriptors of {self.model.dimension} numbers ({self.model}), found shape "
                f"{vectors.shape}: embed the pictures with the gallery's model"
            )
        if not len(vectors):
            return vectors.astype(np.float32)
        # In float64: a float32 of the largest size has a square that is not finite.
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(bad):
            raise GalleryError(
                f"{self.url}: {len(bad)} of {len(vectors)} descriptors are zero or not finite, the first is row "
                f"{bad[0]}: embed that picture again or leave it out"
            )
        # One that is of unit length already stays bit by bit what it is.
        plain = vectors.astype(np.float32, copy=False)
        other = np.flatnonzero(np.abs(lengths - 1) >= 1e-6)
        if len(other):
            plain = plain.copy()
            plain[other] = vectors[other].astype(np.float64) / lengths[other, None]
        return plain


def _lacking(ids: Sequence[str], found: Mapping[str, Record]) -> str:
    unknown = [name for name in ids if name not in found]
    return f"found none of {len(unknown)}, the first is {unknown[0]!r:.80}" if unknown else "found none"

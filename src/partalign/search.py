"""Search by picture: a gallery, the network that describes pictures for it, and what its similarities mean.

Shared by the command line and the page. Knows neither.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from partalign.crops import Crop
from partalign.embedding import Embedder, OnError
from partalign.engines import EngineName, load_engine
from partalign.errors import GalleryError
from partalign.evaluation.calibration import Calibration
from partalign.gallery import Added, Filter, Gallery, Match, ModelName, Record, open_gallery
from partalign.images import read_picture, resize
from partalign.weights.info import read_info

Picture = str | Path | BinaryIO | Image.Image

EVERYTHING = Filter()
THUMBNAIL = (256, 256)
"""Largest width and height of the small pictures that a gallery keeps."""

SAME = 0.99
"""Cosine of a picture's descriptor and a stored one from which on it is the picture that was added."""

_AT_ONCE = 512
_COARSENESS = 0.1  # seconds by which the times of files may lag behind the clock
_KEPT = ("person", "camera", "time", "tracklet")


@dataclass(frozen=True)
class PictureSearch:
    """A gallery with its network; calibration: of the network's similarities, None where it has none."""

    gallery: Gallery
    embedder: Embedder
    calibration: Calibration | None = None

    @classmethod
    def open(
        cls,
        url: str | Path,
        model: Path | None = None,
        *,
        create: bool = False,
        read_only: bool = False,
        device: str = "cpu",
        engine: EngineName = "auto",
        crops: int | None = None,
        on_error: OnError = "refuse",
    ) -> PictureSearch:
        """Open a gallery with a model file, by default the shipped model. Raises GalleryError, WeightsError.

        engine, crops: what runs the model, and for how many pictures (`load_engine`).
        """
        info, network = read_info(model), load_engine(model, engine, device=device, crops=crops)
        name = ModelName(info.name, info.version, network.channels)
        gallery = open_gallery(url, model=name, create=create, read_only=read_only)
        return cls(gallery, Embedder(network, on_error=on_error), info.calibration)

    def add(self, crops: Sequence[Crop], tags: Sequence[str] = (), *, who: str | None = None) -> Added:
        """Describe crops and add them, some hundreds at a time. Raises PictureError, GalleryError.

        A crop that is there is replaced, but what was said of it in the gallery and is not known of the crop stays:
        person, camera, time, tracklet, and its tags beside the new ones. Not where its file shows something else now.
        One whose file has not been touched since, and of which nothing new is said, is left as it is: an interrupted
        call goes on where it was.
        """
        new = replaced = unchanged = 0
        for start in range(0, len(crops), _AT_ONCE):
            done = f"{start:,} of {len(crops):,} crops done"
            part = crops[start : start + _AT_ONCE]
            rest = self._not_yet(part, tags)
            unchanged += len(part) - len(rest)
            if not rest:
                continue
            found = self.embedder.embed(rest, done)
            records = self._completed([Record.of_crop(crop, tags) for crop in found.crops], found.vectors)
            pictures = [thumbnail(read_picture(crop.path)) for crop in found.crops]
            added = self.gallery.add(records, found.vectors, pictures, who=who)
            new, replaced = new + added.new, replaced + added.replaced
        return Added(new, replaced, unchanged)

    def _not_yet(self, crops: Sequence[Crop], tags: Sequence[str]) -> list[Crop]:
        """Return the crops whose records the gallery has not, has otherwise, or has from before their file changed."""
        records = [Record.of_crop(crop, tags) for crop in crops]
        old = self._held(records)
        return [c for c, r in zip(crops, records, strict=True) if not _settled(c.path, r, old.get(r.id))]

    def _completed(self, records: list[Record], vectors: np.ndarray) -> list[Record]:
        """Return records with what the gallery knows of the same pictures (descriptors (N, D)) beside."""
        old = self._held(records)
        if not old:
            return records
        stored = dict(zip(old, self.gallery.vectors(list(old)), strict=True))
        return [
            _with(record, old[record.id]) if record.id in old and vector @ stored[record.id] >= SAME else record
            for record, vector in zip(records, vectors, strict=True)
        ]

    def _held(self, records: Sequence[Record]) -> dict[str, Record]:
        """Return those of the gallery that have the same ids, by id."""
        wanted = Filter(ids=tuple(record.id for record in records))
        return {record.id: record for record in self.gallery.records(wanted)}

    def picture(self, name: str) -> Image.Image:
        """Return what a record shows: the gallery's small copy, else its file. Raises GalleryError, PictureError."""
        kept = self.gallery.thumbnails([name]).get(name)
        if kept is not None:
            return read_picture(io.BytesIO(kept))
        record = self.gallery.get(name)
        if record is None or record.source is None:
            raise GalleryError(f"{self.gallery.url}: expected a record with a picture, {name!r:.80} has none")
        return read_picture(record.source)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.gallery.close()

    def describe(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Return the descriptors (N, D) of pictures. Raises PictureError."""
        size = self.embedder.input_size
        read = [p if isinstance(p, Image.Image) else read_picture(p) for p in pictures]
        pixels = np.stack([resize(picture.convert("RGB"), size) for picture in read])
        return self.embedder(pixels)

    def by_pictures(self, pictures: Sequence[Picture], where: Filter = EVERYTHING, **options: Any) -> list[Match]:
        """Search by pictures of one person; options as of `Gallery.search`, and `rerank` as a yes or no.

        persons: how many persons a match may be, all as likely before looking, one of them who is searched for; by
        default 2, as likely as not. Refused where there is no calibration to tell a probability by.
        """
        return self.by_vectors(self.describe(pictures), where, **options)

    def by_vectors(self, vectors: np.ndarray, where: Filter = EVERYTHING, **options: Any) -> list[Match]:
        """Search by descriptors (Q, D) of one person."""
        return self.gallery.search(vectors, where, **self._filled(options))

    def by_ids(self, ids: Sequence[str], where: Filter = EVERYTHING, **options: Any) -> list[Match]:
        """Search by records of the gallery; options as of `Gallery.search_like`."""
        return self.gallery.search_like(ids, where, **self._filled(options))

    def by_tracklet(self, tracklet: str, where: Filter = EVERYTHING, **options: Any) -> list[Match]:
        """Search by a tracklet of the gallery; options as of `Gallery.search_tracklet`."""
        return self.gallery.search_tracklet(tracklet, where, **self._filled(options))

    def _filled(self, options: dict[str, Any]) -> dict[str, Any]:
        persons = options.pop("persons", 2)
        if self.calibration is None and persons != 2:
            raise GalleryError("the model has no calibration, and so no probability that `persons` would change")
        probability = None if self.calibration is None else partial(self.calibration.probability, prior=1 / persons)
        rerank = reranked if options.get("rerank") else None
        return {"probability": probability} | options | {"rerank": rerank}


def _with(record: Record, old: Record) -> Record:
    known = {name: getattr(old, name) for name in _KEPT if getattr(record, name) is None}
    return replace(record, tags=(*old.tags, *record.tags), **known)


def _settled(path: Path, record: Record, old: Record | None) -> bool:
    """Whether the gallery's record says all of a crop's, and was made after its file was last touched."""
    if old is None or old.added is None or replace(_with(record, old), added=old.added) != old:
        return False
    status = path.stat()
    return max(status.st_mtime, status.st_ctime) + _COARSENESS < old.added


def reranked(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return k-reciprocal scores (K,) of rows (K, D) for pictures (Q, D) of one person."""
    from partalign.evaluation.reranking import reranked_blocks  # needs scipy, which the rest does not

    return np.concatenate([block for _, block in reranked_blocks(queries, rows)]).mean(axis=0)


def thumbnail(picture: Image.Image) -> bytes:
    """Return a small JPEG of a picture."""
    small = picture.copy()
    small.thumbnail(THUMBNAIL, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()

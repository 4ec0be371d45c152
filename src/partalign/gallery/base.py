"""What every gallery can do, wherever it is stored; how it is searched is in `searching`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from partalign.errors import GalleryError
from partalign.gallery.records import Added, Filter, Info, LogEntry, ModelName, Record
from partalign.gallery.searching import EVERYTHING, Searching


class Gallery(Searching):
    """Descriptors of crops with their records, kept for search. Made by `open_gallery`; close it, or use it in `with`.

    Methods may be called from any thread. What changes the gallery is done, and on the disk, when the method returns;
    if it raises, nothing has changed. All raise GalleryError.

    who: in whose name it is done, for the log, which is kept here and nowhere else: every change writes a line in its
    own transaction, `action` says what it was done for; a search writes one where it is said who searches.
    """

    @abstractmethod
    def add(
        self,
        records: Sequence[Record],
        vectors: np.ndarray,
        thumbnails: Sequence[bytes | None] | None = None,
        *,
        who: str | None = None,
        action: str = "add",
    ) -> Added:
        """Add records with descriptors (N, D) of the gallery's model, and small JPEG pictures; all or none.

        A record whose id is there replaces the old one; its thumbnail stays where none is given. Vectors are scaled to
        unit length. The gallery must have been opened with the model that made them.
        """

    @abstractmethod
    def update(
        self,
        where: Filter,
        *,
        add_tags: Sequence[str] = (),
        drop_tags: Sequence[str] = (),
        who: str | None = None,
        action: str = "change",
        **changes: Any,
    ) -> int:
        """Set fields (of `records.CHANGEABLE`) of all records that pass; returns how many passed.

        add_tags, drop_tags: tags that each of them gets beside its own, and loses.
        """

    @abstractmethod
    def name(self, persons: Mapping[str, str | None], *, who: str | None = None, action: str = "cluster") -> None:
        """Set the person (or none) of each of these ids, all or none; ids that are not there are passed over."""

    @abstractmethod
    def remove(self, where: Filter, *, who: str | None = None) -> int:
        """Remove all records that pass, with descriptors and thumbnails; returns how many."""

    @abstractmethod
    def count(self, where: Filter = EVERYTHING) -> int:
        """Return how many records pass."""

    @abstractmethod
    def thumbnails(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the thumbnails, JPEG, of those of these records that have one."""

    @abstractmethod
    def values(self, name: Literal["person", "camera", "tracklet", "source", "tags"]) -> dict[str, int]:
        """Return the values of a field with how many records have each, sorted by value."""

    @abstractmethod
    def info(self) -> Info:
        """Return the gallery in figures."""

    @abstractmethod
    def entries(self, limit: int = 100) -> list[LogEntry]:
        """Return the newest lines of the log, newest first."""

    @abstractmethod
    def verify(self) -> list[str]:
        """Read everything; returns what is damaged, a line each, empty where all is well."""

    @abstractmethod
    def compact(self, *, log_before: float | None = None, who: str | None = None) -> int:
        """Give back the space of what was removed; returns how many bytes.

        log_before: also drop the lines of the log from before this date (seconds since 1970), and say so in the log.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and connections."""

    @abstractmethod
    def _forget(self, where: Filter, person: str | None, action: str, who: str | None) -> int:
        """Remove all records that pass and `forgetting.erase` them, in one transaction; returns how many."""

    def build_index(self, queries: int = 100, count: int = 10) -> float:  # noqa: ARG002 - for those that have one
        """Build an approximate index, used where a search says `exact=False`; returns its `recall`."""
        raise GalleryError(f"{self.url}: searches exactly and needs no index; a gallery on a server can have one")

    def drop_index(self) -> None:
        """Remove the approximate index."""

    def forget(self, *, person: str | None = None, before: float | None = None, who: str | None = None) -> int:
        """Remove everything of a person, or everything older than a date (seconds since 1970); returns how many.

        Nothing of it can be read from the store's files afterwards. A record's age is that of its `time` where this is
        a date, else of when it was added. What names the records is also taken out of the tags of others (`not:NAME`)
        and of the log, where a mark stands in its place: their ids, and names of persons, tracklets and sources that no
        record has any more. The log says that it was done and how many, not who was forgotten.
        """
        if (person is None) == (before is None):
            raise GalleryError("expected either a person or an age to forget: give one of them")
        if person is not None:
            return self._forget(Filter(persons=(person,)), person, "forget a person", who)
        return self._forget(Filter(older_than=before), None, "forget by age", who)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_model(self, model: ModelName | None) -> None:
        if model is not None and model != self.model:
            raise GalleryError(
                f"{self.url}: expected descriptors of {self.model}, found {model}: descriptors of different models "
                "cannot be compared; use that model, or embed the pictures again into a new gallery"
            )

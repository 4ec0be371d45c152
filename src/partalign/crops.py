"""Records: one crop of one person, a split of a data set, and descriptors with the crops they belong to.

Persons and cameras are text, as the data set writes them ("0002", "lobby"); nothing here reads pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from partalign.errors import EvaluationError, PartAlignError, ShapeError
from partalign.files import atomic_file, check_ending, read_npz, read_parquet, write_parquet

EMBEDDINGS_ENDINGS = (".npz", ".parquet")
"""What the names of files of descriptors end in."""

JUNK = "-1"
"""Person of a gallery crop that is ignored in scoring (Market-1501's bad detections)."""

DISTRACTOR = "0000"
"""Person of a gallery crop that belongs to nobody in the query set; scored as an ordinary non-match."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One picture of one person: where it lies, and what is known of it (None where unknown).

    box: (left, top, width, height) in pixels of the source frame. time: seconds, or the frame number where the
    data set gives only that.
    """

    path: Path
    person: str | None = None
    camera: str | None = None
    tracklet: str | None = None
    time: float | None = None
    box: tuple[float, float, float, float] | None = None

    @property
    def key(self) -> str:
        """`folder/name` of the file: what identifies a crop in saved embeddings, wherever the data set lies."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Split:
    """The training, query and gallery crops of one data set, and by which rules it is scored.

    notes: what differs from the official release. pool: crops that multi-query scoring averages, those of a query's
    person and camera into one descriptor. protocol: a name in `evaluation.protocols`. test_sets: the persons of each
    test set where a data set is tested on several in turn; empty where query and gallery are one test set.
    """

    name: str
    train: tuple[Crop, ...] = ()
    query: tuple[Crop, ...] = ()
    gallery: tuple[Crop, ...] = ()
    notes: tuple[str, ...] = ()
    pool: tuple[Crop, ...] = ()
    protocol: str = "market1501"
    test_sets: tuple[frozenset[str], ...] = ()

    def with_training(self, *others: Split) -> Split:
        """Return this split with the training crops of `others` added; their persons and cameras are told apart."""
        added = (
            replace(crop, person=f"{number}:{crop.person}", camera=crop.camera and f"{number}:{crop.camera}")
            for number, other in enumerate(others, start=1)
            for crop in other.train
        )
        return replace(self, train=(*self.train, *added))


@dataclass(frozen=True)
class Embeddings:
    """Descriptors and the crops they were made from, row by row.

    vectors: (N, D) float32, unit length. Raises ShapeError where the numbers of rows differ, EvaluationError
    where a vector is not finite or has length zero.
    """

    vectors: np.ndarray
    crops: tuple[Crop, ...] = field(repr=False)

    def __post_init__(self):
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.crops):
            raise ShapeError(
                f"expected one row of `vectors` for each of {len(self.crops)} crops, found shape {self.vectors.shape}"
            )
        # linalg.norm would hold a second copy of the vectors.
        norms = np.sqrt(np.einsum("nd,nd->n", self.vectors, self.vectors))
        bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
        if len(bad):
            raise EvaluationError(
                f"{len(bad)} of {len(norms)} descriptors are not finite or zero, the first is of "
                f"{self.crops[bad[0]].path}: embed that crop again or leave it out"
            )

    def __len__(self) -> int:
        return len(self.crops)

    def select(self, rows: Sequence[int] | np.ndarray) -> Embeddings:
        """Return the given rows, in the given order."""
        return Embeddings(self.vectors[np.asarray(rows, dtype=np.intp)], tuple(self.crops[int(i)] for i in rows))

    def save(self, path: Path) -> None:
        """Write to a .npz file or to a Parquet table, as the name says (`EMBEDDINGS_ENDINGS`), atomically.

        Raises SaveError, and MissingExtraError for Parquet without pyarrow.
        """
        path = check_ending(path, *EMBEDDINGS_ENDINGS)
        records = {name: [getattr(crop, name) for crop in self.crops] for name in _COLUMNS}
        records["path"] = [str(path) for path in records["path"]]
        vectors = self.vectors.astype(np.float32, copy=False)
        if path.suffix.lower() == ".parquet":
            write_parquet(path, vectors, records | {"time": np.array(records["time"], dtype=np.float64)})
            return
        texts = {name: np.array(["" if v is None else str(v) for v in values]) for name, values in records.items()}
        with atomic_file(path) as file:
            np.savez(file, vectors=vectors, **texts)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Embeddings:
        """Read what `save` wrote. Raises EvaluationError where the file is missing, damaged or of another kind."""
        try:
            vectors, records = _read_parquet(path) if _is_parquet(path) else _read_npz(path)
            crops = tuple(
                Crop(Path(_text(p)), _text(person) or None, _text(camera) or None, _text(tracklet) or None, _time(time))
                for p, person, camera, tracklet, time in zip(*records, strict=True)
            )
        except PartAlignError:
            raise
        except Exception as error:  # zip, NumPy and pyarrow raise a dozen kinds on damaged files
            told = " ".join(str(error).split())[:300]
            raise EvaluationError(
                f"{path}: expected embeddings written by `partalign embed` (.npz, .parquet), cannot read them: {told}"
            ) from None
        return cls(vectors, crops)


_COLUMNS = ("path", "person", "camera", "tracklet", "time")


def _is_parquet(path: Path) -> bool:
    with Path(path).open("rb") as file:
        return file.read(4) == b"PAR1"


def _read_npz(path: Path) -> tuple[np.ndarray, list[list]]:
    arrays = read_npz(path, ("vectors", *_COLUMNS))
    return arrays["vectors"].astype(np.float32, copy=False), [arrays[name].tolist() for name in _COLUMNS]


def _read_parquet(path: Path) -> tuple[np.ndarray, list[list]]:
    vectors, cells = read_parquet(path, _COLUMNS)
    empty = [None] * len(vectors)
    return vectors, [cells["path"], *(cells.get(name, empty) for name in _COLUMNS[1:])]


def _text(value: object) -> str:
    if not isinstance(value, str | int | None) or isinstance(value, bool):
        raise ValueError(f"expected text, found {value!r:.80}")
    return "" if value is None else str(value)


def _time(value: str | float | None) -> float | None:
    return None if value is None or value == "" else float(value)

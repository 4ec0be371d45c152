"""Descriptors from a file, our own or another system's.

* Our own, .npz or Parquet, as `Embeddings.save` writes them: crops to be matched with a data set's query and gallery.
* .mat (version 5 to 7.3) or .npz with `query_f`, `query_label`, `query_cam`, `gallery_f`, `gallery_label` and
  `gallery_cam`, and for multi-query `mquery_f`, `mquery_label` and `mquery_cam`, in the same file or in
  `multi_query.mat` beside it: as a widely used PyTorch baseline writes `pytorch_result.mat`. `..._f` is (N, D).
* Parquet, one row per crop: a list of numbers `vector` (or `embedding`), `path` and, as far as known, `person`,
  `camera`, `tracklet` and `time`; where there is a column `part`, of query, gallery and pool, the file is divided so.

Descriptors of others may have any length and are divided by it, unless all have length 1 already. In a divided file a
person or camera that is a whole number, of any type, is written as Market-1501 writes it: 7, 7.0, "7" and b"0007" are
person "0007" and camera "c7"; -1 is junk and 0 a distractor. What a file is, is told by its content, not its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from partalign.crops import Crop, Embeddings
from partalign.errors import EvaluationError, PartAlignError
from partalign.evaluation.evaluate import Descriptors
from partalign.files import read_npz, read_parquet
from partalign.matlab import VERSION_5, VERSION_73, kind_of_file, read_variables

MULTI_QUERY_FILE = "multi_query.mat"

_PREFIXES = {"query": "query", "gallery": "gallery", "pool": "mquery"}
_KEYS = tuple(f"{prefix}_{what}" for prefix in _PREFIXES.values() for what in ("f", "label", "cam"))
_COLUMNS = ("path", "person", "camera", "tracklet", "time")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(?:\.0*)?")
_CAMERA = re.compile(r"[cC]([0-9]{1,18})")
_UNIT = 1e-5  # how far from 1 the length of a unit vector may be, in float32


def load_features(path: Path, *, multi_query: bool = False) -> Embeddings | Descriptors:
    """Read descriptors; returns `Descriptors` from a file that says what is query and what gallery, else `Embeddings`.

    `Descriptors` can be scored as they are; `Embeddings` are for `evaluate.match_saved`. multi_query: read the pool of
    a divided file too. Raises EvaluationError, one line with the file's name, where it is missing, damaged, of another
    kind, lacks a part, has rows without descriptor or label, or descriptors that are not finite or zero;
    MissingExtraError where h5py or pyarrow is needed and not installed.
    """
    path = Path(path)
    with _reading(path):
        kind = _kind(path)
        if kind == "parquet":
            return _from_parquet(path, multi_query)
        variables = _variables(path, kind)
        if variables.pop("vectors", None) is not None:  # dropped: they are read again, with their records
            return Embeddings.load(path)
        parts = [_part(path, variables, "query"), _part(path, variables, "gallery")]
        if multi_query and "mquery_f" in variables:
            parts.append(_part(path, variables, "pool"))
        elif multi_query:
            parts.append(_pool_beside(path))
        return _descriptors(*parts)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong in reading `path` into one line that names it."""
    try:
        yield
    except PartAlignError as error:
        if path.name in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # zip, zlib, NumPy, h5py and pyarrow raise a dozen kinds on damaged files
        reason = getattr(error, "strerror", None) or error  # of an OSError, without the name once more
        told = " ".join(str(reason).split())[:300] or type(error).__name__
        raise EvaluationError(f"{path}: cannot be read as descriptors: {told}") from None


def _kind(path: Path) -> str:
    """Return "npz", "parquet" or "mat", told by the first bytes of the file."""
    if path.is_dir():
        raise ValueError("expected a file, or a folder made by `partalign embed-many`, found another folder")
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"PK"):
        return "npz"
    if head == b"PAR1":
        return "parquet"
    if (found := kind_of_file(path)) in (VERSION_5, VERSION_73):
        return "mat"
    raise ValueError(f"expected a file of .npz, .mat (version 5 to 7.3) or Parquet, found {found}")


def _variables(path: Path, kind: str) -> dict[str, np.ndarray]:
    return read_npz(path, ("vectors", *_KEYS)) if kind == "npz" else read_variables(path, _KEYS, missing_ok=True)


def _pool_beside(path: Path) -> Embeddings:
    """Read the multi-query pool from the file beside `path`."""
    beside = path.with_name(MULTI_QUERY_FILE)
    if not beside.is_file():
        raise ValueError(f"expected mquery_f for multi-query, found it neither there nor in {beside.name} beside it")
    with _reading(beside):
        return _part(beside, _variables(beside, _kind(beside)), "pool")


def _part(path: Path, variables: dict[str, np.ndarray], part: str) -> Embeddings:
    """Put one part of a divided .mat or .npz file together."""
    names = [f"{_PREFIXES[part]}_{what}" for what in ("f", "label", "cam")]
    missing = [name for name in names[:2] if name not in variables]
    if missing:
        found = ", ".join(name for name in _KEYS if name in variables) or "none that is known"
        raise ValueError(f"expected {' and '.join(missing)}, found {found}; save them too")
    vectors = variables.pop(names[0])
    if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
        found = vectors.shape if vectors.dtype.kind in "fiu" else "text, cells or truth values"
        raise ValueError(f"expected {names[0]} to have a row of numbers for each crop, found {found}")
    empty = np.full(len(vectors), None)
    persons, cameras = (variables.get(name, empty).ravel().tolist() for name in names[1:])
    for name, values in zip(names[1:], (persons, cameras), strict=True):
        if len(values) != len(vectors):
            raise ValueError(
                f"expected an entry of {name} for each of the {len(vectors):,} rows of {names[0]} {vectors.shape}, "
                f"found {len(values):,}"
            )
    cells = {"person": persons, "camera": cameras, "path": [f"{path.name}/{names[0]}/{i}" for i in range(len(vectors))]}
    return Embeddings(_of_unit_length(vectors), tuple(_crops(cells, len(vectors), _person, _camera)))


def _from_parquet(path: Path, multi_query: bool) -> Embeddings | Descriptors:
    vectors, cells = read_parquet(path, (*_COLUMNS, "part"))
    count, vectors = len(vectors), _of_unit_length(vectors)
    if "path" not in cells and "part" not in cells:
        raise ValueError("expected a column `path`, to find the crops by, or `part`")
    if "part" not in cells:
        return Embeddings(vectors, tuple(_crops(cells, count, _text, _text)))
    rows = {part: [row for row, value in enumerate(cells["part"]) if value == part] for part in _PREFIXES}
    if sum(map(len, rows.values())) != count:
        found = sorted({str(value)[:30] for value in cells["part"]} - {*rows})
        raise ValueError(f"expected `part` to be one of {', '.join(rows)}, found {', '.join(found[:5])}")
    wanted = ("query", "gallery", "pool") if multi_query else ("query", "gallery")
    if missing := [part for part in wanted if not rows[part]]:
        raise ValueError(f"expected rows of `part` {' and '.join(missing)}, found none")
    cells.setdefault("path", [f"{path.name}/{row}" for row in range(count)])
    crops = _crops(cells, count, _person, _camera)
    return _descriptors(*(Embeddings(vectors[rows[part]], tuple(crops[i] for i in rows[part])) for part in wanted))


def _crops(cells: dict[str, list], count: int, person: Callable, camera: Callable) -> list[Crop]:
    """Return the records of `count` rows; `person` and `camera` say how those are written."""
    columns = [cells.get(name, [None] * count) for name in _COLUMNS]
    return [
        Crop(Path(_text(p) or ""), person(who), camera(where), _text(t), None if when is None else float(when))
        for p, who, where, t, when in zip(*columns, strict=True)
    ]


def _descriptors(*parts: Embeddings) -> Descriptors:
    sizes = [part.vectors.shape[1] for part in parts]
    if len(set(sizes)) > 1:
        raise ValueError(f"expected descriptors of one size, found {', '.join(map(str, sizes))}")
    return Descriptors(*parts)


def _of_unit_length(vectors: np.ndarray) -> np.ndarray:
    """Return float32 rows of length 1; `vectors` as they are where they have it, and overwritten where they may be."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    sound = np.isfinite(lengths) & (lengths > 0)
    if not (abs(lengths[sound] - 1) > _UNIT).any():
        return vectors
    # Those without a length are left for Embeddings, which refuses them with their number.
    return np.divide(vectors, np.where(sound, lengths, 1)[:, None], out=vectors if vectors.flags.writeable else None)


def _person(value: object) -> str | None:
    text = _text(value)
    number = _whole_number(text)
    return text if number is None else f"{number:04d}" if number >= 0 else str(number)


def _camera(value: object) -> str | None:
    text = _text(value)
    named = _CAMERA.fullmatch(text or "")
    number = _whole_number(named[1] if named else text)
    return text if number is None else f"c{number}"


def _whole_number(text: str | None) -> int | None:
    return int(text.partition(".")[0]) if text and _WHOLE_NUMBER.fullmatch(text) else None


def _text(value: object) -> str | None:
    """Return a label as text without padding; None where it is empty or NaN."""
    if isinstance(value, bytes):
        value = value.decode()
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    whole = value.is_integer() if isinstance(value, float) else isinstance(value, str | int)
    if not whole or isinstance(value, bool):
        raise ValueError(f"expected persons and cameras to be text or whole numbers, found {value!r:.80}")
    text = str(int(value)) if isinstance(value, float) else str(value).strip(" \0\t\r\n")
    return text or None

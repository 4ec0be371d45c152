"""`cuhk-03.mat` (Li et al., CVPR 2014): its crops, cut out once as PNG files beside it, and its test sets.

The cell arrays `detected` and `labeled` hold five camera pairs; a pair is persons x 10 slots, 1-5 of its first view and
6-10 of its second, some of them empty. `testsets` are 20 tables of 100 rows [pair, person]. Crops are named as in the
new protocol, `P_III_V_SS.png`: pair, person in it, view, slot.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partalign.datasets.listing import some
from partalign.errors import DatasetError, SaveError
from partalign.files import atomic_file
from partalign.matlab import is_empty, open_hdf5, read_array

if TYPE_CHECKING:
    import h5py

FILE = "cuhk-03.mat"
PAIRS = 5
SLOTS = 10
MAX_PERSONS = 9999
MAX_SIDE = 1024
"""Pictures larger than this, in pixels, are refused: people in CUHK03 are a few hundred pixels tall."""

NAME = re.compile(r"(?P<person>[1-5]_[0-9]{3,4})_(?P<view>[12])_(?:0[1-9]|10)\.png")
MARKER = "complete.json"


def cut_crops(mat: Path, boxes: str) -> Path:
    """Write the crops of `boxes` ("detected" or "labeled") to `crops/BOXES` beside `mat`; returns that folder.

    One crop is in memory at a time. Crops that are there are not written again, so that a killed run is continued, and
    a finished one opens no .mat file. Raises DatasetError where the file is not as described above, damaged, or lacks
    a camera pair, MissingExtraError without h5py, SaveError where the crops cannot be written.
    """
    folder = folder_of(mat, boxes)
    marker = _read_marker(folder)
    size = mat.stat().st_size if mat.is_file() else None
    if marker and size is not None and marker["bytes"] != size:
        raise DatasetError(f"{folder}: expected crops of {mat}, found those of another file; remove that folder")
    present = {path.name for path in folder.glob("*.png")}
    if marker and marker["crops"] == len(present):
        return folder
    try:
        with open_hdf5(mat) as file:
            names = _cut(file, _pair_cells(file, boxes), folder, present)
        if stray := sorted(present - names):
            raise DatasetError(f"{folder}: files that are not of {mat}: {some(stray)}; move them away")
        with atomic_file(folder / MARKER) as out:
            out.write(json.dumps({"crops": len(names), "bytes": size}).encode())
    except SaveError as error:
        raise SaveError(f"{error}: a folder of your own with a link to {mat.name} in it will do") from None
    return folder


def folder_of(mat: Path, boxes: str) -> Path:
    """Return the folder that crops are cut into."""
    return mat.parent / "crops" / boxes


def is_cut(mat: Path, boxes: str) -> bool:
    """Whether `cut_crops` was finished, so that the .mat file is not needed any more."""
    return _read_marker(folder_of(mat, boxes)) is not None


def read_test_sets(mat: Path) -> tuple[frozenset[str], ...]:
    """Return the persons ("P_III") of each test set. Raises DatasetError and MissingExtraError as `cut_crops` does."""
    with open_hdf5(mat) as file:
        cell = read_array(file["testsets"], "O", 8 * 1000).ravel() if "testsets" in file else ()
        if not len(cell):
            raise DatasetError(f"{mat}: expected 20 test sets (`testsets`), they are missing; download it again")
        tables = [read_array(file[reference], "f", 16 * MAX_PERSONS) for reference in cell]
        return tuple(_persons(table, f"{mat}, test set {number}") for number, table in enumerate(tables))


def _persons(table: np.ndarray, where: str) -> frozenset[str]:
    good = table.ndim == 2 and table.shape[0] == 2 and table.size and np.isfinite(table).all()
    if not good or (table % 1).any() or table.min() < 1 or table[0].max() > PAIRS or table[1].max() > MAX_PERSONS:
        raise DatasetError(f"{where}: expected rows [pair, person] counted from 1, found others; download it again")
    return frozenset(f"{int(pair)}_{int(person):03}" for pair, person in table.T)


def _pair_cells(file: h5py.File, boxes: str) -> list[np.ndarray]:
    """Return the references of each camera pair, (10, persons)."""
    if boxes not in file:
        raise DatasetError(f"{file.filename}: expected {boxes} crops (`{boxes}`), they are missing; download it again")
    references = read_array(file[boxes], "O", 8 * PAIRS).ravel()
    if len(references) != PAIRS:
        raise DatasetError(
            f"{file.filename}: expected {PAIRS} camera pairs in `{boxes}`, found {len(references)}; download it again"
        )
    cells = []
    for pair, reference in enumerate(references, start=1):
        dataset: Any = file[reference] if reference else None
        shape = getattr(dataset, "shape", ())
        if len(shape) != 2 or shape[0] != SLOTS or not 0 < shape[1] <= MAX_PERSONS:
            found = "nothing" if not shape or is_empty(dataset) else " x ".join(map(str, shape[::-1]))
            raise DatasetError(
                f"{file.filename}: expected persons x {SLOTS} crops in `{boxes}`, camera pair {pair}, found {found}; "
                "download it again"
            )
        cells.append(read_array(dataset, "O", 8 * SLOTS * MAX_PERSONS))
    return cells


def _cut(file: h5py.File, cells: list[np.ndarray], folder: Path, present: set[str]) -> set[str]:
    """Write the crops that are not `present`; returns the names of all."""
    from PIL import Image

    from partalign.progress import bar

    names: set[str] = set()
    with bar(f"Cutting out {folder.name} crops", total=sum(cell.size for cell in cells)) as advance:
        for pair, cell in enumerate(cells, start=1):
            for person, slot in np.ndindex(cell.shape[1], SLOTS):
                name = f"{pair}_{person + 1:03}_{1 if slot < SLOTS // 2 else 2}_{slot + 1:02}.png"
                advance()
                if name not in present:
                    pixels = _read_picture(file, cell[slot, person], f"{folder.name}/{name}")
                    if pixels is None:
                        continue
                    with atomic_file(folder / name, sync=False) as out:
                        # Level 1 takes a quarter of the usual time for files a tenth larger.
                        Image.fromarray(pixels).save(out, "PNG", compress_level=1)
                names.add(name)
    return names


def _read_picture(file: h5py.File, reference: Any, name: str) -> np.ndarray | None:
    """Return the picture of a slot, (H, W, 3) uint8; None where it is empty."""
    dataset: Any = file[reference] if reference else None
    if dataset is None or is_empty(dataset):
        return None
    shape, kind = getattr(dataset, "shape", ()), getattr(dataset, "dtype", None)
    if kind != np.uint8 or len(shape) != 3 or shape[0] != 3 or max(shape) > MAX_SIDE:
        raise DatasetError(
            f"{file.filename}: expected a colour picture of up to {MAX_SIDE} x {MAX_SIDE} pixels as {name}, found "
            f"{' x '.join(map(str, shape[::-1])) or 'nothing'} of {kind}; download it again"
        )
    return np.ascontiguousarray(read_array(dataset, "u", 3 * MAX_SIDE**2).T)


def _read_marker(folder: Path) -> dict[str, int] | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads((folder / MARKER).read_bytes())
        return {key: int(content[key]) for key in ("crops", "bytes")}
    return None

"""Writes CUHK03's raw file as its authors published it: MATLAB 7.3, cells of references, transposed pictures."""

import zlib
from pathlib import Path

import h5py
import numpy as np

from matlab_files import sign

PERSONS = (4, 3, 2, 1, 1)  # of each pair
EMPTY = {
    ("detected", 1, 2, 3),
    ("labeled", 1, 2, 3),
    ("labeled", 2, 1, 10),
    *(("detected", 3, 2, s) for s in range(6, 11)),
}
"""Slots without a crop: boxes, pair, person, slot."""

TEST_SETS = [[(1, 1), (2, 3)], [(1, 2), (3, 2)], [(1, 4), (2, 1)]]


def picture(boxes: str, pair: int, person: int, slot: int) -> np.ndarray:
    """A picture of its own for each slot, (H, W, 3), with no symmetry and of a size of its own."""
    draw = np.random.default_rng(zlib.crc32(f"{boxes} {pair} {person} {slot}".encode()))
    height, width = draw.integers(24, 40), draw.integers(8, 16)
    return draw.integers(0, 256, (height, width, 3), dtype=np.uint8)


class MatFile:
    """Writes a file as MATLAB's `save -v7.3` does: cells of references into `#refs#`, arrays transposed."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = h5py.File(path, "w", userblock_size=512)
        self.values = self.file.create_group("#refs#")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        sign(self.path)

    def add(self, value: np.ndarray, **options):
        dataset = self.values.create_dataset(f"v{len(self.values)}", data=np.asarray(value).T, **options)
        dataset.attrs["MATLAB_class"] = np.bytes_(str(value.dtype))
        return dataset.ref

    def add_empty(self):
        dataset = self.values.create_dataset(f"v{len(self.values)}", data=np.zeros(2, np.uint64))
        dataset.attrs["MATLAB_class"] = np.bytes_("double")
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
        return dataset.ref

    def cell(self, references: list, shape: tuple[int, ...], name: str | None = None):
        """Store a cell array of MATLAB's `shape`, filled row by row."""
        array = np.empty(len(references), dtype=object)
        array[:] = references
        place = self.values if name is None else self.file
        dataset = place.create_dataset(
            name or f"v{len(self.values)}", data=array.reshape(shape).T, dtype=h5py.ref_dtype
        )
        dataset.attrs["MATLAB_class"] = np.bytes_("cell")
        return dataset.ref

    def boxes(self, name: str, persons=PERSONS, empty=EMPTY) -> None:
        pairs = []
        for pair, count in enumerate(persons, start=1):
            slots = [
                self.add_empty() if (name, pair, person, slot) in empty else self.add(picture(name, pair, person, slot))
                for person in range(1, count + 1)
                for slot in range(1, 11)
            ]
            pairs.append(self.cell(slots, (count, 10)) if count else self.add_empty())
        self.cell(pairs, (len(pairs), 1), name)

    def test_sets(self, sets=TEST_SETS) -> None:
        self.cell([self.add(np.array(rows, dtype=float)) for rows in sets], (len(sets), 1), "testsets")


def write_mat(folder: Path) -> Path:
    path = folder / "cuhk03_release" / "cuhk-03.mat"
    with MatFile(path) as mat:
        mat.boxes("detected")
        mat.boxes("labeled")
        mat.test_sets()
    return path

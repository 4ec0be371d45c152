"""Writes .mat files of version 7.3 as MATLAB does: arrays transposed, cells as references into `#refs#`."""

from pathlib import Path

import h5py
import numpy as np

HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Mar 27 11:31:39 2014 HDF5 schema 1.00 ."


def sign(path: Path) -> None:
    """Write MATLAB's head into the first 512 bytes, which HDF5 leaves free."""
    with path.open("r+b") as file:
        file.write(HEADER.ljust(116) + bytes(8) + b"\x00\x02IM")


def write_version_73(path: Path, content: dict) -> Path:
    """Write arrays of numbers, of text (a row each) and of objects (cells of text or numbers; None is an empty one)."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            write_variable(file, name, np.atleast_2d(value))
    sign(path)
    return path


def write_variable(file: h5py.File, name: str, value: np.ndarray) -> h5py.Dataset:
    if value.size == 0:
        kind, data = "double", np.array(value.shape, np.uint64)
    elif value.dtype.kind == "O":
        kind, data = "cell", np.empty(value.T.shape, h5py.ref_dtype)
        for place, entry in np.ndenumerate(value.T):
            entry = np.empty((0, 0)) if entry is None else np.atleast_2d(entry)
            data[place] = write_variable(file, f"#refs#/{name}{place}", entry).ref
    elif value.dtype.kind == "U":
        text = [list(row.ljust(value.dtype.itemsize // 4)) for row in value.ravel()]
        kind, data = "char", np.array([[ord(letter) for letter in row] for row in text], "u2").T
    else:
        kind, data = "double", value.T
    dataset = file.create_dataset(name, data=data)
    dataset.attrs["MATLAB_class"] = np.bytes_(kind)
    if value.size == 0:
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
    return dataset

"""Data sets on disk -> records. Reads file names and tables, never pictures; imports no torch and no Pillow."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path

from partalign.crops import Split
from partalign.datasets import cuhk01, cuhk03, dukemtmc, market1501, mars
from partalign.datasets import folder as own_folder
from partalign.errors import DatasetError

READERS: dict[str, Callable[..., Split]] = {
    "market1501": market1501.load,
    "dukemtmc": dukemtmc.load,
    "cuhk03": cuhk03.load,
    "cuhk01": cuhk01.load,
    "mars": mars.load,
    "folder": own_folder.load,
}


def load_dataset(name: str, folder: str | Path, **options: str | int | None) -> Split:
    """Read the data set `name` that lies in `folder`.

    options: those of the data set's reader (`protocol`, `boxes`, `test_set`), None where not chosen. Raises
    DatasetError for an unknown name or an option that the data set does not have, or where the folder is missing, half
    unpacked or in another layout.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name.lower(), READERS, n=1, cutoff=0.4)
        advice = f"did you mean {near[0]}?" if near else "choose one of them"
        raise DatasetError(f"expected a data set of {', '.join(READERS)}, found {name!r}; {advice}")
    chosen = {option: value for option, value in options.items() if value is not None}
    known = list(inspect.signature(READERS[name]).parameters)[1:]
    if unknown := set(chosen) - set(known):
        told = f"choose among {', '.join(known)}" if known else "leave it out"
        raise DatasetError(f"{name}: expected no choice of {', '.join(sorted(unknown))} for this data set; {told}")
    return READERS[name](Path(folder), **chosen)

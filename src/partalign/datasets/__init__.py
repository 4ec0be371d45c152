"""Data sets on disk -> records. Reads file names and tables, never pictures; imports no torch and no Pillow."""

from __future__ import annotations

import difflib
from pathlib import Path

from partalign.crops import Split
from partalign.datasets import folder as own_folder
from partalign.datasets import market1501
from partalign.errors import DatasetError

READERS = {
    "market1501": market1501.load,
    "folder": own_folder.load,
}


def load_dataset(name: str, folder: str | Path) -> Split:
    """Read the data set `name` that lies in `folder`.

    Raises DatasetError for an unknown name, or where the folder is missing, half unpacked or in another layout.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name.lower(), READERS, n=1, cutoff=0.4)
        advice = f"did you mean {near[0]}?" if near else "choose one of them"
        raise DatasetError(f"expected a data set of {', '.join(READERS)}, found {name!r}; {advice}")
    return READERS[name](Path(folder))

"""Where crops go, and how far each source was read:

    OUT/crops.csv               the table that `datasets.folder` reads, of all sources that were read
    OUT/SOURCE/0001_f0000120.jpg      crops: tracklet and frame
    OUT/.people/SOURCE.json     state: how far, and what is needed to go on
    OUT/.people/SOURCE.jsonl    one line for each crop

A state says how long the list of crops was: what a killed run wrote after its last state is cut off, and written again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partalign.crops import Crop
from partalign.datasets.folder import PARTS
from partalign.datasets.table import CSV, PARQUET, find_table, write_table
from partalign.errors import SaveError, VideoError
from partalign.files import atomic_file

FORMAT = 1

_TAKEN = {*PARTS, CSV, PARQUET, "people.png"}  # folders that divide a data set, and files beside the crops


@dataclass(frozen=True)
class Place:
    """The files of one source."""

    out: Path
    name: str

    @property
    def crops(self) -> Path:
        """The folder of its crops."""
        return self.out / self.name

    @property
    def state(self) -> Path:
        """How far it was read."""
        return self.out / ".people" / f"{self.name}.json"

    @property
    def list(self) -> Path:
        """One line for each crop."""
        return self.out / ".people" / f"{self.name}.jsonl"

    def read_state(self) -> dict[str, Any] | None:
        """Return the saved state, None where there is none. Raises VideoError for a damaged one."""
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
            if state["format"] == FORMAT and isinstance(state["fingerprint"], str):
                return state
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            pass
        raise VideoError(f"{self.state}: expected the state of a run, cannot read it; delete it to begin anew")

    def write_state(self, state: dict[str, Any]) -> None:
        """Save a state, atomically. Raises SaveError."""
        with atomic_file(self.state) as file:
            file.write(json.dumps(state, ensure_ascii=False).encode())

    def begin(self, length: int) -> None:
        """Make ready for writing after `length` bytes of the list; removes what a killed run left half written."""
        try:
            self.list.parent.mkdir(parents=True, exist_ok=True)
            self.crops.mkdir(exist_ok=True)
            for folder in (self.crops, self.list.parent, self.out):
                for left in folder.glob(".*.partial"):
                    left.unlink()
            with self.list.open("ab") as file:
                if file.tell() < length:
                    raise VideoError(
                        f"{self.list}: shorter than its run says; delete it and {self.state} to begin anew"
                    )
                file.truncate(length)
        except OSError as error:
            raise SaveError(
                f"{self.crops}: cannot be written ({error.strerror or error}); free space or choose another --out"
            ) from None

    def add(self, crop: Crop, jpeg: bytes) -> None:
        """Write a crop and its line. Raises SaveError."""
        # Not waited for: a crop that a power cut takes is one of many.
        with atomic_file(crop.path, sync=False) as file:
            file.write(jpeg)
        line = {"file": crop.path.name, "camera": crop.camera, "tracklet": crop.tracklet, "time": crop.time}
        try:
            with self.list.open("ab") as file:
                file.write(json.dumps(line | {"box": crop.box}, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise SaveError(f"{self.list}: cannot be written ({error.strerror or error}); free space") from None

    def length(self) -> int:
        """Return how many bytes the list has."""
        return self.list.stat().st_size

    def read_crops(self) -> Iterator[Crop]:
        """Yield the crops in the list, in the order of writing."""
        try:
            with self.list.open(encoding="utf-8") as file:
                for line in file:
                    row = json.loads(line)
                    box = tuple(float(value) for value in row["box"])
                    path = self.crops / Path(row["file"]).name
                    yield Crop(path, None, row["camera"], row["tracklet"], row["time"], box)  # type: ignore[arg-type]
        except (OSError, ValueError, TypeError, KeyError):
            raise VideoError(f"{self.list}: damaged; delete it and {self.state} to begin anew") from None


def find_place(out: Path, source: Path, fingerprint: str) -> Place:
    """Return where the crops of a source go: its place of an earlier run, or the first free name like its own.

    Raises VideoError where a state is damaged.
    """
    stem = source.name if source.is_dir() else source.stem
    name = re.sub(r"[^\w.\- ]", "_", stem).strip(" .")[:80].strip(" .") or "video"
    if name.lower() in _TAKEN:
        name += "-video"
    number = 1
    while True:
        place = Place(out, name if number == 1 else f"{name}-{number}")
        state = place.read_state()
        if state is None or state["fingerprint"] == fingerprint:
            return place
        number += 1


def places(out: Path) -> list[Place]:
    """Return the places of all sources in a folder, by name."""
    return [Place(out, path.stem) for path in sorted((out / ".people").glob("*.json"))]


def save_table(out: Path, found: Iterable[Place]) -> Path:
    """Write `crops.csv` of all crops of these places. Raises SaveError, VideoError."""
    return write_table(out, (crop for place in found for crop in place.read_crops()))


def check_out(out: Path, sources: Iterable[Path]) -> None:
    """Raise VideoError where the folder is a source itself, or holds crops of another origin, which would mix."""
    if any(source.resolve() == out.resolve() for source in sources):
        raise VideoError(f"{out}: expected another folder for the crops than that of the frames; choose another --out")
    if out.exists() and not out.is_dir():
        raise VideoError(f"{out}: expected a folder for the crops, found a file; choose another --out")
    if not (out / ".people").is_dir() and out.is_dir() and (table := find_table(out)):
        raise VideoError(f"{table}: a table of crops from elsewhere; choose another --out than {out}")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises VideoError where another one works in it; SaveError."""
    lock = out / ".people" / "lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise SaveError(
            f"{out}: cannot be written ({error.strerror or error}); free space or choose another --out"
        ) from None
    with file:
        try:
            import fcntl
        except ImportError:  # Windows has none; whoever runs two at a time there is not warned
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise VideoError(f"{out}: another run is writing there; wait for it, or choose another --out") from None
        yield

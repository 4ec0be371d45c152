"""What lies in a folder: pictures, crops whose names say all, or something else than was looked for.

Lists folders and opens nothing: half a million names take seconds.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from partalign.crops import Crop
from partalign.errors import DatasetError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

Note = Callable[[str, str], object]
"""Called with whatever was left out of a list of pictures, or is a link to somewhere else: what it is, and its name."""

_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, or one that an operating system leaves behind."""
    return name.startswith(".") or name.lower() in _CLUTTER


def find_pictures(
    root: Path,
    *,
    suffixes: tuple[str, ...] = SUFFIXES,
    follow: Collection[str] = (),
) -> tuple[list[str], list[str]]:
    """List the pictures below a folder; returns (names relative to it, sorted; notes on what else was found).

    suffixes: endings of pictures, in lower case. follow: folders that are read even where they are links; no other
    linked folder is. Raises DatasetError where a folder cannot be listed.
    """
    names: list[str] = []
    left_out: dict[str, list[str]] = defaultdict(list)

    def note(reason: str, name: str) -> None:
        left_out[reason].append(name)

    names += walk_pictures(root, suffixes=suffixes, follow=follow, note=note)
    return names, [f"{len(found):,} {reason}: {some(sorted(found))}" for reason, found in left_out.items()]


def walk_pictures(
    root: Path,
    *,
    suffixes: tuple[str, ...] = SUFFIXES,
    follow: Collection[str] = (),
    note: Note | None = None,
) -> Iterator[str]:
    """Yield the names that `find_pictures` lists, in its order, holding those of a folder and its parents at a time.

    note: see `Note`.
    """
    inside, waiting = root.resolve(), [""]
    while waiting:
        name = waiting.pop()
        if name and not name.endswith("/"):
            yield name
            continue
        found = []
        for entry in _entries(root / name):
            reason = _why_not(entry, name, suffixes, follow)
            if reason and note:
                note(reason, name + entry.name)
            elif reason == "":
                found.append(f"{name}{entry.name}{'/' * entry.is_dir()}")
                if note and entry.is_symlink() and entry.is_file() and _leads_outside(entry, inside):
                    note("pictures are links to files outside the folder, and are read", name + entry.name)
        # A folder stands where its pictures do in a sorted list of all names: "a-b/1.jpg" comes before "a/1.jpg".
        waiting += sorted(found, reverse=True)


def read_crops(folder: Path, parse: Callable[[Path], Crop | None], like: str, advice: str) -> tuple[Crop, ...]:
    """Make a record of each file in one folder, sorted by name.

    parse: makes a record of a path; None where it is named otherwise than in this data set. like: such names, for
    people; advice: what to do where others are there. Raises DatasetError where one is, or nothing.
    """
    names = sorted(name for name in os.listdir(folder) if not is_clutter(name))  # noqa: PTH208 - four times as fast
    crops = [parse(folder / name) for name in names]
    strange = [name for name, crop in zip(names, crops, strict=True) if crop is None]
    if strange:
        raise DatasetError(
            f"{folder}: expected names like {like}, found {len(strange)} of {len(names)} files named otherwise, such "
            f"as {', '.join(strange[:3])}; {advice}"
        )
    if not names:
        raise DatasetError(f"{folder}: expected crops, found an empty folder; unpack the data set again")
    return tuple(crop for crop in crops if crop is not None)


def missing(folder: Path, title: str, expected: str, advice: str) -> DatasetError:
    """Return the error that says what is in `folder` instead of the data set `title`, of which something is expected.

    advice: what to do where the folder is there and no zip file is in it.
    """
    if not folder.is_dir():
        return DatasetError(f"{folder}: expected a folder with {title}, no such folder; check --data")
    found = sorted(entry.name for entry in folder.iterdir())
    names = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    if any(name.lower().endswith(".zip") for name in found):
        advice = "unpack the zip file"
    return DatasetError(f"{folder}: expected {expected}, found {names or 'an empty folder'}; {advice}")


def some(names: Sequence[str]) -> str:
    """Write out the first three names of many."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def count(items: Sequence[object], noun: str) -> str:
    """Write a number and what it counts."""
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DatasetError(
            f"{folder}: expected a folder, cannot list it ({error.strerror}); check its rights"
        ) from None


def _why_not(entry: os.DirEntry[str], folder: str, suffixes: tuple[str, ...], follow: Collection[str]) -> str | None:
    """Say why an entry is left out: "" if it is not, None where it is not worth a word."""
    if is_clutter(entry.name):
        return None
    kind = _kind(entry)
    if kind == "folder":
        return "linked folders not followed" if entry.is_symlink() and folder + entry.name not in follow else ""
    if kind == "broken":
        return "broken links or devices left out"
    return "" if entry.name.lower().endswith(suffixes) else "files left out, not named as pictures"


def _leads_outside(link: os.DirEntry[str], folder: Path) -> bool:
    return not Path(link.path).resolve().is_relative_to(folder)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "broken"
    except OSError:  # a link to itself
        return "broken"

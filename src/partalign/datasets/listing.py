"""Pictures below a folder, and what else lies there. Lists folders and opens nothing: half a million names take
seconds.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from partalign.errors import DatasetError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

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
    inside, folders = root.resolve(), [""]
    while folders:
        folder = folders.pop()
        for entry in _entries(root / folder):
            if is_clutter(entry.name):
                continue
            name, kind, link = folder + entry.name, _kind(entry), entry.is_symlink()
            if kind == "folder" and (not link or name in follow):
                folders.append(f"{name}/")
            elif kind == "folder":
                left_out["linked folders not followed"].append(name)
            elif kind == "broken":
                left_out["broken links or devices left out"].append(name)
            elif not entry.name.lower().endswith(suffixes):
                left_out["files left out, not named as pictures"].append(name)
            else:
                names.append(name)
                if link and not Path(entry.path).resolve().is_relative_to(inside):
                    left_out["pictures are links to files outside the folder, and are read"].append(name)
    return sorted(names), [f"{len(found):,} {reason}: {some(sorted(found))}" for reason, found in left_out.items()]


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


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "broken"
    except OSError:  # a link to itself
        return "broken"

"""Times as people write them: dates, seconds, ages."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from partalign.errors import GalleryError
from partalign.gallery.records import Record

DATES = ("time", "since", "until", "added_since", "added_until", "older_than", "before")
"""What of a line of the log is a time, be it a date or a place in a video."""

_UNDIVIDED = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_time(text: str) -> float:
    """Return seconds: of a number as it is, of a date (2026-05-01, 2026-05-01T12:30, +02:00 behind) since 1970.

    A date without an offset is UTC. Raises GalleryError.
    """
    if _UNDIVIDED.fullmatch(text.strip()):  # a number too: that many seconds would silently choose something else
        raise GalleryError(
            f"expected a date with dashes, such as 2026-05-01, found {text!r}; if seconds are meant, write {text}.0"
        )
    try:
        return float(text)
    except ValueError:
        pass
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise GalleryError(
            f"expected a time, such as 2026-05-01T12:30 or seconds in a video, found {text!r:.80}"
        ) from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def parse_age(text: str) -> float:
    """Return seconds of an age such as 30d, 12h, 8w. Raises GalleryError."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text.strip())
    if not found:
        raise GalleryError(f"expected an age such as 30d (days), 12h (hours) or 8w (weeks), found {text!r:.80}")
    return float(found[1]) * _UNITS[found[2]]


def show_time(record: Record) -> str:
    """Return a record's time for people: a date, or a place in its source, or nothing.

    A place is a number without a unit: seconds of a video or, where a data set's file names say it, a frame.
    """
    if record.time is None:
        return ""
    if record.date is not None:
        return f"{record.date:%Y-%m-%d %H:%M:%S}"
    return f"{record.time:.2f}".rstrip("0").rstrip(".")

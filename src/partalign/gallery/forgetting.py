"""What of forgotten records stands elsewhere than in them: names in other records' tags, words in the log.

Works in the transaction that removes the records, on either store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from partalign.gallery.records import REJECTED
from partalign.gallery.sql import Dialect

MARK = "(forgotten)"
"""Stands in the log in place of what was forgotten."""

NAMED = ("id", "person", "tracklet", "source")
"""What of a record its tags and the log may name it by."""

_AT_ONCE = 1000  # lines of the log

Run = Callable[[str, Sequence[Any]], list[Any]]
"""Runs a statement with its values, `?` in place of each, and returns its rows."""


def erase(
    run: Run, dialect: Dialect, removed: Sequence[Sequence[str | None]], person: str | None, tags: Iterable[str]
) -> None:
    """Take what names removed records out of other records' tags and put `MARK` in its place in the log.

    removed: the values of `NAMED` of each. person: a name that is to be forgotten even where no record had it. A name,
    a tracklet or a source that other records still have stays. tags: all that the gallery has.
    """
    values = {name: {row[i] for row in removed} - {None} for i, name in enumerate(NAMED)}
    if person is not None:
        values["person"].add(person)
    gone = {name: _gone(run, dialect, name, found) for name, found in values.items()}
    rejected = {REJECTED + name for name in gone["person"]}
    for tag in sorted(rejected.intersection(tags)):
        statement = f"UPDATE crops SET tags = {dialect.retagged} WHERE {dialect.has_tag}"  # noqa: S608
        run(statement, [dialect.texts([]), dialect.texts([tag]), dialect.tag(tag)])
    _mark(run, rejected.union(*gone.values()))


def marked(value: Any, words: set[str]) -> Any:
    """Return a JSON value with `MARK` in place of each text that is one of these words."""
    if isinstance(value, dict):
        return {name: marked(item, words) for name, item in value.items()}
    if isinstance(value, list):
        return [marked(item, words) for item in value]
    return MARK if isinstance(value, str) and value in words else value


def _gone(run: Run, dialect: Dialect, name: str, values: set[Any]) -> set[str]:
    """Return those of a field's values that no record has any more."""
    if not values:
        return set()
    statement = f"SELECT DISTINCT {name} FROM crops WHERE {dialect.any_of.format(name)}"  # noqa: S608
    return values - {value for (value,) in run(statement, [dialect.texts(sorted(values))])}


def _mark(run: Run, words: set[str]) -> None:
    last = 0
    while words:
        page = run("SELECT number, details FROM log WHERE number > ? ORDER BY number LIMIT ?", [last, _AT_ONCE])
        if not page:
            return
        last = page[-1][0]
        for number, details in page:
            before = json.loads(details) if isinstance(details, str) else details  # PostgreSQL's are read already
            after = marked(before, words)
            if after != before:
                run("UPDATE log SET details = ? WHERE number = ?", [json.dumps(after), number])

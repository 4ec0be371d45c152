"""Results of benchmarks as Markdown: a page with all of them, and a short table.

Works on files that `partalign bench --json` wrote. What a reference is comes from the explanations that stand in
benchmarks/README.md, one list entry for each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partalign.benchmarks.curves import by_curve, file_name
from partalign.benchmarks.suite import BENCHMARKS, LOADS, LONG

BEGIN, END = "<!-- speed: made by scripts/speed -->", "<!-- end of speed -->"

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """What one benchmark gave: its lines, when, on which machine, and what the one who ran it noted."""

    name: str
    lines: Sequence[Line]
    date: str
    machine: Mapping[str, Any]
    note: str

    @property
    def where(self) -> str:
        """Date, processor, and the note or, without one, the load in a sentence's part."""
        machine = self.machine
        what = machine.get("gpu") or f"{machine['cores']} cores of {machine['processor']}"
        load = "" if machine["load"] is None else f", load {machine['load']:.1f}"
        return f"{self.date[:10]}, {what}" + (f", {self.note}" if self.note else load)


def newest(files: Iterable[Path]) -> dict[str, Measured]:
    """Read files of results; of each benchmark take the newest, in the order in which the suite has them."""
    found: dict[str, Measured] = {}
    contents = sorted((json.loads(path.read_text(encoding="utf-8")) for path in files), key=lambda c: c["date"])
    for content in contents:
        for name, lines in content["benchmarks"].items():
            lines = [_without_memory(line) if name in _OWN_MEMORY else line for line in lines]
            found[name] = Measured(name, lines, content["date"], content["machine"], content.get("note", ""))
    return {name: found[name] for name in (*BENCHMARKS, *LONG, *LOADS) if name in found}


def _without_memory(line: Line) -> Line:
    """Leave out our memory and the share of the reference's that it is, which older files have."""
    return {**line, "ours": {**line["ours"], "peak": None}, "saving": None}


def page(results: Mapping[str, Measured], explanations: str) -> str:
    """Return docs/speed.md. explanations: the text of benchmarks/README.md."""
    places = {measured.where for measured in results.values()}
    parts = [_HEAD, _verdict(results.values())]
    parts += [f"Measured: {where}." for where in places if len(places) == 1]
    for name, measured in results.items():
        where = "" if len(places) == 1 else f"; {measured.where}"
        threads = sorted({str(line["threads"]) for line in measured.lines if "threads" in line})
        used = f", threads: {', '.join(threads)}" if threads else ""
        part = [f"## {name}", f"`partalign bench {name}`{used}{where}", _section(explanations, name)]
        if name == "growth":
            part += [_plot(what) for what in by_curve(measured.lines)]
        else:
            part.append(_loads(measured.lines) if name in LOADS else _table(measured.lines))
        parts += [text for text in part if text]
    return "\n\n".join(parts) + "\n"


def summary(results: Mapping[str, Measured]) -> str:
    """Return a table of those lines that should be faster or smaller than a reference, for the README."""
    rows = ["| | | against | times as fast | memory | bar |", "|---|---|---|---|---|---|"]
    for measured in results.values():
        name = measured.name
        for line in measured.lines:
            if line.get("reference") is not None and _bar(line) and (line["bar"]["speed"] or 1) > _FLOOR:
                bar = f"{_bar(line)}: {_VERDICTS[line['reached']]}"
                cells = (name, line["what"], line["against"], _ratio(line), _saving(line), bar)
                rows.append(f"| {' | '.join(cells)} |")
                name = ""
    notes = sorted({measured.where for measured in results.values()})
    return "\n".join([*rows, "", *(f"Measured: {note}." for note in notes)])


def between_marks(text: str, table: str) -> str:
    """Put a table in place of what stands between the marks of a text."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


_FLOOR = 0.8
"""A bar for the ratio below this is one of how near to a floor we are."""

_NOTHING = 0.1
"""A reference that takes less of our memory than this share has none to compare with."""

_OWN_MEMORY = ("engines",)
"""Benchmarks of what takes its memory when it starts: what the process grows by in a step says nothing of it."""

_VERDICTS = {True: "reached", False: "**missed**", None: "not measured"}

_HEAD = """# Speed

Every form of a computation that is meant to be fast, beside a straightforward one, in the same run and with the same
results: made by `scripts/speed` from the files in [benchmarks/results](../benchmarks/results). Ratios above 1 say how
many times as long the reference takes, in brackets those of all rounds. Memory is what the process grows by, ours and
the reference's. [benchmarks/README.md](../benchmarks/README.md) says how it is measured."""


def _verdict(results: Iterable[Measured]) -> str:
    lines = [(measured.name, line) for measured in results for line in measured.lines if "bar" in line]
    with_bar = [(name, line) for name, line in lines if line["reached"] is not None]
    missed = [(name, line) for name, line in with_bar if not line["reached"]]
    text = f"Of {len(with_bar)} lines with a bar {len(with_bar) - len(missed)} reach it."
    if not missed:
        return text
    entries = []
    for name, line in missed:
        memory = f", memory {_saving(line)}" if _saving(line) else ""
        entries.append(f"* {name}: {line['what']}, against {line['against']}: {_ratio(line)}{memory}; bar {_bar(line)}")
    return "\n".join([f"{text} These miss it:", "", *entries])


def _section(explanations: str, name: str) -> str:
    """Return what benchmarks/README.md says of a benchmark and its references."""
    found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", explanations, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def _table(lines: Sequence[Line]) -> str:
    rows = ["| | against | ours | reference | times as fast | memory, ours | reference | share | bar |"]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    for line in lines:
        ours, reference = line["ours"], line["reference"]
        bar = f"{_bar(line)}: {_VERDICTS[line['reached']]}" if _bar(line) else ""
        cells = [line["what"], line["against"], _seconds(ours, line), _seconds(reference, line), _ratio(line, True)]
        cells += [_memory(ours), _memory(reference), _saving(line), bar]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _loads(lines: Sequence[Line]) -> str:
    rows = ["| | answers a second | half within | 99% within | errors |", "|---|---|---|---|---|"]
    for line in lines:
        times = (f"{1e3 * line[name]:.0f} ms" for name in ("p50", "p99"))
        rows.append(f"| {line['what']} | {line['rate']:.0f} | {' | '.join(times)} | {line['errors']} |")
    return "\n".join(rows)


def _plot(what: str) -> str:
    name, alt = file_name(what), f"{what}: time and memory over size, ours and the reference."
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="speed/{name}-dark.png">'
        f'<img src="speed/{name}.png" width="653" alt="{alt}"></picture>'
    )


def _bar(line: Line) -> str:
    bar, words = line["bar"], []
    if bar["speed"] is not None:
        words.append(f"{bar['speed']:.3g}x")
    if bar["saving"] is not None:
        words.append(f"1/{bar['saving']:.3g} memory")
    if bar["peak"] is not None:
        words.append(f"{bar['peak'] / 2**20:,.0f} MiB")
    return ", ".join(words)


def _ratio(line: Line, spread: bool = False) -> str:
    if line["ratio"] is None:
        return ""
    low, high = (_short(value) for value in line["spread"])
    return f"{_short(line['ratio'])}x" + (f" ({low}-{high})" if spread else "")


def _saving(line: Line) -> str:
    """The share of the reference's memory that we take, as one over so much."""
    if line["saving"] is None:
        return _memory(line["ours"])
    if line["saving"] < _NOTHING:
        return ""
    return f"1/{_short(line['saving'])}" if line["saving"] >= 1 else f"{_short(1 / line['saving'])}x"


def _seconds(cost: Line | None, line: Line) -> str:
    if cost is None:
        return ""
    seconds = cost["cpu" if line["threads"] == 1 else "wall"]
    return f"{_short(seconds)} s" if seconds >= 1 else f"{_short(1e3 * seconds)} ms"


def _memory(cost: Line | None) -> str:
    return "" if cost is None or cost["peak"] is None else f"{_short(cost['peak'] / 2**20)} MiB"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

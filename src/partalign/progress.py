"""Progress bars for long work: an estimate on a terminal, silence elsewhere.

Knows nothing of what is being done; bars go to standard error, so that standard output stays for results.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True)


def say(line: str) -> None:
    """Print one line, above a progress bar if there is one."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def bar(description: str, total: int, *, completed: int = 0):
    """Yield a function `advance(steps=1, note="")` that moves a progress bar of `total` steps.

    On something that is not a terminal nothing is drawn.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total, completed=completed, note="")

        def advance(steps: int = 1, note: str | None = None) -> None:
            fields = {} if note is None else {"note": note}
            progress.update(task, advance=steps, **fields)  # type: ignore[arg-type]

        yield advance


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Iterate over `items` under a progress bar of `total` steps."""
    with bar(description, total) as advance:
        for item in items:
            yield item
            advance()

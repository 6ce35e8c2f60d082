"""A batch while it runs: a line for each check that is done, and on a terminal what is running, how far it is and how long it will take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnexport.reporting import batch as report
from bnexport.results.text import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from bnexport.results.batched import Result


class Lines:
    """Prints a line for each result.

    Args:
        console: where.
        earlier: how many checks were finished before.
        total: how many there are.
    """

    def __init__(self, console: Console, earlier: int, total: int) -> None:
        self._console, self._done, self._total = console, earlier, total

    def start_check(self, name: str) -> None:
        """A check was started."""

    def finish_check(self, result: Result) -> None:
        """A check has its result."""
        self._done += 1
        self._console.print(report.line(result, self._done, self._total))


class Table(Lines):
    """Lines, and below them a row for each check that runs, and one for all of them with the time that is left."""

    def __init__(self, rows: Progress, console: Console, earlier: int, total: int) -> None:
        super().__init__(console, earlier, total)
        self._rows = rows
        self._all = rows.add_task("all checks", total=total, completed=earlier)
        self._running: dict[str, TaskID] = {}

    def start_check(self, name: str) -> None:
        """A check was started."""
        self._running[name] = self._rows.add_task(plain(name), total=None)

    def finish_check(self, result: Result) -> None:
        """A check has its result."""
        self._rows.remove_task(self._running.pop(result.name))
        super().finish_check(result)
        self._rows.advance(self._all)


@contextmanager
def show_batch_progress(earlier: int, total: int, *, quiet: bool) -> Iterator[Lines]:
    """What is shown on stderr.

    Args:
        earlier: how many checks were finished before.
        total: how many there are.
        quiet: nothing is.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
    if quiet or not console.is_terminal:
        yield Lines(console, earlier, total)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Rows(Progress):
        """Rows that only rich's own thread draws: an interrupt while the main thread draws would draw them twice."""

        def refresh(self) -> None:
            """Leaves it to that thread."""

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    redirect = sys.stdout.isatty()  # NDJSON on a terminal is printed above the table; in a pipe it is the answer
    with Rows(*columns, console=console, transient=True, redirect_stdout=redirect) as rows:
        yield Table(rows, console, earlier, total)

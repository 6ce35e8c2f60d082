"""Progress on stderr: a spinner or a bar on a terminal, lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from bnexport.progress import Progress
from bnexport.system.quiet import open_stderr

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars, TaskID


class Drawn(Progress):
    """Draws with rich on a terminal, and prints a line for each stage elsewhere."""

    def __init__(self, console: Console, bars: Bars | None) -> None:
        self._console, self._bars = console, bars
        self._task: TaskID | None = None

    def stage(self, text: str) -> None:
        """A new stage begins; its length is unknown."""
        self._begin(text, None)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, text: str, total: int) -> None:
        """A new stage of `total` images begins."""
        self._begin(text, total)

    def advance(self, count: float) -> None:
        """So many more images are done; a fraction where an image goes through several steps."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, count)

    def _begin(self, text: str, total: int | None) -> None:
        if self._bars is None:
            self.note(f"{text} ({total} images)" if total else text)
            return
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(text, total=total)


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Progress]:
    """The progress for one command."""
    if quiet:
        yield Progress()
        return
    from rich.console import Console

    with _stderr() as file:
        console = Console(file=file)
        if not console.is_terminal:
            yield Drawn(console, None)
            return
        yield from _draw(console)


@contextmanager
def _stderr() -> Iterator[TextIO]:
    """Where progress goes: the terminal also while a library's output is held back."""
    try:
        real = sys.stderr.fileno() == 2
    except (OSError, AttributeError, ValueError):
        real = False  # somebody has put another object in its place
    if not real:
        yield sys.stderr
        return
    with os.fdopen(open_stderr(), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors, buffering=1) as file:
        yield file


def _draw(console: Console) -> Iterator[Progress]:
    """Progress on a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bars,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Images per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.3g} images/s" if task.speed else "")

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield Drawn(console, bars)

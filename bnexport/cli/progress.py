"""Progress on stderr: on a terminal the stages with what each costs, as long as they run; lines elsewhere; nothing with --quiet."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TextIO

from bnexport.cli.stages import FIRST, Stage, Stages, describe
from bnexport.progress import Progress
from bnexport.system.quiet import open_stderr

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

_REFRESHES = 8
"""How often a second the display is drawn."""

_BAR = 24
"""The columns of a bar."""

_live: Live | None = None
"""What is on the terminal now."""


class Drawn(Progress):
    """Keeps account of the stages, and prints a line for each that begins, where nothing is drawn.

    Args:
        console: where.
        stages: the account.
        lines: whether to print a line for each stage.
    """

    def __init__(self, console: Console, stages: Stages, *, lines: bool) -> None:
        self._console, self._stages, self._lines = console, stages, lines

    def stage(self, text: str) -> None:
        """A new stage begins; its length is unknown."""
        self._stages.begin(text)
        self._print_line(text)

    @contextmanager
    def stage_within(self, text: str) -> Iterator[None]:
        """A stage begins in the middle of another, or in another thread, and ends with the block."""
        self._print_line(text)
        with self._stages.within(text):
            yield

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, text: str, total: int) -> None:
        """A new stage of `total` images begins."""
        self._stages.begin(text, total)
        self._print_line(f"{text} ({total} images)" if total else text)

    def advance(self, count: float) -> None:
        """So many more images are done; a fraction where an image goes through several steps."""
        self._stages.advance(count)

    def _print_line(self, text: str) -> None:
        if self._lines:
            self.note(text)


@contextmanager
def show_progress(*, quiet: bool, verbose: bool = False) -> Iterator[Progress]:
    """The progress for one command.

    Args:
        quiet: nothing is shown.
        verbose: a line with the cost of each stage stays.
    """
    if quiet:
        yield Progress()
        return
    from rich.console import Console

    with _stderr() as file:
        console, stages = Console(file=file), Stages()
        stages.begin(FIRST)
        drawn = file.isatty() and console.is_terminal and not console.is_dumb_terminal
        with _display(console, stages) if drawn else nullcontext():
            yield Drawn(console, stages, lines=not drawn)
        stages.end()
        if verbose:
            line = describe(stages.list_finished(), stages.duration)
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def end_display() -> None:
    """Takes what is drawn off the terminal; nothing where nothing is."""
    global _live
    if _live is not None:
        _live.stop()
        _live.console.show_cursor()  # also where an interrupt kept an earlier call from it
        _live = None


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


@contextmanager
def _display(console: Console, stages: Stages) -> Iterator[None]:
    """Draws the stages on a terminal while the block runs."""
    global _live
    from rich.live import Live

    _live = Live(
        console=console,
        get_renderable=lambda: show_stages(stages, console),
        refresh_per_second=_REFRESHES,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # elsewhere it is the answer, which goes where it belongs
    )
    try:
        _live.start()
        yield
    finally:
        end_display()


def show_stages(stages: Stages, console: Console) -> Text:
    """The stages that ended, as many as fit, and below them those that run, each in a line with its seconds.

    Args:
        stages: what there is.
        console: where, which has a width and a height.
    """
    from rich.text import Text

    most = max(console.height - 1, 1)
    running, finished = stages.list_running()[-most:], stages.list_finished()
    fit = most - len(running)
    earlier = finished[: len(finished) - max(fit - 1, 0)] if len(finished) > fit else []
    lines = []
    if earlier and fit:
        seconds = sum(seconds for _, seconds in earlier)
        lines.append(Text(_LEFT.format(seconds, f"{len(earlier)} earlier stages"), "dim"))
    lines += [Text(_LEFT.format(seconds, text), "dim") for text, seconds in finished[len(earlier) :]]
    lines += [_show_running(stage, seconds, console) for stage, seconds in running]
    for line in lines:
        line.truncate(console.width, overflow="ellipsis" if _has_signs(console) else "crop")
    return Text("\n", no_wrap=True).join(lines)


_LEFT = "{:7.1f} s  {}"


def _show_running(stage: Stage, seconds: float, console: Console) -> Text:
    """A stage, and where it counts images and there are columns left a bar, how many, how fast, and how long it will take."""
    from rich.text import Text

    line = Text(_LEFT.format(seconds, stage.text))
    if not stage.total:
        return line
    speed = stage.count / seconds if seconds else 0.0
    left = f", {speed:.3g}/s, {(stage.total - stage.count) / speed:.0f} s left" if speed else ""
    count = f"  {stage.count:.0f}/{stage.total}{left}"
    part = min(round(_BAR * stage.count / stage.total), _BAR)
    full, empty = "\u2501\u2501" if _has_signs(console) else "#."
    if line.cell_len + 2 + _BAR + len(count) < console.width:
        line.append("  ").append(full * part, "green").append(empty * (_BAR - part), "dim")
    return line.append(count)


def _has_signs(console: Console) -> bool:
    return console.encoding.startswith("utf")

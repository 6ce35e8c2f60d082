"""The stages of a command, and the seconds that each of them costs, whichever threads they run in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bnexport.results.text import plain

FIRST = "starting"
"""What is done before the first stage begins."""


@dataclass(slots=True)
class Stage:
    """A stage that runs.

    Args:
        text: what is done.
        total: how many images it goes through; None where that is unknown.
        resumed: the time at which it went on last; None while another stage runs in the middle of it.
        seconds: the seconds that it ran until then.
        count: the images that it has gone through.
    """

    text: str
    total: int | None
    resumed: float | None
    seconds: float = 0.0
    count: float = 0.0

    def seconds_until(self, now: float) -> float:
        """The seconds that it has run."""
        return self.seconds + (0.0 if self.resumed is None else now - self.resumed)


@dataclass(slots=True)
class Stages:
    """Which stages run, and what those that ended cost.

    A stage ends where the next one begins in its thread. One that runs in the middle of another takes the time that it needs off
    the other's. So the costs of the stages of one thread add up to the time that passes.

    Args:
        clock: the time in seconds.
    """

    clock: Callable[[], float] = time.perf_counter
    _costs: dict[str, float] = field(default_factory=dict)
    _running: dict[threading.Thread, list[Stage]] = field(default_factory=dict)
    _counted: Stage | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _created: float = 0.0

    def __post_init__(self) -> None:
        self._created = self.clock()

    @property
    def duration(self) -> float:
        """The seconds since the account was opened; less than the sum of the costs where stages ran beside each other."""
        return self.clock() - self._created

    def begin(self, text: str, total: int | None = None) -> None:
        """A stage begins in this thread in place of the one that runs there."""
        with self._lock:
            stack = self._running.setdefault(threading.current_thread(), [])
            if stack:
                self._end(stack.pop())
            self._push(stack, text, total)

    @contextmanager
    def within(self, text: str) -> Iterator[None]:
        """A stage that runs in this thread for as long as the block; the one that runs there goes on behind it."""
        thread = threading.current_thread()
        with self._lock:
            stack = self._running.setdefault(thread, [])
            if stack:
                self._pause(stack[-1])
            depth = len(stack)
            self._push(stack, text, None)
        try:
            yield
        finally:
            with self._lock:
                for stage in stack[depth:]:
                    self._end(stage)
                del stack[depth:]
                if stack:
                    stack[-1].resumed = self.clock()
                elif thread in self._running:
                    del self._running[thread]

    def advance(self, count: float) -> None:
        """So many more images are done in the stage that counts them and began last."""
        with self._lock:
            if self._counted is not None:
                self._counted.count += count

    def end(self) -> None:
        """All stages end."""
        with self._lock:
            for stack in self._running.values():
                for stage in stack:
                    self._end(stage)
            self._running.clear()

    def list_running(self) -> list[tuple[Stage, float]]:
        """What each thread does, with the seconds that it has run."""
        with self._lock:
            for thread in [thread for thread in self._running if not thread.is_alive()]:
                for stage in self._running.pop(thread):
                    self._end(stage)
            now = self.clock()
            return [(stack[-1], stack[-1].seconds_until(now)) for stack in self._running.values()]

    def list_finished(self) -> list[tuple[str, float]]:
        """The stages that ended, in the order in which they began, with their seconds; those of one text are added up."""
        with self._lock:
            running = {stage.text for stack in self._running.values() for stage in stack}
            return [(text, seconds) for text, seconds in self._costs.items() if text not in running]

    def _push(self, stack: list[Stage], text: str, total: int | None) -> None:
        stage = Stage(plain(text), total, self.clock())
        stack.append(stage)
        self._costs.setdefault(stage.text, 0.0)
        if total is not None:
            self._counted = stage

    def _pause(self, stage: Stage) -> None:
        stage.seconds, stage.resumed = stage.seconds_until(self.clock()), None

    def _end(self, stage: Stage) -> None:
        self._pause(stage)
        self._costs[stage.text] += stage.seconds
        if self._counted is stage:
            self._counted = None


def describe(finished: Sequence[tuple[str, float]], duration: float) -> str:
    """What stages cost, in one line.

    >>> describe([("starting", 0.21), ("exporting", 1.13)], 1.34)
    'stages: starting 0.2 s, exporting 1.1 s; 1.3 s in all'
    """
    each = ", ".join(f"{text} {seconds:.1f} s" for text, seconds in finished)
    return f"stages: {each}; {duration:.1f} s in all"

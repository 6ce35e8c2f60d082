"""bnexport in a process of its own, with limits: what it reads can harm nothing but that process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from bnexport.errors import MachineError, UsageError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

INSIDE = "BNEXPORT_CONFINED"
"""Set in the environment of such a process."""

STARTED = "1"
"""What it is set to where a command runs once more, with the arguments that it was started with."""

PLANNED = "plan"
"""What it is set to where the arguments come from a plan, which says everything: no file and no other variable does."""

ENDED = 100
"""Added to the exit code of such a process where bnexport ended it: a Python that has no memory to start ends with 1, too."""

MOST_SECONDS = 10.0**8
"""The longest time limit: three years."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_SPARE = 60
"""Seconds of CPU time beyond what the time limit allows, before the system ends a process whose parent did not."""

_BEGUN = 10.0
"""Seconds after which a thread that has not begun never does."""

_GRACE = 5.0
"""Seconds to clean up in, after a process is asked to end."""


_SMALL = {"OPENBLAS_NUM_THREADS": "1"}
"""OpenBLAS, which NumPy and SciPy bring, asks for memory for each of its threads while it is imported.

Where a limit refuses, it asks for ever.
"""


def refuse_unusable(seconds: float, what: str) -> None:
    """Refuses a time limit that no clock can measure.

    Args:
        seconds: the limit.
        what: what the error calls it.

    Raises:
        UsageError: it is not above 0, not a number, or above `MOST_SECONDS`.
    """
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(
            f"{what} is invalid", found=f"{seconds:g}", expected=f"seconds, above 0 and at most {MOST_SECONDS:,.0f}"
        )


def start(arguments: Sequence[str], memory: int | None = None, seconds: float | None = None) -> subprocess.Popen[bytes]:
    """`bnexport ARGUMENTS` in a process of its own.

    Args:
        arguments: what it is asked.
        memory: the most memory it may take, in bytes; None for as much as the machine has.
        seconds: after that much time it is ended by its parent, and by the system where that is gone; None for never.

    Raises:
        MachineError: this system cannot limit a process.
    """
    return subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-P", "-m", "bnexport", *arguments],  # -P: nothing is imported from the current folder
        env={**(_SMALL if memory else {}), **os.environ, INSIDE: STARTED},
        preexec_fn=_limits(memory, (), seconds),
        start_new_session=True,
    )


def enter(cores: Collection[int] = (), seconds: float | None = None) -> None:
    """Puts this process under the same limits, in a session of its own; it ends with the process that asked for it.

    Args:
        cores: the CPU cores it may run on; empty for all.
        seconds: as in `start`.

    Raises:
        MachineError: this system cannot limit a process.
    """
    os.setsid()
    _limits(None, cores, seconds)()
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:  # forked by a server that lives as long as we do: its death says nothing, the asker's does
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ[INSIDE] = PLANNED


def watch_threads() -> None:
    """Makes threads that have no memory to begin an error in this process: Python waits for them for ever."""
    start = threading.Thread.start

    def start_or_raise(thread: threading.Thread) -> None:
        vars(thread)["_started"] = _Beginning()  # what `start` waits for
        start(thread)

    threading.Thread.start = start_or_raise  # type: ignore[assignment,method-assign]


class _Beginning(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:
        begun = super().wait(_BEGUN if timeout is None else timeout)
        if not begun and timeout is None:
            raise MemoryError("a thread could not begin")
        return begun


def _end_with(parent: BaseProcess) -> None:
    """Waits for the end of `parent`, then ends this process and everything it started."""
    from multiprocessing.connection import wait

    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


def _limits(memory: int | None, cores: Collection[int], seconds: float | None) -> Callable[[], None]:
    try:
        import resource
    except ImportError as error:
        raise MachineError("limiting a process requires Linux or macOS") from error
    system = ctypes.CDLL(None) if sys.platform == "linux" else None  # before the fork, after which little is safe
    most = min(memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), sys.maxsize)

    busy = None if seconds is None else int(seconds * (len(cores) or os.cpu_count() or 1) + _SPARE)

    def set_limits() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        if busy is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (busy, busy))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        if system is not None:
            system.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whoever waits for the answer is gone

    return set_limits


def end(child: subprocess.Popen[bytes]) -> None:
    """Ends a process: politely, then for good."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()

"""bnexport in a process of its own, with limits: what it reads can harm nothing but that process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from bnexport.errors import MachineError

INSIDE = "BNEXPORT_CONFINED"
"""Set in the environment of such a process."""

PLANNED = "plan"
"""What it is set to where the arguments come from a plan, which says everything: no file and no other variable does."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_GRACE = 5.0
"""Seconds to clean up in, once a process was told to end."""


def start(arguments: Sequence[str], memory: int | None = None) -> subprocess.Popen[bytes]:
    """`bnexport ARGUMENTS` in a process of its own.

    Args:
        arguments: what it is asked.
        memory: the most memory it may take, in bytes; None for as much as the machine has.

    Raises:
        MachineError: this system cannot limit a process.
    """
    return subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-m", "bnexport", *arguments],
        env={**os.environ, INSIDE: "1"},
        preexec_fn=_limits(memory, ()),
        start_new_session=True,
    )


def enter(cores: Collection[int] = ()) -> None:
    """Puts this process under the same limits, in a session of its own.

    Args:
        cores: the CPU cores it may run on; empty for all.

    Raises:
        MachineError: this system cannot limit a process.
    """
    os.setsid()
    _limits(None, cores)()
    os.environ[INSIDE] = PLANNED


def _limits(memory: int | None, cores: Collection[int]) -> Callable[[], None]:
    try:
        import resource
    except ImportError as error:
        raise MachineError("limits for a process need Linux or macOS") from error
    system = ctypes.CDLL(None) if sys.platform == "linux" else None  # before the fork, after which little is safe
    most = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        if system is not None:
            system.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whoever waits for the answer is gone

    return limited


def cores() -> list[int]:
    """The CPU cores this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def end(child: subprocess.Popen[bytes]) -> None:
    """Ends a process: politely, then for good."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()

"""`--untrusted`: the command runs again in a process of its own, with a limit of time and memory, so that a file can harm nothing but that process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from bnexport.errors import InputError, MachineError

_INSIDE = "BNEXPORT_CONFINED"
_GRACE = 5.0
"""Seconds to clean up in, once a process was told to end."""


def inside() -> bool:
    """Whether this process is the confined one."""
    return bool(os.environ.get(_INSIDE))


def run(seconds: float, memory: int | None) -> int:
    """Runs this command again, confined; returns its exit code.

    Args:
        seconds: the time limit.
        memory: the most memory it may take, in bytes; None for as much as the machine has.

    Raises:
        InputError: it took longer, or crashed.
        MachineError: this system cannot limit a process.
    """
    try:
        import resource
    except ImportError as error:
        raise MachineError("--untrusted needs a system that can limit processes (Linux or macOS)") from error
    most = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    command = [sys.executable, "-m", "bnexport", *sys.argv[1:]]
    child = subprocess.Popen(  # noqa: S603 - this very command
        command,
        env={**os.environ, _INSIDE: "1"},
        preexec_fn=limited,
        start_new_session=True,
    )
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired as error:
        _end(child)
        raise InputError(
            f"this took longer than {seconds:g} s and was ended",
            fix="if you trust the file, allow more with --time-limit",
        ) from error
    except KeyboardInterrupt:
        _end(child)
        raise
    if code < 0:
        name = signal.Signals(-code).name
        raise InputError(
            f"the process that read the file was ended by {name}",
            fix="the file is damaged, or made to do harm; or it needs more memory, see --memory-limit",
        )
    return code


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()

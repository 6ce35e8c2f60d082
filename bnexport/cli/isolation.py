"""`--isolate`: the command runs again in a process of its own, with a limit of time and memory."""

from __future__ import annotations

import os
import signal
import sys

from bnexport.errors import InputError


def is_isolated() -> bool:
    """Whether this process is the confined one."""
    from bnexport.system import confined

    return bool(os.environ.get(confined.INSIDE))


def run_isolated(seconds: float, memory: int | None) -> int:
    """Runs this command again, confined; returns its exit code.

    Args:
        seconds: the time limit.
        memory: the most memory it may take, in bytes; None for as much as the machine has.

    Raises:
        InputError: it took longer, or crashed.
        UsageError: the time limit is not usable.
        MachineError: this system cannot limit a process.
    """
    import subprocess

    from bnexport.system import confined

    confined.refuse_unusable(seconds, "--isolate-timeout")
    child = confined.start(sys.argv[1:], memory, seconds)
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired as error:
        confined.end(child)
        raise InputError(
            f"this took longer than {seconds:g} s and was ended",
            fix="if you trust the file, allow more with --isolate-timeout",
        ) from error
    except KeyboardInterrupt:
        confined.end(child)
        raise
    if code < 0:
        raise InputError(
            f"the process that read the file was ended by {signal.Signals(-code).name}",
            fix="the file is damaged, or made to do harm; or it needs more memory, see --isolate-memory",
        )
    return code

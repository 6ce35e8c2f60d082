"""`--isolate`: the command runs again in a process of its own, with a limit of time and memory."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass

from bnexport.cli.exit_codes import INTERRUPTED
from bnexport.errors import InputError, MachineError
from bnexport.results.option_values import parse_size
from bnexport.results.options import ISOLATION, Flag, option


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """Whether and how a command runs in a process of its own."""

    isolate: bool = option(
        Flag(
            name="isolate",
            kind=bool,
            default=False,
            panel=ISOLATION,
            help="Run in a separate process with limits on time and memory. Use it for files from others. It does not "
            "restrict access to files or the network.",
        )
    )
    timeout: float = option(
        Flag(
            name="isolate-timeout",
            kind=float,
            default=600,
            least=1,
            metavar="SECONDS",
            panel=ISOLATION,
            help="The longest time that the separate process may take, in seconds. Used with --isolate.",
        )
    )
    memory: int | None = option(
        Flag(
            name="isolate-memory",
            metavar="SIZE",
            panel=ISOLATION,
            read=parse_size,
            help="The largest amount of memory that the separate process may use, for example 500MB or 8GiB. A plain "
            "number is in bytes. By default it is the memory of the machine. Used with --isolate.",
        )
    )

    @property
    def wanted(self) -> bool:
        """Whether this process is the one that has to start the other."""
        return self.isolate and not is_isolated()

    def run(self) -> int:
        """Runs this command again, confined; returns its exit code."""
        return run_isolated(self.timeout, self.memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIsolation(Isolation):
    """The same for a command that reads images."""

    allow_remote: bool = option(
        Flag(
            name="allow-remote",
            kind=bool,
            default=False,
            panel=ISOLATION,
            help="Read images from URLs, and from files outside of the folder or manifest that names them. Used with "
            "--isolate, which refuses both otherwise.",
        )
    )

    @property
    def local(self) -> bool:
        """Whether only images of the folder or manifest that was named are read."""
        return self.isolate and not self.allow_remote


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
        MachineError: it did not start.
        UsageError: the time limit is invalid.
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
        _clean_line()
        raise InputError(
            f"this took longer than {seconds:g} s and was ended",
            fix="if you trust the file, allow more with --isolate-timeout",
        ) from error
    except KeyboardInterrupt:
        confined.end(child)
        if child.returncode == INTERRUPTED + confined.ENDED:
            return INTERRUPTED  # and has written so
        _clean_line()
        raise
    if code < 0:
        _clean_line()
        raise InputError(
            f"the process that read the file was ended by {signal.Signals(-code).name}",
            fix="the file is damaged, or made to do harm; or it needs more memory, see --isolate-memory",
        )
    if code < confined.ENDED:
        raise MachineError(
            f"the process that was to read the file ended by itself with exit code {code}",
            fix="it may need more memory, see --isolate-memory",
        )
    return code if code == INTERRUPTED else code - confined.ENDED


def _clean_line() -> None:
    """Shows the cursor of the terminal, and empties its line: what drew there may have been killed."""
    if sys.stderr.isatty():
        print("\r\x1b[K\x1b[?25h", end="", file=sys.stderr, flush=True)

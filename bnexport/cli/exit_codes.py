"""The one place that maps what went wrong to a sentence on stderr and an exit code."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec

import typer

from bnexport.errors import BnexportError
from bnexport.results.text import plain
from bnexport.system import machine, quiet

P = ParamSpec("P")

INTERRUPTED = 130
INTERRUPTION = "interrupted; nothing was left half written"
INTERNAL = 70


def with_exit_code(command: Callable[P, int]) -> Callable[P, None]:
    """A command that returns its exit code, made into one that never shows a traceback (unless BNEXPORT_DEBUG is set)."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(code_of(functools.partial(command, *args, **kwargs)))

    return run


def code_of(command: Callable[[], int]) -> int:
    """The exit code of a command; what goes wrong in it is a sentence on stderr."""
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return print_error(INTERRUPTION, INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - whatever it is, a command ends with a sentence and a code
        return report_error(error)
    return code


def report_error(error: Exception) -> int:
    """Reports what ended a command; returns its code. With BNEXPORT_DEBUG, what nobody expected is raised again."""
    if isinstance(error, BnexportError):
        return print_error(str(error), error.exit_code)
    if machine.is_out_of_memory(error):
        error.__traceback__ = error.__context__ = None  # frees what the frames hold: the sentence takes memory, too
        kind = "" if isinstance(error, MemoryError) else type(error).__name__
        return report_error(machine.lack_of_memory("the command", kind))
    if os.environ.get("BNEXPORT_DEBUG"):
        raise error
    return _system(error) if isinstance(error, OSError) and error.errno in _SYSTEM else _internal(error)


_SYSTEM = {
    errno.ENAMETOOLONG: 2,
    errno.ELOOP: 2,
    errno.ENOSPC: 3,
    errno.EDQUOT: 3,
    errno.EROFS: 3,
    errno.EIO: 3,
    errno.EMFILE: 3,
    errno.ENFILE: 3,
    errno.ENOMEM: 3,
}
"""What the operating system may refuse anywhere, and the exit code: a path that nobody can open, or a machine at its end."""


def _system(error: OSError) -> int:
    """Reports what the operating system refused, whatever was being done; returns its code."""
    from bnexport.system.files import shorten

    about = "a file" if error.filename is None else shorten(Path(os.fsdecode(error.filename)))
    return print_error(f"cannot use {about} ({error.strerror})", _SYSTEM[error.errno or 0])


def _internal(error: Exception) -> int:
    """Reports an error that nobody expected; returns its code."""
    kind = type(error).__name__
    first = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return print_error(
        f"internal error ({kind}: {first}); run again with BNEXPORT_DEBUG=1 for the traceback and report it",
        INTERNAL,
    )


def print_error(sentence: str, code: int) -> int:
    """Says a sentence on stderr, what cannot be printed escaped; returns the code."""
    with suppress(OSError, BnexportError):  # stderr is full or gone: the exit code is what is left
        quiet.show_output()
        print(f"bnexport: {plain(sentence)}", file=sys.stderr)
    return code

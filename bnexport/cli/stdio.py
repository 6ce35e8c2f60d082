"""stdout and stderr of a command: they are open, and a reader that goes away does not change the exit code.

A shell may close them (`>&-`), their reader may go (`| head -1`), and the disk behind them may be full. The first two
do not change the exit code, which stays that of the verdict. The last one is a MachineError: the result could not be written.

What the encoding of a stream lacks is printed as an escape. JSON and XML are printed by `print_json` and `print_xml`, whose escapes
are those of the format.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from bnexport.errors import MachineError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Descriptor(io.FileIO):
    """A file descriptor whose reader may go: what is written from then on is dropped."""

    def write(self, content: ReadableBuffer, /) -> int:
        """Writes, or drops what nobody reads.

        Raises:
            MachineError: it cannot be written, for another reason.
        """
        try:
            return super().write(content)
        except BrokenPipeError:
            _open_null(self.fileno())
            return memoryview(content).nbytes
        except BlockingIOError:
            raise
        except OSError as error:
            number = self.fileno()
            _open_null(number)  # what is still in the buffer cannot raise again
            name = "standard output" if number == 1 else "standard error"
            raise MachineError(f"cannot write to {name} ({error.strerror})") from error


class _AsciiText(io.TextIOWrapper):
    """A stream in ASCII that hides the bytes behind it: the library that prints help and errors of usage would write UTF-8 there."""

    @property
    def buffer(self) -> NoReturn:
        """There is none.

        Raises:
            AttributeError: always.
        """
        raise AttributeError("a stream in ASCII takes text")


def prepare() -> None:
    """Opens what is closed, and makes stdout and stderr survive their readers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _open_null(number)
    sys.stdin = sys.stdin or open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - lives as long as the process
    sys.stdout = _stream(1, sys.stdout)
    sys.stderr = _stream(2, sys.stderr)


class MainThreadStdout:
    """A stdout for the main thread only: what other threads write goes to stderr.

    Args:
        stream: stdout.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes text to stdout from the main thread, and to stderr from any other."""
        main = threading.current_thread() is threading.main_thread()
        return (self._stream if main else sys.stderr).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def redirect_other_threads() -> None:
    """Sends what other threads write to stdout to stderr from now on: Ray reports lost nodes from a thread of its own."""
    if not isinstance(sys.stdout, MainThreadStdout):
        sys.stdout = MainThreadStdout(sys.stdout)


def print_json(text: str) -> None:
    """Prints JSON on stdout: in UTF-8, and where stdout has another encoding in ASCII, with the escapes of JSON."""
    print(text if _is_utf8(sys.stdout) else _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text), flush=True)


def print_xml(text: str) -> None:
    """Prints XML that declares UTF-8 on stdout: in UTF-8, and where stdout has another encoding in ASCII, with character references."""
    print(text if _is_utf8(sys.stdout) else text.encode("ascii", "xmlcharrefreplace").decode("ascii"), flush=True)


_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def _is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")


def _stream(number: int, old: object) -> io.TextIOWrapper:
    buffer: Any = io.BufferedWriter(_Descriptor(number, "w", closefd=False))
    encoding = getattr(old, "encoding", None) or "utf-8"
    errors = getattr(old, "errors", None) or "strict"
    if number == 2 or errors in _RAISING:
        errors = "backslashreplace"
    lines = number == 2 or os.isatty(number)
    kind = _AsciiText if codecs.lookup(encoding).name == "ascii" else io.TextIOWrapper
    return kind(buffer, encoding=encoding, errors=errors, line_buffering=lines, write_through=number == 2)


_RAISING = ("strict", "surrogateescape")
"""Handlers of what cannot be encoded that may raise an error; the user can name any other in PYTHONIOENCODING."""


def _open_null(number: int) -> None:
    """Puts the null device behind a descriptor."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)

"""Commands whose stderr, and stdout where that is wanted, is a terminal, and what such a terminal shows in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

BNEXPORT = str(Path(sys.executable).with_name("bnexport"))
SEQUENCE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)")
"""Control sequences of ECMA-48, and links."""


@dataclass
class Screen:
    """As much of a terminal as rich uses: it moves up and to the left, empties lines, and shows and hides the cursor."""

    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    cursor: bool = True

    def write(self, text: str) -> None:
        """Shows what was written."""
        at = 0
        while at < len(text):
            if match := SEQUENCE.match(text, at):
                self._control(match)
                at = match.end()
                continue
            self._put(text[at])
            at += 1

    def _put(self, character: str) -> None:
        if character == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif character == "\r":
            self.column = 0
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    def _control(self, match: re.Match[str]) -> None:
        private, number, letter = match[1], match[2], match[3]
        if private and number == "25":
            self.cursor = letter == "h"
        elif letter == "A":
            self.row = max(0, self.row - int(number or 1))
        elif letter == "K":
            self.lines[self.row] = "" if number == "2" else self.lines[self.row][: self.column]
        elif letter not in ("m", None):
            raise AssertionError(f"the terminal of the tests does not know {match[0]!r}")

    @property
    def text(self) -> str:
        """What is seen in the end."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


@dataclass
class Shown:
    """What came of a command on a terminal.

    Args:
        code: its exit code.
        answer: what it wrote to stdout, where that is no terminal.
        written: everything that it wrote to the terminal.
        seconds: from the signal, or else from the start, to its end.
    """

    code: int
    answer: bytes
    written: str
    seconds: float

    @property
    def screen(self) -> Screen:
        """The terminal in the end."""
        screen = Screen()
        screen.write(self.written)
        return screen


def run_on_terminal(
    *arguments: object,
    both: bool = False,
    interrupt_at: str = "",
    size: tuple[int, int] = (24, 100),
    number: signal.Signals = signal.SIGINT,
    program: tuple[str, ...] = (BNEXPORT,),
) -> Shown:
    """Runs a command whose stderr is a terminal.

    Args:
        arguments: of the command.
        both: whether stdout is the same terminal.
        interrupt_at: once this was written, the command gets a signal; "" for none.
        size: lines and columns.
        number: the signal.
        program: what is run.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    started = time.monotonic()
    process = subprocess.Popen(
        [*program, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=theirs if both else subprocess.PIPE,
        stderr=theirs,
        env={**variables, "TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    answer: list[bytes] = []

    def collect() -> None:
        if process.stdout is not None:
            with process.stdout as stream:
                answer.append(stream.read())

    reader = threading.Thread(target=collect)
    reader.start()
    written = b""
    try:
        while chunk := _read(ours):
            written += chunk
            if interrupt_at and interrupt_at.encode() in written:
                interrupt_at, started = "", time.monotonic()
                process.send_signal(number)
        code = process.wait(timeout=30)
    finally:
        process.kill()
        os.close(ours)
    seconds = time.monotonic() - started
    reader.join(30)
    return Shown(code, b"".join(answer), written.decode(), seconds)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux: all ends that write are closed
        return b""

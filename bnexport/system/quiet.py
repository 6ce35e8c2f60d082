"""Libraries that print while they load, kept off the terminal (no framework enters here)."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

_lock = threading.Lock()
_holders = 0
_saved: tuple[int, int] | None = None
_captured: BinaryIO | None = None


@contextmanager
def hold_native_output() -> Iterator[None]:
    """Holds back what native code writes to stdout and stderr; where the block fails, BNEXPORT_DEBUG shows it.

    Libraries print names out of models as they are, control characters included: nobody sees it who did not ask.
    File descriptors 1 and 2 are the whole process': while any thread holds them, they are held, and what is to be seen in the
    meantime goes to `open_stderr`.
    """
    global _holders
    with _lock:
        if _holders == 0:
            _begin()
        _holders += 1
    try:
        yield
    except Exception:
        if os.environ.get("BNEXPORT_DEBUG"):
            _show_captured()
        raise
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _end()


def show_output() -> None:
    """Ends all holding now: something is to be printed, and whoever still holds the output works for nobody any more."""
    with _lock:
        _end()


def open_stderr() -> int:
    """A file descriptor of stderr that is never held."""
    with _lock:
        return os.dup(_saved[1] if _saved is not None else 2)


def _begin() -> None:
    global _saved, _captured
    sys.stdout.flush()
    sys.stderr.flush()
    _saved = os.dup(1), os.dup(2)
    _captured = tempfile.TemporaryFile()  # noqa: SIM115 - it is open for as long as anybody holds the output
    os.dup2(_captured.fileno(), 1)
    os.dup2(_captured.fileno(), 2)


def _end() -> None:
    global _saved, _captured
    if _saved is None or _captured is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    for number, copy in zip((1, 2), _saved, strict=True):
        os.dup2(copy, number)
        os.close(copy)
    _captured.close()
    _saved = _captured = None


def _show_captured() -> None:
    with _lock:
        if _saved is None or _captured is None:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        _captured.seek(0)
        os.write(_saved[1], _printable(_captured.read()))


def _printable(content: bytes) -> bytes:
    """What was written, with control characters but line breaks as escapes, and no line a command of a log."""
    lines = content.decode("utf-8", "backslashreplace").splitlines()
    shown = ("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line) for line in lines)
    return "".join(f"  {line}\n" for line in shown).encode()

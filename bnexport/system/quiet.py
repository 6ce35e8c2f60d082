"""Libraries that print while they load, kept off the terminal (no framework enters here)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bnexport.system.exclusive import PROCESS


@contextmanager
def hold_native_output() -> Iterator[None]:
    """Holds back what native code writes to stdout and stderr; where the block fails, BNEXPORT_DEBUG shows it.

    Libraries print names out of models as they are, control characters included: nobody sees it who did not ask.
    File descriptors 1 and 2 are the whole process': threads wait for each other.
    """
    with PROCESS:
        yield from _hold()


def _hold() -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as captured:
        try:
            os.dup2(captured.fileno(), 1)
            os.dup2(captured.fileno(), 2)
            yield
        except Exception:
            sys.stdout.flush()
            sys.stderr.flush()
            if os.environ.get("BNEXPORT_DEBUG"):
                os.dup2(saved[1], 2)
                captured.seek(0)
                os.write(2, _printable(captured.read()))
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def _printable(content: bytes) -> bytes:
    """What was written, with control characters but line breaks as escapes, and no line a command of a log."""
    lines = content.decode("utf-8", "backslashreplace").splitlines()
    shown = ("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line) for line in lines)
    return "".join(f"  {line}\n" for line in shown).encode()

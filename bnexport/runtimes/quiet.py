"""Libraries that print while they load, kept off the terminal (no framework enters here)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bnexport.runtimes.exclusive import PROCESS


@contextmanager
def native_output_held() -> Iterator[None]:
    """Holds back what native code writes to stdout and stderr; where the block fails, stderr gets all of it.

    File descriptors 1 and 2 are the whole process': threads wait for each other.
    """
    with PROCESS:
        yield from _held()


def _held() -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as held:
        try:
            os.dup2(held.fileno(), 1)
            os.dup2(held.fileno(), 2)
            yield
        except Exception:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[1], 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)

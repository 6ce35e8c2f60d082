"""Imports of large libraries: without what they import only where it is installed, and without searching them for garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_own = False


def own_process() -> None:
    """Notes that this process runs a command, or serves one, and no program of a user's."""
    global _own
    _own = True


@contextmanager
def leave_out(names: Sequence[str]) -> Iterator[None]:
    """Lets imports inside the block go on as if some packages were not installed; afterwards they can be imported as ever.

    A process that is not bnexport's own is left as it is: what was imported so lacks its functions for these packages for good.

    Args:
        names: top-level packages; those that are imported already stay.
    """
    hidden = [name for name in names if _own and name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None is Python's own mark for what cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def without_collection() -> Iterator[None]:
    """Pauses the search for reference cycles: what a library makes while it is imported stays, and to go through it again and again takes a second.

    In a process that is bnexport's own, nothing that is there afterwards is searched later either.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _own:
            gc.freeze()
        if enabled:
            gc.enable()

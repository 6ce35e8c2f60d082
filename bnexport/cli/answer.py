"""stdout is the answer, whatever the threads of a library print."""

from __future__ import annotations

import sys
import threading
from typing import Any, TextIO


class Answer:
    """A stdout that only the main thread reaches; what others write goes to stderr.

    Args:
        stream: stdout.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes text to where the thread may write."""
        main = threading.current_thread() is threading.main_thread()
        return (self._stream if main else sys.stderr).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def keep_clean() -> None:
    """From now on only the main thread reaches stdout (Ray tells of lost nodes there, from a thread of its own)."""
    if not isinstance(sys.stdout, Answer):
        sys.stdout = Answer(sys.stdout)

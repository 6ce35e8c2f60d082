"""How a job says what it is doing. This one is silent; the command line has one that draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Notified by a job where it is. Every method may be ignored."""

    def stage(self, text: str) -> None:
        """A new stage begins; its length is unknown."""

    @contextmanager
    def stage_within(self, text: str) -> Iterator[None]:
        """A stage in the middle of another, or beside others in a thread of its own, for as long as the block runs."""
        self.stage(text)
        yield

    def note(self, text: str) -> None:
        """Something worth a line that stays."""

    def start(self, text: str, total: int) -> None:
        """A new stage of `total` images begins."""

    def advance(self, count: float) -> None:
        """So many more images are done."""

"""How fast each run computes, beside what it computes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of one run at one batch size.

    Args:
        side: the id of the run.
        batch: the number of items in a batch.
        seconds: the shortest time that a batch took, of several that were interleaved with those of the other runs.
        ratio: how much faster than onnxruntime on the CPU, 2.0 for twice as fast; None where that did not run.
    """

    side: str
    batch: int
    seconds: float
    ratio: float | None

    @property
    def per_second(self) -> float:
        """Items per second."""
        return self.batch / self.seconds

"""What a check tried beyond the data as they are: the same input again, other batch sizes and sizes, items of zeros and of NaN."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SweepOutcome(StrEnum):
    """What became of one case of a sweep."""

    PASSED = "passed"
    FAILED = "failed"
    DIFFERS = "differs"
    """Raises a warning, because the run and the reference differ in how they handle values that are not finite."""
    UNDECIDED = "undecided"
    """The run and the reference differ, and the reference itself moves as much where its input moves by rounding."""
    REFUSED = "not taken by the reference"
    """The reference does not run on such an input, so that nothing is expected of the file."""
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class SweepCase:
    """One input that a run was tried on; truthy unless it failed.

    Args:
        group: "repeat", "batch", "size", "zeros" or "nan".
        case: what was tried, in words.
        side: the id of the run; "" where it holds for all runs.
        outcome: what became of it.
        max_rel: the largest error of the output that decides, relative to its scale; None where nothing was compared.
        tolerance: the largest error of that output that passes; None likewise.
        reason: why it did not pass, or what else is to be known; "" where there is nothing.
    """

    group: str
    case: str
    side: str
    outcome: SweepOutcome
    max_rel: float | None = None
    tolerance: float | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.outcome != SweepOutcome.FAILED

"""What several rules read from comparisons that failed, and from labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnexport.results.verdict import Comparison

DEVIATIONS = 2.0
"""Answers are lost where more are lost than so many standard deviations of a sign test,"""

LOST = 0.02
"""and more than this share of the labelled images."""


def fewer_right(gained: int, lost: int, labelled: int) -> bool:
    """Whether `lost` answers that were right, against `gained` ones that were wrong before, are more than chance explains.

    >>> fewer_right(0, 2, 10), fewer_right(0, 5, 10)
    (False, True)
    """
    return lost - gained > max(DEVIATIONS * math.sqrt(gained + lost), LOST * labelled)


@dataclass(frozen=True, slots=True)
class Right:
    """How many of `labelled` images each mode gets right; `only_training` and `only_inference` by one mode alone."""

    labelled: int
    inference: int
    training: int
    only_inference: int
    only_training: int

    @property
    def lost(self) -> bool:
        """Whether inference mode gets fewer right than chance explains."""
        return fewer_right(self.only_inference, self.only_training, self.labelled)


def evidence_of(failed: Sequence[Comparison]) -> dict[str, object]:
    """The numbers of the comparison that failed, and the names of the others."""
    first = failed[0]
    difference = first.difference
    return {
        "actual": first.actual,
        "reference": first.reference,
        "tensor": first.tensor,
        "also": [c.tensor for c in failed[1:]],
        "max_abs": difference.max_abs,
        "max_rel": difference.max_rel,
        "noise_floors": first.noise_floors,
        "tolerance": first.tolerance,
        "worst_image": difference.worst_image,
    }


def describe(failed: Sequence[Comparison]) -> str:
    """The comparison that failed, in words."""
    first = failed[0]
    return f"{first.tensor} of {first.actual} against {first.reference}: {first.reason}"

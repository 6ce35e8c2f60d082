"""Whether labels count classes in another order than answers do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST = 5
"""A class counts as exchanged from so many of its items on,"""

SHARE = 0.8
"""of which at least so many are answered with the one other class."""


def find_label_order(labels: Sequence[int], answers: Sequence[int]) -> dict[int, int]:
    """The classes that are exchanged: for each the one with which its items are answered; empty where there are none.

    Args:
        labels: the class of each item by its label, -1 where it has none.
        answers: the class that a model gives it, -1 where it gives none.

    >>> find_label_order([0] * 5 + [1] * 5 + [2] * 5, [1] * 5 + [0] * 5 + [2] * 5)
    {0: 1, 1: 0}
    >>> find_label_order([0] * 5 + [1] * 5, [1] * 10)
    {}
    """
    of_items, given = np.asarray(labels, np.int64), np.asarray(answers, np.int64)
    moved: dict[int, int] = {}
    for own in np.unique(of_items[of_items >= 0]).tolist():
        others, counts = np.unique(given[of_items == own], return_counts=True)
        other = int(others[counts.argmax()])
        if other not in (own, -1) and counts.sum() >= FEWEST and counts.max() >= SHARE * counts.sum():
            moved[own] = other
    while dropped := [own for own in moved if own not in moved.values() or moved[own] not in moved]:
        for own in dropped:  # a class that nothing takes the place of is answered wrongly, not exchanged
            del moved[own]
    return moved if len({*moved.values()}) == len(moved) else {}

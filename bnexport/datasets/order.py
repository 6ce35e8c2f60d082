"""Which of some items are taken, and in which order: the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shuffled_order(count: int) -> NDArray[np.intp]:
    """The positions below `count` in the fixed order in which a check runs its items.

    Training mode normalises by the batch, so that its batches have to be like those of `fit`, which shuffles: data that are sorted by class would
    give batches of one class. The order depends on `count` only. NumPy promises that the stream of a bit generator never changes
    (NEP 19), so that it is the same on every machine.

    >>> shuffled_order(8).tolist()
    [0, 3, 7, 5, 1, 2, 6, 4]
    """
    return np.argsort(np.random.Philox(0).random_raw(count), kind="stable")


def spread(total: int, count: int, multiple: int | None) -> NDArray[np.intp]:
    """At most `count` positions below `total`, evenly spread; with `multiple` so many or a multiple of it, where need be some of them again."""
    rows = np.unique(np.linspace(0, total - 1, min(total, max(1, count))).round().astype(np.intp))
    if multiple is None:
        return rows
    return np.resize(rows, max(multiple, len(rows) // multiple * multiple))

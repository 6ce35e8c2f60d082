"""Rows of the HTML report in several orders, because a page without a script cannot sort them, and bars that are drawn in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bnexport.results.verdict import Comparison, LayerError

FEW = 5
"""So many rows are not sorted: a reader sees them all."""

MOST = 200
"""So many rows an order has, but for the first one, which has all."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Order(Generic[Row]):
    """Rows in one order.

    Args:
        title: by what they are sorted.
        rows: the rows.
        left_out: how many rows follow.
    """

    title: str
    rows: tuple[Row, ...]
    left_out: int = 0


def orders(rows: Sequence[Row], title: str, keys: Mapping[str, Callable[[Row], float | str]]) -> tuple[Order[Row], ...]:
    """Rows as they are, and in other orders where there are more than `FEW`.

    Args:
        rows: the rows.
        title: what their own order is called.
        keys: by title, what they are sorted by.
    """
    others = [Order(by, tuple(sorted(rows, key=key)[:MOST]), max(0, len(rows) - MOST)) for by, key in keys.items()]
    return (Order(title, tuple(rows)), *(others if len(rows) > FEW else ()))


def by_excess(row: Comparison | LayerError) -> float:
    """Sorts what is furthest beyond its tolerance first, what could not be compared before all, unknown layers last."""
    if isinstance(row, LayerError):
        return -_times(row.max_rel, row.tolerance) if row.known else math.inf
    return -_times(row.difference.max_rel, row.tolerance)


def reach(error: float, tolerance: float) -> int | None:
    """How long the bar of an error is, in percent: a logarithm, with 0 for a hundredth of the tolerance and 100 for 10,000 times it.

    >>> reach(1e-6, 1e-6), reach(1e-2, 1e-6), reach(0.0, 1e-6)
    (33, 100, 0)
    """
    times = _times(error, tolerance)
    if not 0 < tolerance < math.inf:
        return None
    return 0 if not times else 100 if math.isinf(times) else min(100, max(0, round(100 * (math.log10(times) + 2) / 6)))


def _times(error: float, tolerance: float) -> float:
    if math.isnan(error):
        return math.inf
    return error / tolerance if tolerance else math.inf if error else 0.0

"""What the rows of an output say about the images of a batch."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.datasets.feeds import Feed
from bnexport.results.verdict import Comparison


class Items:
    """The names and classes of the items of a check, which arrive in another order than that of the list they come from."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._positions = array("q")
        self.seen_labels = array("i")  # four bytes an image, where objects would take forty

    def __len__(self) -> int:
        """How many arrived."""
        return len(self._names)

    def add(self, feed: Feed, labels: NDArray[np.int64]) -> Sequence[int]:
        """One more batch; returns where its items stand in the list."""
        seen = len(self._names)
        positions = range(seen, seen + len(feed.names)) if feed.positions is None else feed.positions
        self._names += feed.names
        self._positions.extend(positions)
        self.seen_labels.extend(labels.tolist())
        return positions

    @property
    def order(self) -> NDArray[np.intp]:
        """What arrived, sorted as in the list."""
        return np.argsort(np.array(self._positions, np.int64), kind="stable")

    @property
    def names(self) -> list[str]:
        """Their names, in the order of the list."""
        return [self._names[row] for row in self.order]

    @property
    def labels(self) -> Sequence[int]:
        """Their classes, -1 where unknown, in the order of the list."""
        return in_order(self.seen_labels, self.order)

    def placed(self, comparison: Comparison) -> Comparison:
        """A comparison whose worst image is counted in the order of the list."""
        order, worst = self.order, comparison.difference.worst_image
        if not comparison.difference.images or worst >= len(
            order
        ):  # outputs may have other rows than one for each item
            return comparison
        rank = int(np.flatnonzero(order == worst)[0])
        return replace(comparison, difference=replace(comparison.difference, worst_image=rank))


def in_order(values: array[Any], order: NDArray[np.intp]) -> Sequence[Any]:
    """One value for each item, taken in the given order, in an array of the same type."""
    return array(values.typecode, np.array(values)[order].tobytes()) if values else values


def broken_rows(x: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which of `count` images have a value that is not finite; all of them where the tensor has no axis for images."""
    if x.dtype.kind not in "fc" or np.isfinite(x).all():
        return np.zeros(count, np.bool_)
    if x.ndim == 0 or len(x) != count:
        return np.ones(count, np.bool_)
    return np.asarray(~np.isfinite(x).reshape(count, -1).all(axis=1))


def confidence(probabilities: NDArray[Any], found: NDArray[np.int64]) -> NDArray[Any]:
    """The probability of each image's class, from probabilities of shape (N, K) and the classes of shape (N,)."""
    if probabilities.shape[1] > 1:
        return np.take_along_axis(probabilities, np.maximum(found, 0)[:, None], axis=1)[:, 0]
    return np.where(found == 1, probabilities[:, 0], 1 - probabilities[:, 0])


def allowed(comparison: Comparison, *, answers: bool = True) -> Comparison:
    """A comparison that may fail, but for tensors that cannot be compared and, with `answers`, other answers."""
    if comparison or not comparison.difference.images:
        return comparison
    if answers and comparison.top1_agreement not in (None, 1.0):
        return comparison
    return replace(comparison, passed=True, tolerance=float("inf"), reason="")

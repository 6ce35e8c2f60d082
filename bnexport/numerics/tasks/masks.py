"""How far two segmentations are apart: the class of each pixel.

The IoU of a class is the number of pixels that have it on both sides, divided by the number that have it on either. The mean is over the
classes that occur on either side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError
from bnexport.results.tasks import OutputKind, TaskResult
from bnexport.types import Array

MOST_CLASSES = 10_000
"""With more classes there is no mean IoU: the numbers are no classes then."""

_NOT_FINITE = (-1, -2)
"""The class of a pixel with a value that is not finite, on both sides: it agrees with nothing."""


class MaskAgreement:
    """The masks of two runs. Feed it batches, then ask for the `result`.

    Args:
        axis: of the classes; None where the shape shows it (`classes_of`).
        threshold: pixels of a mask with one channel are set above it.
    """

    def __init__(self, axis: int | None = None, threshold: float = 0.5) -> None:
        self._axis, self._threshold = axis, threshold
        self._items = self._pixels = self._same = 0
        self._worst, self._worst_item = math.inf, 0
        self._shared: dict[int, int] = {}
        self._counts: dict[int, int] = {}

    def add(self, actual: Array, reference: Array) -> None:
        """One more batch.

        Raises:
            InputError: the shapes differ, or are no masks.
        """
        a, r = (
            classes_of(x, self._axis, self._threshold, broken)
            for x, broken in zip((actual, reference), _NOT_FINITE, strict=True)
        )
        if a.shape != r.shape or not r.size:
            raise InputError("the masks have other shapes", found=str(a.shape), expected=str(r.shape))
        same = a == r
        by_item = same.reshape(len(same), -1).mean(axis=1)
        if by_item.min() < self._worst:
            self._worst, self._worst_item = float(by_item.min()), self._items + int(by_item.argmin())
        self._items += len(same)
        self._pixels += same.size
        self._same += int(np.count_nonzero(same))
        if len(self._counts) <= MOST_CLASSES:
            _count(self._shared, r[same])
            _count(self._counts, a)
            _count(self._counts, r)

    def result(self) -> TaskResult:
        """The share of pixels that get the same class, over all batches so far."""
        classes = {c: n - self._shared.get(c, 0) for c, n in self._counts.items() if c not in _NOT_FINITE}
        shares = [self._shared.get(c, 0) / union for c, union in classes.items()]
        agreement = self._same / self._pixels if self._pixels else None
        return TaskResult(
            OutputKind.MASK,
            {
                "pixel_agreement": agreement,
                "mean_iou": sum(shares) / len(shares) if shares and len(shares) <= MOST_CLASSES else None,
                "classes": len(shares),
                "worst_agreement": self._worst if self._items else None,
                "worst_item": self._worst_item,
            },
            agreement,
        )


def classes_of(x: Array, axis: int | None = None, threshold: float = 0.5, broken: int = -1) -> NDArray[np.int64]:
    """The class of each pixel: the largest score, with one channel whether it is above a threshold; of integers they themselves.

    Args:
        x: scores of shape (N, ..., K) or (N, K, ...); one score for each pixel, or its class as an integer: shape (N, H, W), or the same
            with an axis of length 1.
        axis: of the classes; None for an axis of length 1, otherwise the smaller one of the second and the last.
        threshold: of a single score.
        broken: the class of a pixel with a score that is not finite.

    Returns:
        Shape (N, ...) without the axis of the classes.

    Raises:
        InputError: there are fewer than three axes.

    >>> classes_of(np.array([[[[0.2], [0.8]], [[0.7], [0.3]]]])).tolist()
    [[[0, 1], [1, 0]]]
    """
    if x.ndim < 3 or x.dtype.kind not in "biuf":
        raise InputError(
            f"an output of shape {x.shape} and dtype {x.dtype} is no mask",
            expected="(N, H, W, K), (N, K, H, W) or (N, H, W)",
        )
    if axis is None and x.ndim > 3:
        last = x.ndim - 1
        axis = min((last, 1), key=lambda a: x.shape[a])
        if x.dtype.kind != "f" and x.shape[axis] != 1:
            axis = None
    if axis is not None:
        if not -x.ndim <= axis < x.ndim or axis % x.ndim == 0:
            raise InputError(f"an output of shape {x.shape} has no classes in axis {axis}")
        if x.shape[axis] != 1:
            bad = ~np.isfinite(x).all(axis=axis)
            return np.where(bad, broken, np.argmax(x, axis=axis)).astype(np.int64)
        x = np.squeeze(x, axis=axis)
    if x.dtype.kind != "f":
        return x.astype(np.int64)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(x), np.greater(x, threshold), broken).astype(np.int64)


def _count(counts: dict[int, int], labels: NDArray[np.int64]) -> None:
    labels = labels.ravel()
    if labels.size and labels.min() >= 0 and labels.max() <= MOST_CLASSES:  # several times as fast
        table = np.bincount(labels)
        classes = np.flatnonzero(table)
        amounts = table[classes]
    else:
        classes, amounts = np.unique(labels, return_counts=True)
    for label, amount in zip(classes.tolist(), amounts.tolist(), strict=True):
        counts[label] = counts.get(label, 0) + amount

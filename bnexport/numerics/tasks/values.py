"""How far two predictions of numbers are apart, in their own unit."""

from __future__ import annotations

import math

import numpy as np

from bnexport.errors import InputError
from bnexport.results.tasks import OutputKind, TaskResult
from bnexport.types import Array


class ValueAgreement:
    """The numbers of two runs. Feed it batches, then ask for the `result`.

    Args:
        unit: of the numbers; "" where it is not stated.
    """

    def __init__(self, unit: str = "") -> None:
        self._unit = unit
        self._items = self._values = 0
        self._sum = self._largest = 0.0
        self._worst_item = 0

    def add(self, actual: Array, reference: Array) -> None:
        """One more batch, both of shape (N, ...).

        Raises:
            InputError: the shapes differ, or there are no numbers.
        """
        if actual.shape != reference.shape or not reference.size or reference.dtype.kind not in "biuf":
            raise InputError(
                f"outputs of shapes {actual.shape} and {reference.shape} are no values of the same items",
                expected="numbers of shape (N, ...)",
            )
        a, r = (np.asarray(x, np.float64).reshape(len(x) if x.ndim else 1, -1) for x in (actual, reference))
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.where(a == r, 0.0, np.abs(a - r))
        by_item = np.nan_to_num(apart.max(axis=1), nan=np.inf)
        if by_item.max() > self._largest:
            self._largest, self._worst_item = float(by_item.max()), self._items + int(by_item.argmax())
        self._items += len(r)
        self._values += r.size
        self._sum += float(np.nan_to_num(apart, nan=np.inf).sum())

    def result(self) -> TaskResult:
        """The errors over all batches so far; infinite where a value is not finite on one side."""
        return TaskResult(
            OutputKind.VALUES,
            {
                "mean_error": self._sum / self._values if self._values else math.nan,
                "largest_error": self._largest,
                "worst_item": self._worst_item,
            },
            None,
            self._unit,
        )

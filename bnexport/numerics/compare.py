"""How far one tensor is from its reference, batch by batch, without keeping the batches.

Relative error is relative to the reference's scale over all images, max |reference|: an element that happens to be near
zero says nothing about the runtime. Outputs of a natural size (probabilities: 1) are relative to at least that size: a runtime's
sigmoid is exact to 1e-7 of 1, however small its values are; their logits show relative errors. Sums are float64. NaN
never passes: a value that is not finite makes the
difference NaN unless both sides have the very same infinity there.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import BnexportError
from bnexport.results.rounding import Rounding
from bnexport.results.tolerance import Limit
from bnexport.results.verdict import Comparison, Difference
from bnexport.types import Array


class IncomparableError(BnexportError):
    """Two tensors cannot be compared at all: another shape or dtype kind, or nothing in them."""


class RunningDifference:
    """The running difference between two sides of one tensor. Feed it batches, then ask for the `result`.

    Args:
        natural: the tensor's natural size; its scale is not taken as smaller (1 for probabilities).
    """

    def __init__(self, natural: float = 0.0) -> None:
        self._natural = natural
        self._images = self._values = self._nonfinite = 0
        self._max_abs = self._scale = 0.0
        self._worst = 0
        self._sum_abs = self._aa = self._rr = self._ar = self._dd = 0.0

    def add(self, actual: Array, reference: Array) -> bool:
        """One more batch, both of shape (N, ...) or of rank 0; returns whether the largest difference so far is in it.

        Text is compared for equality: each string that differs counts as 1.

        Raises:
            IncomparableError: the shapes differ, one side is real and the other is not, or there are no values.
        """
        if actual.shape != reference.shape:
            raise IncomparableError("the shapes differ", found=str(actual.shape), expected=str(reference.shape))
        if actual.dtype != reference.dtype and {actual.dtype.kind, reference.dtype.kind} - {
            *"OU"
        }:  # text of any length
            raise IncomparableError("the dtypes differ", found=str(actual.dtype), expected=str(reference.dtype))
        if actual.size == 0:
            raise IncomparableError("there is nothing to compare", found=f"shape {actual.shape}")
        a, r = _numbers(actual, reference)
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.where(a == r, 0.0, np.abs(a - r))  # equal infinities are equal
        finite = np.isfinite(a) & np.isfinite(r)
        self._nonfinite += int(finite.size - np.count_nonzero(finite))
        worst = _nan_max(distance.max(axis=1))
        largest = worst[1] > self._max_abs or (math.isnan(worst[1]) and not math.isnan(self._max_abs))
        if largest:
            self._max_abs, self._worst = worst[1], self._images + worst[0]
        self._images += len(a)
        self._values += a.size
        self._sum_abs += float(distance.sum())
        a, r = np.where(finite, a, 0.0), np.where(finite, r, 0.0)
        self._scale = max(self._scale, float(np.abs(r).max()))
        self._aa += float(np.vdot(a, a))
        self._rr += float(np.vdot(r, r))
        self._ar += float(np.vdot(a, r))
        self._dd += float(np.square(a - r).sum())
        return largest

    def result(self) -> Difference:
        """The difference over all batches so far.

        Raises:
            IncomparableError: no batch was added.
        """
        if self._images == 0:
            raise IncomparableError("there is nothing to compare", found="no images")
        exact = self._max_abs == 0
        scale = max(self._scale, self._natural)
        return Difference(
            images=self._images,
            scale=scale,
            max_abs=self._max_abs,
            mean_abs=self._sum_abs / self._values,
            max_rel=0.0 if exact else self._relative(scale),
            cosine=1.0 if exact else self._ar / math.sqrt(self._aa * self._rr) if self._aa * self._rr else 0.0,
            snr_db=math.inf if self._dd == 0 else 10 * math.log10(self._rr / self._dd) if self._rr else -math.inf,
            worst_image=self._worst,
            nonfinite=self._nonfinite,
        )

    def _relative(self, scale: float) -> float:
        if math.isnan(self._max_abs):
            return math.nan
        return self._max_abs / scale if scale else math.inf


def _numbers(actual: Array, reference: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 of shape (N, values); text as whether it is another one, complex numbers as pairs."""
    pair: tuple[Array, Array] = (actual, reference)
    if actual.dtype.kind in "OSUV":
        differ = np.asarray(actual != reference, np.float64)
        pair = (differ, np.zeros_like(differ))
    elif actual.dtype.kind == "c":
        pair = (np.stack([actual.real, actual.imag], -1), np.stack([reference.real, reference.imag], -1))
    rows = len(actual) if actual.ndim else 1
    a, r = (np.asarray(x, np.float64).reshape(rows, -1) for x in pair)
    return a, r


def _nan_max(values: Array) -> tuple[int, float]:
    """The position and value of the maximum, where NaN counts as the largest and infinity as NaN."""
    position = int(np.argmax(np.where(np.isfinite(values), values, np.inf)))
    value = float(values[position])
    return position, value if math.isfinite(value) else math.nan


def judge(
    actual: str, reference: str, tensor: str, difference: Difference, limit: Limit, top1_agreement: float | None
) -> Comparison:
    """The verdict on one tensor: passes when `max_rel` is a number not above what `limit` allows at this scale, and nothing is NaN or infinite."""
    allowed = limit.relative(difference.scale, difference.max_abs)
    if difference.nonfinite:
        reason = f"{difference.nonfinite} values are not finite"
    elif not difference.max_rel <= allowed:
        floors = f", {_count(difference.max_rel / limit.floor)} noise floors," if limit.floor else ""
        least = f"the smallest rtol that would pass is {round_up(difference.max_rel)}"
        reason = f"the relative error {difference.max_rel:.2g}{floors} is above {allowed:.2g}; {least}"
        if difference.scale == 0:
            least = f"the smallest atol that would pass is {round_up(difference.max_abs)}"
            reason = f"the error {difference.max_abs:.2g} is above {limit.atol:.2g}, and the reference is 0 throughout; {least}"
    else:
        reason = ""
    return Comparison(
        actual, reference, tensor, difference, allowed, top1_agreement, not reason, reason, noise_floor=limit.floor
    )


def judge_rounding(comparison: Comparison, rounding: Rounding) -> Comparison:
    """The verdict on a tensor whose precision is reduced: `comparison`, whose limit follows from the largest expected error, and the error as rms."""
    comparison = replace(comparison, expected_rms=rounding.expected_rms, error_ratio=rounding.ratio)
    if rounding.explained and comparison.passed:
        return comparison
    reason = (
        f"the error is {_count(rounding.ratio)} times the one that its precision explains as rms, "
        f"{_count(rounding.max_ratio)} times the largest one"
    )
    if comparison.difference.nonfinite:
        reason = comparison.reason
    return replace(comparison, passed=False, reason=reason)


def _count(floors: float) -> str:
    return f"{floors:,.0f}" if 100 <= floors < 1e12 else f"{floors:.2g}"


def round_up(value: float) -> str:
    """Two digits, never less than `value`, so that it can be passed back as a tolerance.

    >>> round_up(0.00012301)
    '0.00013'
    """
    if not math.isfinite(value) or value <= 0:
        return f"{value:g}"
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    text = f"{math.ceil(value / step) * step:.2g}"
    return text if float(text) >= value else f"{(math.ceil(value / step) + 1) * step:.2g}"


def answers(scores: Array) -> NDArray[np.int64]:
    """The class each image gets: the largest of K scores, or for a single score s (a logit) whether s > 0.

    Args:
        scores: float, shape (N, K) with K >= 1.

    Returns:
        int64, shape (N,); -1 where a score is not finite.

    >>> answers(np.array([[0.1, 0.9], [2.0, np.nan]])).tolist()
    [1, -1]
    """
    best = np.argmax(scores, axis=1) if scores.shape[1] > 1 else np.greater(scores[:, 0], 0).astype(np.int64)
    return np.where(np.isfinite(scores).all(axis=1), best, -1).astype(np.int64)


def agreement(actual: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """The share of images that get the same class; an answer of -1 agrees with nothing.

    Args:
        actual: int64, shape (N,), N >= 1.
        reference: the same.
    """
    return float(np.mean((actual == reference) & (actual >= 0)))

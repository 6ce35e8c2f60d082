"""Numbers as the unevaluated sum of two float64, 106 bits together: sums that do not depend on the order of their terms, but in their last bits, which nobody sees.

Error-free transformations after Dekker, "A floating-point technique for extending the available precision" (Numerische Mathematik 18, 1971), and Knuth (The Art of Computer
Programming 2, 4.2.2, theorem B). A value that is not finite makes everything it meets NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SPLIT = 134217729.0  # 2^27 + 1


@dataclass(frozen=True, slots=True)
class Doubled:
    """high + low, with |low| at most half a unit in the last place of high.

    Args:
        high: float64, the value rounded.
        low: float64 of the same shape, what rounding left out.
    """

    high: Floats
    low: Floats

    def __add__(self, other: Doubled) -> Doubled:
        high, low = _sum(self.high, other.high)
        return _tidy(high, low + (self.low + other.low))

    def __sub__(self, other: Doubled) -> Doubled:
        return self + Doubled(-other.high, -other.low)

    def __mul__(self, other: Doubled) -> Doubled:
        high, low = _product(self.high, other.high)
        return _tidy(high, low + (self.high * other.low + self.low * other.high))

    def over(self, divisor: float) -> Doubled:
        """The quotient."""
        first = self.high / divisor
        rest = self - from_float64(first) * from_float64(np.full_like(first, divisor))
        return _tidy(first, rest.high / divisor)

    def sum_rows(self) -> Doubled:
        """The sum over the first axis, which has one entry or more."""
        rows = self
        while (count := len(rows.high)) > 1:
            half = count // 2
            pairs = Doubled(rows.high[:half], rows.low[:half]) + Doubled(
                rows.high[half : 2 * half], rows.low[half : 2 * half]
            )
            odd = slice(2 * half, count)
            rows = Doubled(np.concatenate([pairs.high, rows.high[odd]]), np.concatenate([pairs.low, rows.low[odd]]))
        return Doubled(rows.high[0], rows.low[0])


def from_float64(x: Floats) -> Doubled:
    """Float64 as it is.

    >>> third = from_float64(np.array([1.0])).over(3.0)
    >>> ((third + third + third) - from_float64(np.array([1.0]))).high.item()
    0.0
    """
    return Doubled(x, np.zeros_like(x))


def _sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    high = a + b
    part = high - a
    return high, (a - (high - part)) + (b - part)


def _product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    high = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2


def _halves(x: Floats) -> tuple[Floats, Floats]:
    scaled = _SPLIT * x
    upper = scaled - (scaled - x)
    return upper, x - upper


def _tidy(high: Floats, low: Floats) -> Doubled:
    total = high + low
    return Doubled(total, low - (total - high))

"""Count, mean and centred sum of squares of each channel, the same to the last bit however the values are split and in whatever order they come.

What is added up is n mean and M2 + n mean^2 of each part, with 106 bits (`bnexport.numerics.doubled`). The centred sum follows by subtraction, E[x^2] - E[x]^2, which in float32
has lost all its digits at mean 1e4 and standard deviation 1 and in float64 eight of sixteen; here more than twenty are left. The pairwise formula of Chan, Golub and LeVeque ("Algorithms for
computing the sample variance", The American Statistician 37, 1983) in float64 is as exact for one order, but rounds otherwise for each: one bit of one channel, and everything behind it is another
float32. Cluster and laptop shall give the same file.

The variance is the population variance M2 / n, which is what BatchNormalization stores and uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError
from bnexport.numerics.doubled import Doubled, from_float64
from bnexport.types import Array


@dataclass(frozen=True, slots=True)
class Moments:
    """The moments of some values of C channels.

    Args:
        count: how many values each channel has; 0 for none.
        mean: float64, shape (C,).
        m2: the sum of (x - mean)^2; float64, shape (C,).
    """

    count: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]

    @property
    def var(self) -> NDArray[np.float64]:
        """The population variance, shape (C,); NaN where there are no values."""
        with np.errstate(invalid="ignore"):
            return self.m2 / np.float64(self.count)


@dataclass(frozen=True, slots=True)
class Total:
    """The sums that moments are made of.

    Args:
        count: how many values each channel has.
        sum: of the values, shape (C,).
        squares: of their squares, shape (C,).
    """

    count: int
    sum: Doubled
    squares: Doubled

    @classmethod
    def none(cls, channels: int) -> Total:
        """Of no values."""
        return cls(0, from_float64(np.zeros(channels)), from_float64(np.zeros(channels)))

    @classmethod
    def of_rows(cls, count: int, mean: Array, m2: Array) -> Total:
        """Of N rows of values, from each row's own moments.

        Args:
            count: values in each row and channel.
            mean: shape (N, C), N >= 1.
            m2: shape (N, C).

        >>> Total.of_rows(1, np.array([[1.0], [3.0]]), np.zeros((2, 1))).moments.var.item()
        1.0
        """
        means, times = from_float64(np.asarray(mean, np.float64)), from_float64(np.full(mean.shape, float(count)))
        with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite make moments that are not
            sums = means * times
            return cls(
                count * len(mean), sums.sum_rows(), (from_float64(np.asarray(m2, np.float64)) + sums * means).sum_rows()
            )

    def merge(self, other: Total) -> Total:
        """Of the values of both."""
        with np.errstate(invalid="ignore", over="ignore"):
            return Total(self.count + other.count, self.sum + other.sum, self.squares + other.squares)

    @property
    def moments(self) -> Moments:
        """The moments; zeros where there are no values."""
        if not self.count:
            return Moments(0, self.sum.high, self.squares.high)
        with np.errstate(invalid="ignore", over="ignore"):
            mean = self.sum.over(float(self.count))
            m2 = (self.squares - self.sum * mean).high
        return Moments(self.count, mean.high, np.maximum(m2, 0.0))


def to_bytes(parts: Mapping[str, Moments]) -> bytes:
    """Moments by name as a safetensors file: `NAME/count`, `NAME/mean` and `NAME/m2` for each."""
    from safetensors.numpy import save

    tensors: dict[str, Array] = {}
    for name, part in parts.items():
        tensors |= {f"{name}/count": np.array([part.count], np.int64), f"{name}/mean": part.mean, f"{name}/m2": part.m2}
    return bytes(save(tensors))


def from_bytes(content: bytes) -> dict[str, Moments]:
    """The inverse of `to_bytes`.

    Raises:
        InputError: the content is something else.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
        names = [key.removesuffix("/count") for key in tensors if key.endswith("/count")]
        by_name = {n: Moments(int(tensors[f"{n}/count"][0]), tensors[f"{n}/mean"], tensors[f"{n}/m2"]) for n in names}
    except (SafetensorError, KeyError, IndexError) as error:
        raise InputError(f"the data are not stored moments ({error})") from error
    if any(m.count < 0 or m.mean.shape != m.m2.shape or m.mean.dtype != np.float64 for m in by_name.values()) or len(
        tensors
    ) != 3 * len(by_name):
        raise InputError("the data are not stored moments", found=", ".join(sorted(tensors)[:3]))
    return by_name

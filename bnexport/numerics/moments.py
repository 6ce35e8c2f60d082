"""Count, mean and centred sum of squares of each channel, in float64, mergeable in any order.

Two sets of values A and B merge by the pairwise formula of Chan, Golub and LeVeque, "Algorithms for computing the sample
variance" (The American Statistician 37, 1983), equation 2.1:

    d = mean_B - mean_A;  n = n_A + n_B
    mean = mean_A + d n_B / n;  M2 = M2_A + M2_B + d^2 n_A n_B / n

The variance is the population variance M2 / n, which is what BatchNormalization stores and uses. E[x^2] - E[x]^2 is never
formed: at mean 1e4 and standard deviation 1 it has lost all its digits in float32 and eight of sixteen in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError


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

    def merged(self, other: Moments) -> Moments:
        """The moments of the values of both."""
        if self.count == 0 or other.count == 0:
            return other if self.count == 0 else self
        n = self.count + other.count
        d = other.mean - self.mean
        share = other.count / n
        return Moments(n, self.mean + d * share, self.m2 + other.m2 + d * d * (self.count * share))


def none(channels: int) -> Moments:
    """The moments of no values."""
    return Moments(0, np.zeros(channels), np.zeros(channels))


def moments(x: NDArray[Any]) -> Moments:
    """The moments of each channel of x over all other axes.

    Args:
        x: real, shape (N, C, ...).

    >>> m = moments(np.array([[1.0], [3.0]]))
    >>> m.count, m.mean.item(), m.var.item()
    (2, 2.0, 1.0)
    """
    by_channel = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float64)
    if by_channel.shape[1] == 0:
        return none(x.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite make moments that are not
        mean = by_channel.mean(axis=1)
        centred = by_channel - mean[:, None]
        # The mean is rounded; what it missed is the mean of the centred values (the corrected two-pass algorithm, ibid. 1.7).
        missed = centred.mean(axis=1)
        m2 = np.square(centred).sum(axis=1) - by_channel.shape[1] * missed**2
    return Moments(by_channel.shape[1], mean + missed, m2)


def pooled(parts: Iterable[Moments]) -> Moments:
    """The moments of the values of all parts.

    Raises:
        InputError: there are no parts.
    """
    listed = list(parts)
    if not listed:
        raise InputError("there are no moments to merge")
    return reduce(Moments.merged, listed)


def pooled_rows(count: int, mean: NDArray[Any], m2: NDArray[Any]) -> Moments:
    """The moments of N rows of values at once, from each row's own.

    The same as merging one by one: M2 = sum m2 + count sum (mean_i - mean)^2.

    Args:
        count: values in each row and channel.
        mean: shape (N, C).
        m2: shape (N, C).
    """
    rows = moments(np.asarray(mean, np.float64))
    return Moments(count * rows.count, rows.mean, np.asarray(m2, np.float64).sum(axis=0) + count * rows.m2)


def to_bytes(parts: Mapping[str, Moments]) -> bytes:
    """Moments by name as a safetensors file: `NAME/count`, `NAME/mean` and `NAME/m2` for each."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {}
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
        found = {n: Moments(int(tensors[f"{n}/count"][0]), tensors[f"{n}/mean"], tensors[f"{n}/m2"]) for n in names}
    except (SafetensorError, KeyError, IndexError) as error:
        raise InputError(f"these are not stored moments ({error})") from error
    if any(m.count < 0 or m.mean.shape != m.m2.shape or m.mean.dtype != np.float64 for m in found.values()) or len(
        tensors
    ) != 3 * len(found):
        raise InputError("these are not stored moments", found=", ".join(sorted(tensors)[:3]))
    return found

"""Separable resampling: which samples each pixel of the result is made of, and with which weights.

With s = in / out, the position of pixel i is

    half        (i + 1/2) s - 1/2       pixel centres at half numbers (Pillow, OpenCV, TensorFlow 2, torch)
    asymmetric  i s                     (TensorFlow 1)
    corners     i (in - 1) / (out - 1)  (align_corners=True)

A kernel k of a support is sampled at the distances of the samples from it. With antialiasing both are stretched by max(1, s). Samples
beyond the border are those of the border ("clamp"), or are left out ("cut").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Kernel: TypeAlias = Callable[[Floats], Floats]
Position = Literal["half", "asymmetric", "corners"]
Edge = Literal["clamp", "cut"]


@dataclass(frozen=True, slots=True)
class Taps:
    """The samples of each pixel of the result along one axis.

    Args:
        index: shape (out, T).
        weight: the same shape.
    """

    index: NDArray[np.int64]
    weight: Floats

    def in_fixed_point(self, bits: int) -> Taps:
        """The same with weights in fixed point, multiplied by 2^bits."""
        return Taps(self.index, np.rint(self.weight * 2.0**bits))

    def apply(self, x: Floats, axis: int) -> Floats:
        """An array of shape (H, W, C) resampled along axis 0 or 1.

        >>> Taps(np.array([[0, 1]]), np.array([[0.5, 0.5]])).apply(np.array([[[0.0], [10.0]]]), 1).tolist()
        [[[5.0]]]
        """
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        result = np.take(x, self.index[:, 0], axis) * self.weight[:, 0].reshape(shape)
        for tap in range(1, self.index.shape[1]):
            weight = self.weight[:, tap]
            if weight.any():
                result += np.take(x, self.index[:, tap], axis) * weight.reshape(shape)
        return result


def triangle(x: Floats) -> Floats:
    """Linear interpolation; support 1."""
    return np.maximum(0.0, 1.0 - np.abs(x))


def cubic(a: float) -> Kernel:
    """Keys' cubic convolution (1981, equation 15); support 2. a is -0.75 in OpenCV and torch, -0.5 in Pillow and TensorFlow."""

    def kernel(x: Floats) -> Floats:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * a
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))

    return kernel


def lanczos(lobes: int) -> Kernel:
    """sinc(x) sinc(x / lobes); support `lobes`."""
    return lambda x: np.where(np.abs(x) < lobes, np.sinc(x) * np.sinc(x / lobes), 0.0)


def mitchell(x: Floats) -> Floats:
    """Mitchell and Netravali (1988) with B = C = 1/3; support 2."""
    x = np.abs(x)
    near = (7 * x**3 - 12 * x**2 + 16 / 3) / 6
    far = (-7 / 3 * x**3 + 12 * x**2 - 20 * x + 32 / 3) / 6
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def positions(size: int, out: int, position: Position = "half") -> Floats:
    """Where the pixels of the result are, in pixels of the source."""
    i = np.arange(out, dtype=np.float64)
    if position == "corners":
        return i * ((size - 1) / max(out - 1, 1))
    return (i + 0.5) * (size / out) - 0.5 if position == "half" else i * (size / out)


def sample_kernel(
    size: int,
    out: int,
    kernel: Kernel,
    support: float,
    *,
    antialias: bool = False,
    position: Position = "half",
    edge: Edge = "clamp",
    table: int = 0,
) -> Taps:
    """The taps of a kernel.

    Args:
        size: of the axis.
        out: of the result.
        kernel: weights by distance.
        support: beyond which it is 0.
        antialias: whether it is stretched where the result is smaller.
        position: where pixels are.
        edge: what stands for samples beyond the border.
        table: so many steps positions between two samples are rounded to; 0 for none.
    """
    centre = positions(size, out, position)
    stretch = max(1.0, size / out) if antialias else 1.0
    if antialias:
        low = np.floor(centre - support * stretch).astype(np.int64)
        count = int(np.ceil(2 * support * stretch)) + 2
    else:
        low, count = np.floor(centre).astype(np.int64) - int(support) + 1, int(2 * support)
    if table:
        centre = np.floor(centre) + np.rint((centre - np.floor(centre)) * table) / table
    index = low[:, None] + np.arange(count)
    weight = kernel((index - centre[:, None]) / stretch)
    if edge == "cut":
        weight = np.where((index < 0) | (index >= size), 0.0, weight)
    return Taps(np.clip(index, 0, size - 1), weight / weight.sum(axis=1, keepdims=True))


def area(size: int, out: int) -> Taps:
    """The mean over the exact extent of each pixel of the result (OpenCV INTER_AREA, TensorFlow "area")."""
    begin = np.arange(out) * (size / out)
    end = begin + size / out
    low = np.floor(begin + 1e-9).astype(np.int64)
    index = low[:, None] + np.arange(int(np.ceil(size / out)) + 2)
    weight = np.clip(np.minimum(index + 1, end[:, None]) - np.maximum(index, begin[:, None]), 0.0, None)
    return Taps(np.clip(index, 0, size - 1), weight * (out / size))


def pool(size: int, out: int) -> Taps:
    """The mean over all samples that a pixel of the result touches (torch's "area", which is adaptive pooling)."""
    i = np.arange(out)
    low, high = i * size // out, -(-(i + 1) * size // out)
    index = low[:, None] + np.arange(int((high - low).max()))
    return Taps(np.clip(index, 0, size - 1), (index < high[:, None]) / (high - low)[:, None])


def nearest(size: int, out: int, shift: float, *, single: bool) -> Taps:
    """One sample, at floor((i + shift) in / out): shift 0 in OpenCV and torch, 1/2 elsewhere.

    Where that is an integer, its rounding decides: TensorFlow and torch compute it in float32 (`single`), OpenCV as
    i / (out / in) in float64.
    """
    i = np.arange(out)
    if single:
        position = (i.astype(np.float32) + np.float32(shift)) * (np.float32(size) / np.float32(out))
        index = np.floor(position).astype(np.int64)
    else:
        index = np.floor((i + shift) * (1.0 / (out / size))).astype(np.int64)
    return Taps(np.minimum(index, size - 1)[:, None], np.ones((out, 1)))

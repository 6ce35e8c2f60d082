"""drawImage of a canvas in Chromium, which Skia computes on the CPU (measured on Chromium 156).

The smoothing qualities low, medium and high give the same pixels. Weights have four bits and sums are cut off. A picture that becomes
less than half as large is first brought to ceil(size / 2^l), the smallest such size that is not below the result. Where a position is
a multiple of 1/16 to all digits, rounding that is not modelled here decides: up to 2 % of rows and columns.
"""

from __future__ import annotations

import math

import numpy as np

from bnexport.numerics.resampling.taps import Floats, Taps, positions, sample_kernel, triangle


def smooth(x: Floats, height: int, width: int) -> Floats:
    """drawImage(image, 0, 0, width, height) with smoothing.

    >>> smooth(np.array([[[0.0], [16.0]]]), 1, 4).ravel().tolist()
    [0.0, 4.0, 12.0, 16.0]
    """
    level = 0
    while all(
        math.ceil(side / 2 ** (level + 1)) >= wanted for side, wanted in zip(x.shape, (height, width), strict=False)
    ):
        level += 1
    if level:
        x = _reduce(x, level)
    return np.floor(_four_bits(x.shape[1], width).apply(_four_bits(x.shape[0], height).apply(x, 0), 1))


def plain(x: Floats, height: int, width: int) -> Floats:
    """The same with imageSmoothingEnabled = false: the nearest pixel, the former one where two are as near."""
    indices = []
    for out, size in ((height, x.shape[0]), (width, x.shape[1])):
        step = np.float32(size) / np.float32(out)
        position = float(np.float32(0.5) * step) + np.arange(out) * float(step) - 2.0**-16
        indices.append(np.clip(np.floor(position).astype(np.int64), 0, size - 1))
    rows, columns = indices
    return np.asarray(x[rows][:, columns])


def _four_bits(size: int, out: int) -> Taps:
    position = np.floor(positions(size, out) * 65536) / 65536
    low = np.floor(position)
    part = np.floor((position - low) * 16) / 16
    index = low.astype(np.int64)[:, None] + np.arange(2)
    return Taps(np.clip(index, 0, size - 1), np.stack([1 - part, part], axis=1))


def _reduce(x: Floats, level: int) -> Floats:
    """A picture at 1 / 2^level: halved as often as it goes, then brought to the size that is rounded up."""
    height, width = (math.ceil(side / 2**level) for side in x.shape[:2])
    scale = math.sqrt(height / x.shape[0] * width / x.shape[1])
    for _ in range(max(0, math.floor(-math.log2(scale) + 1e-9))):
        x = _halve(x)
    taps = [sample_kernel(x.shape[axis], out, triangle, 1) for axis, out in ((0, height), (1, width))]
    return np.rint(taps[1].apply(taps[0].apply(x, 0), 1))


def _halve(x: Floats) -> Floats:
    """Half as large: means of two, or of three weighted 1 2 1 where the number is odd (SkMipmap)."""
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        out = max(1, len(x) // 2)
        if len(x) == 1:
            pass
        elif len(x) % 2:
            x = (x[0 : 2 * out : 2] + 2 * x[1 : 2 * out : 2] + x[2 : 2 * out + 1 : 2]) / 4
        else:
            x = (x[0::2] + x[1::2]) / 2
        x = np.moveaxis(x, 0, axis)
    return np.floor(x)

"""What the pixels of a resized row are made of, as TensorFlow computes it in float32 (NumPy).

The numbers are those of its kernels: `resize_nearest_neighbor_op`, `resize_bilinear_op`, `resize_bicubic_op`, `resize_area_op` and
`scale_and_translate_op`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bnexport.exporter.graph import NotCovered
from bnexport.types import Array

TABLE = 1024
"""Positions between two pixels that TensorFlow's bicubic interpolation knows."""

FLOAT = np.float32

Weights = npt.NDArray[np.floating[Any]]


def nearest_rows(side: int, new: int) -> Array:
    """The row that each row of a resized image is taken from."""
    middles = (np.arange(new, dtype=FLOAT) + FLOAT(0.5)) * (FLOAT(side) / FLOAT(new))
    rows: Array = np.minimum(np.floor(middles).astype(np.int64), side - 1)
    return rows


def neighbours(side: int, new: int) -> tuple[Array, Array, Weights]:
    """For each pixel of a resized row the two that it lies between, and how far it is from the first one to the second."""
    at = (np.arange(new, dtype=FLOAT) + FLOAT(0.5)) * (FLOAT(side) / FLOAT(new)) - FLOAT(0.5)
    floor = np.floor(at)
    below = np.maximum(floor, 0).astype(np.int64)
    above = np.minimum(np.ceil(at), side - 1).astype(np.int64)
    return below, above, (at - floor).astype(FLOAT)


def matrix(side: int, new: int, interpolation: str, *, antialias: bool = False) -> Array:
    """What each pixel of a resized row is made of, shape (new, side), float32.

    Raises:
        NotCovered: the interpolation is unknown.
    """
    if interpolation == "bilinear" and not antialias:
        return _linear_matrix(side, new)
    if interpolation == "bicubic" and not antialias:
        return _cubic_matrix(side, new)
    if interpolation == "area":
        return _area_matrix(side, new)
    if interpolation not in KERNELS:
        raise NotCovered(f"the interpolation {interpolation}")
    radius, kernel = KERNELS[interpolation]
    return _kernel_matrix(side, new, radius, kernel, antialias=antialias)


def _linear_matrix(side: int, new: int) -> Array:
    made = np.zeros((new, side), FLOAT)
    rows = np.arange(new)
    below, above, share = neighbours(side, new)
    made[rows, below] = FLOAT(1) - share
    made[rows, above] += share
    return made


def _cubic_matrix(side: int, new: int) -> Array:
    """Keys' kernel with a = -0.5 at 1,024 positions; pixels outside do not count."""
    made = np.zeros((new, side), FLOAT)
    steps = np.arange(TABLE + 1) / TABLE
    inner = ((1.5 * steps - 2.5) * steps * steps + 1).astype(FLOAT)
    far = steps + 1
    outer = (((-0.5 * far + 2.5) * far - 4) * far + 2).astype(FLOAT)
    for row in range(new):
        at = (FLOAT(row) + FLOAT(0.5)) * (FLOAT(side) / FLOAT(new)) - FLOAT(0.5)
        base = int(np.floor(at))
        step = int(np.rint(FLOAT(at - FLOAT(base)) * TABLE))
        weights = (outer[step], inner[step], inner[TABLE - step], outer[TABLE - step])
        inside = [(base - 1 + nth, weight) for nth, weight in enumerate(weights) if 0 <= base - 1 + nth < side]
        total = sum((weight for _, weight in inside), FLOAT(0))
        for column, weight in inside:
            made[row, column] = weight / total if abs(total) >= TINY else weight
    return made


TINY = 1000 * float(np.finfo(FLOAT).tiny)
"""Sums of weights below this are not divided by."""


def _area_matrix(side: int, new: int) -> Array:
    made = np.zeros((new, side), FLOAT)
    scale = FLOAT(side) / FLOAT(new)
    for row in range(new):
        start, end = FLOAT(row) * scale, FLOAT(row + 1) * scale
        for column in range(int(np.floor(start)), int(np.ceil(end))):
            if column < start:
                share = scale if column + 1 > end else FLOAT(column + 1) - start
            else:
                share = end - FLOAT(column) if column + 1 > end else FLOAT(1)
            made[row, min(column, side - 1)] += share / scale
    return made


def _kernel_matrix(
    side: int, new: int, radius: float, kernel: Callable[[Weights], Weights], *, antialias: bool
) -> Array:
    made = np.zeros((new, side), FLOAT)
    inverse = FLOAT(1) / (FLOAT(new) / FLOAT(side))
    wide = max(inverse, FLOAT(1)) if antialias else FLOAT(1)
    for row in range(new):
        at = (FLOAT(row) + FLOAT(0.5)) * inverse
        start = max(int(np.ceil(at - FLOAT(radius) * wide - FLOAT(0.5))), 0)
        end = min(int(np.floor(at + FLOAT(radius) * wide - FLOAT(0.5))), side - 1)
        columns = np.arange(start, end + 1)
        weights = kernel(np.abs((columns.astype(FLOAT) + FLOAT(0.5) - at) / wide)).astype(FLOAT)
        total = weights.sum(dtype=FLOAT)
        made[row, columns] = weights / total if abs(total) >= TINY else weights
    return made


def _triangle(x: Weights) -> Weights:
    return np.maximum(1 - x, 0)


def _keys(x: Weights) -> Weights:
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(radius: float) -> Callable[[Weights], Weights]:
    def kernel(x: Weights) -> Weights:
        angle = np.pi * np.maximum(x.astype(np.float64), 1e-3)
        value = radius * np.sin(angle) * np.sin(angle / radius) / angle**2
        return np.where(x > radius, 0, np.where(x <= 1e-3, 1, value))

    return kernel


KERNELS: dict[str, tuple[float, Callable[[Weights], Weights]]] = {
    "bilinear": (1, _triangle),
    "bicubic": (2, _keys),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
}
"""Radius and function of TensorFlow's sampling kernels."""

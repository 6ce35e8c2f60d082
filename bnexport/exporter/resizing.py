"""Images in another size, as `tf.image.resize` computes it: by indices, by Resize, or as two products with fixed matrices.

Every interpolation of TensorFlow is separable: for fixed sizes it is a matrix for the rows and one for the columns, whose numbers are
those of TensorFlow's kernels (`resize_bicubic_op`, `resize_area_op`, `scale_and_translate_op`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnexport.exporter.arithmetic import integers, size_of, sizes_of
from bnexport.exporter.axes import repeat, tensor_axis, with_side
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.types import Array

TABLE = 1024
"""Positions between two pixels that TensorFlow's bicubic interpolation knows."""

FEW_CHANNELS = 4
"""Images of so few channels are interpolated linearly by matrices: exact at any size, and cheap."""

LARGEST = 1 << 24
"""The most numbers of a matrix."""

FLOAT = np.float32

Weights = npt.NDArray[np.floating[Any]]


def resize(
    g: Graph,
    x: Value,
    axes: Sequence[int],
    size: Sequence[int],
    interpolation: str,
    *,
    factors: bool = False,
    antialias: bool = False,
) -> Value:
    """Images in another size.

    Args:
        g: the graph.
        x: images.
        axes: of their rows and columns, in Keras' order.
        size: the new numbers of rows and columns.
        interpolation: "nearest", "bilinear", "bicubic", "area", "lanczos3" or "lanczos5".
        factors: whether `size` says by how much the sides grow instead.
        antialias: whether kernels grow where the image shrinks.

    Returns:
        The images, as float32 unless the interpolation is "nearest".

    Raises:
        NotCovered: the sides are open, and the interpolation is neither "nearest" nor "bilinear".
    """
    sides = [x.shape[axis] for axis in axes]
    if x.rank != len(axes) + 2:
        raise NotCovered("the resizing of a single image instead of a batch")
    if min(size) < 1 or 0 in sides:
        raise NotCovered("the resizing of images without pixels")
    sized = [side for side in sides if side is not None]
    fixed = len(sized) == len(sides)
    if factors and fixed:
        size, factors = [side * factor for side, factor in zip(sized, size, strict=True)], False
    if interpolation == "nearest":
        return _nearest(g, x, axes, size)
    x = g.cast(g.with_channels_first(x) if axes[0] == 1 else g.in_keras_order(x), "float32")
    channels = x.shape[-1] if x.channels_first else x.shape[1]
    linear = interpolation == "bilinear" and not antialias
    large = any(new * side > LARGEST for new, side in zip(size, sized, strict=False))
    if large and not linear:
        raise NotCovered(f"the interpolation {interpolation} of images that large")
    if fixed and not large and (not linear or (channels or FEW_CHANNELS + 1) <= FEW_CHANNELS):
        return _by_matrices(g, x, axes, sized, size, interpolation, antialias=antialias)
    if not linear:
        raise NotCovered(
            f"the interpolation {interpolation}{' with antialias' if antialias else ''} of images of open size"
        )
    return _linear(g, x, axes, size, factors=factors)


def _linear(g: Graph, x: Value, axes: Sequence[int], size: Sequence[int], *, factors: bool) -> Value:
    shape = x.shape
    for axis, side in zip(axes, size, strict=True):
        shape = with_side(shape, axis, None if factors else side)
    if factors:
        target = [np.asarray([1, 1, *size], np.float32)]
    else:
        channels = x.rank - 1 if x.channels_first else 1
        whole = g.node("Concat", [sizes_of(g, x, [0, channels]), integers(*size)], (x.rank,), "int64", axis=0)
        target = [None, whole]  # type: ignore[list-item]
    return g.node(
        "Resize",
        [x, None, *target],
        shape,
        "float32",
        channels_first=x.channels_first,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def _nearest(g: Graph, x: Value, axes: Sequence[int], size: Sequence[int]) -> Value:
    sides = [x.shape[axis] for axis in axes]
    grows = [side is not None and new % side == 0 for side, new in zip(sides, size, strict=True)]
    if all(grows):
        return repeat(g, x, {axis: new // (side or 1) for axis, side, new in zip(axes, sides, size, strict=True)})
    for axis, side, new in zip(axes, sides, size, strict=True):
        if side == new:
            continue
        if side is not None:
            rows: Value = g.constant(nearest_rows(side, new))
        else:
            middles = (np.arange(new, dtype=FLOAT) + FLOAT(0.5)).astype(FLOAT)
            whole = g.cast(size_of(g, x, axis), "float32")
            scale = g.node("Div", [whole, np.asarray([new], FLOAT)], (1,), "float32")
            floor = g.node("Floor", [g.node("Mul", [middles, scale], (new,), "float32")], (new,), "float32")
            last = g.node("Sub", [whole, np.asarray([1], FLOAT)], (1,), "float32")
            rows = g.cast(g.node("Min", [floor, last], (new,), "float32"), "int64")
        shape = with_side(x.shape, axis, new)
        position = tensor_axis(x, axis)
        x = g.node("Gather", [x, rows], shape, x.dtype, channels_first=x.channels_first, axis=position)
    return x


def nearest_rows(side: int, new: int) -> Array:
    """The row that each row of a resized image is taken from."""
    middles = (np.arange(new, dtype=FLOAT) + FLOAT(0.5)) * (FLOAT(side) / FLOAT(new))
    rows: Array = np.minimum(np.floor(middles).astype(np.int64), side - 1)
    return rows


def _by_matrices(
    g: Graph,
    x: Value,
    axes: Sequence[int],
    sides: Sequence[int],
    size: Sequence[int],
    interpolation: str,
    *,
    antialias: bool,
) -> Value:
    """The rows times one matrix and the columns times another one; x has both as its last axes."""
    rows, columns = (
        None if side == new and interpolation != "area" else matrix(side, new, interpolation, antialias=antialias)
        for side, new in zip(sides, size, strict=True)
    )
    if columns is not None:
        shape = with_side(x.shape, axes[1], size[1])
        weights = g.constant(np.ascontiguousarray(columns.T), "columns")
        x = g.node("MatMul", [x, weights], shape, "float32", channels_first=x.channels_first)
    if rows is not None:
        shape = with_side(x.shape, axes[0], size[0])
        x = g.node("MatMul", [g.constant(rows, "rows"), x], shape, "float32", channels_first=x.channels_first)
    return x


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
    at = (np.arange(new, dtype=FLOAT) + FLOAT(0.5)) * (FLOAT(side) / FLOAT(new)) - FLOAT(0.5)
    floor = np.floor(at)
    share = (at - floor).astype(FLOAT)
    for row in range(new):
        below = max(int(floor[row]), 0)
        above = min(int(np.ceil(at[row])), side - 1)
        made[row, below] += FLOAT(1) - share[row]
        made[row, above] += share[row]
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

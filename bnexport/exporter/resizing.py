"""Images in another size, as `tf.image.resize` computes it: by indices, by Resize, or as two products with fixed matrices.

Every interpolation of TensorFlow is separable: for fixed sizes it is a matrix for the rows and one for the columns (`interpolation`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnexport.exporter.arithmetic import integers, size_of, sizes_of, squeeze, unary
from bnexport.exporter.axes import repeat, tensor_axis, with_side
from bnexport.exporter.graph import Graph, Input, NotCovered, Value
from bnexport.exporter.interpolation import FLOAT, matrix, nearest_rows, neighbours
from bnexport.exporter.refusals import NotExpressible

FEW_CHANNELS = 4
"""Images of so few channels are interpolated linearly by matrices: exact at any size, and cheap."""

LARGEST = 1 << 24
"""The most numbers of a matrix."""

FIXED_SIZE = (
    "(build the model for one size, keras.Input((height, width, channels)), or resize with bilinear or nearest)"
)
"""What to do where the size of images must be fixed."""


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
    if not linear:  # TensorFlow takes weights from a table of 1,024 positions, and ONNX' Resize the exact ones
        raise NotExpressible(
            f"the interpolation {interpolation}{' with antialias' if antialias else ''} of images of open size {FIXED_SIZE}"
        )
    return _linear(g, x, axes, size, factors=factors)


def as_pixels(g: Graph, x: Value, dtype: str) -> Value:
    """Resized images in the dtype that they had before: rounded and within its range for integers."""
    if x.dtype == dtype:
        return x
    if "int" in dtype:
        limits = np.iinfo(dtype)
        bounds = [g.value(float(limit), x.dtype) for limit in (limits.min, limits.max)]
        rounded = unary(g, "Round", x)
        x = g.node("Clip", [rounded, *bounds], x.shape, x.dtype, channels_first=x.channels_first)
    return g.cast(x, dtype)


def _linear(g: Graph, x: Value, axes: Sequence[int], size: Sequence[int], *, factors: bool) -> Value:
    """Columns, then rows: by Resize where its positions are TensorFlow's to the last bit, otherwise from two neighbours."""
    if all(_is_exact(x.shape[axis], new, factor=factors) for axis, new in zip(axes, size, strict=True)):
        return _by_resize(g, x, axes, size, factors=factors)
    for axis, new in reversed(list(zip(axes, size, strict=True))):
        if new != (1 if factors else x.shape[axis]):
            x = _between_neighbours(g, x, axis, new, factor=factors)
    return x


def _is_exact(side: int | None, new: int, *, factor: bool) -> bool:
    """Whether Resize, which divides by new / side, finds the positions that TensorFlow finds with side / new."""
    if factor:
        return new & (new - 1) == 0  # the reciprocals of powers of two are exact
    if side is None:
        return False
    middles = np.arange(new, dtype=FLOAT) + FLOAT(0.5)
    ours, theirs = middles / (FLOAT(new) / FLOAT(side)), middles * (FLOAT(side) / FLOAT(new))
    return bool(np.array_equal(ours - FLOAT(0.5), theirs - FLOAT(0.5)))


def _by_resize(g: Graph, x: Value, axes: Sequence[int], size: Sequence[int], *, factors: bool) -> Value:
    shape = x.shape
    for axis, new in zip(axes, size, strict=True):
        side = shape[axis]
        shape = with_side(shape, axis, new if not factors else None if side is None else side * new)
    target: list[Input] = [np.asarray([1, 1, *size], FLOAT)]
    if not factors:
        channels = x.rank - 1 if x.channels_first else 1
        whole = g.node("Concat", [sizes_of(g, x, [0, channels]), integers(*size)], (x.rank,), "int64", axis=0)
        target = [None, whole]
    return g.node(
        "Resize",
        [x, None, *target],
        shape,
        "float32",
        channels_first=x.channels_first,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def _between_neighbours(g: Graph, x: Value, axis: int, new: int, *, factor: bool) -> Value:
    """What TensorFlow computes along one axis from the pixels a and b around each position: a + (b - a) * share."""
    side, position = x.shape[axis], tensor_axis(x, axis)
    if side is not None:
        length: int | None = side * new if factor else new
        below, above, share = neighbours(side, length or 0)
        rows = [g.constant(below), g.constant(above)]
        part = g.constant(share)
    else:
        length = None if factor else new
        rows, part = _computed_neighbours(g, size_of(g, x, axis), new, length, factor=factor)
    shape = with_side(x.shape, axis, length)
    a, b = (
        g.node("Gather", [x, row], shape, "float32", channels_first=x.channels_first, axis=position) for row in rows
    )
    wide = integers(*range(1, x.rank - position))
    part = g.node("Unsqueeze", [part, wide], (length, *[1] * len(wide)), "float32") if len(wide) else part
    apart = g.node("Sub", [b, a], shape, "float32", channels_first=x.channels_first)
    more = g.node("Mul", [apart, part], shape, "float32", channels_first=x.channels_first)
    return g.node("Add", [a, more], shape, "float32", channels_first=x.channels_first)


def _computed_neighbours(
    g: Graph, side: Value, new: int, length: int | None, *, factor: bool
) -> tuple[list[Value], Value]:
    """The same for a side that is known when the graph runs."""
    whole = g.cast(side, "float32")
    if factor:
        count = squeeze(g, g.node("Mul", [side, integers(new)], (1,), "int64"), 0)
        bounds = [g.constant(np.asarray(number, np.int64)) for number in (0, 1)]
        steps = g.cast(g.node("Range", [bounds[0], count, bounds[1]], (None,), "int64"), "float32")
        middles = g.node("Add", [steps, np.asarray([0.5], FLOAT)], (None,), "float32")
        scale: Value = g.constant(np.asarray([1 / new], FLOAT))
    else:
        middles = g.constant(np.arange(new, dtype=FLOAT) + FLOAT(0.5))
        scale = g.node("Div", [whole, np.asarray([new], FLOAT)], (1,), "float32")
    scaled = g.node("Mul", [middles, scale], (length,), "float32")
    at = g.node("Sub", [scaled, np.asarray([0.5], FLOAT)], (length,), "float32")
    floor, ceil = (g.node(op, [at], (length,), "float32") for op in ("Floor", "Ceil"))
    last = g.node("Sub", [whole, np.asarray([1], FLOAT)], (1,), "float32")
    below = g.node("Max", [floor, np.asarray([0], FLOAT)], (length,), "float32")
    above = g.node("Min", [ceil, last], (length,), "float32")
    share = g.node("Sub", [at, floor], (length,), "float32")
    return [g.cast(below, "int64"), g.cast(above, "int64")], share


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

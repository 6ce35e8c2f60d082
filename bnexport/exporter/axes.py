"""Work on single axes that leaves a tensor in the layout it has: slices, padding, repetition, and permutations without a detour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bnexport.exporter.arithmetic import axis_of, integers
from bnexport.exporter.graph import Graph, Input, Shape, Value

END = int(np.iinfo(np.int64).max)
"""The end of a slice that goes on to the end of its axis."""


def tensor_axis(x: Value, axis: int) -> int:
    """Where an axis (in Keras' order, may be negative) is in the tensor."""
    axis = axis_of(x, axis)
    if not x.channels_first or axis == 0:
        return axis
    return 1 if axis == x.rank - 1 else axis + 1


def with_side(shape: Shape, axis: int, side: int | None) -> Shape:
    """The shape with another side at one axis."""
    axis %= len(shape)
    return (*shape[:axis], side, *shape[axis + 1 :])


def permute(g: Graph, x: Value, order: Sequence[int]) -> Value:
    """The axes of `x` (in Keras' order) in another order; no node where the tensor lies like that already."""
    axes = [tensor_axis(x, axis) for axis in order]
    shape = tuple(x.shape[axis] for axis in order)
    if axes == list(range(x.rank)):
        return Value(x.name, shape, x.dtype)
    return g.node("Transpose", [x], shape, x.dtype, perm=axes)


def cut(g: Graph, x: Value, bounds: Mapping[int, tuple[int, int]]) -> Value:
    """A part of some axes: how much goes at their beginnings and ends."""
    bounds = {axis: (start, end) for axis, (start, end) in bounds.items() if start or end}
    if not bounds:
        return replace(x, mask=None)
    shape = x.shape
    for axis, (start, end) in bounds.items():
        side = shape[axis]
        shape = with_side(shape, axis, None if side is None else max(side - start - end, 0))
    return g.node(
        "Slice",
        [
            x,
            integers(*(start for start, _ in bounds.values())),
            integers(*(-end if end else END for _, end in bounds.values())),
            integers(*(tensor_axis(x, axis) for axis in bounds)),
        ],
        shape,
        x.dtype,
        channels_first=x.channels_first,
    )


def pad(
    g: Graph, x: Value, widths: Mapping[int, tuple[int, int]], *, mode: str = "constant", value: Input = None
) -> Value:
    """More numbers at the beginnings and ends of some axes.

    Args:
        g: the graph.
        x: the value.
        widths: how many, by axis.
        mode: of ONNX: "constant", "reflect" or "edge".
        value: what is added; None for 0.
    """
    widths = {axis_of(x, axis): width for axis, width in widths.items() if any(width)}
    if not widths:
        return replace(x, mask=None)
    shape = x.shape
    for axis, (before, after) in widths.items():
        side = shape[axis]
        shape = with_side(shape, axis, None if side is None else side + before + after)
    sizes = [0] * (2 * x.rank)
    for axis, (before, after) in widths.items():
        position = tensor_axis(x, axis)
        sizes[position], sizes[x.rank + position] = before, after
    inputs: list[Input] = [x, integers(*sizes)]
    if value is not None:
        inputs.append(g.cast(g.value(value, x.dtype), x.dtype))
    return g.node("Pad", inputs, shape, x.dtype, channels_first=x.channels_first, mode=mode)


RESIZABLE = frozenset({"float32"})
"""The dtypes that Resize is used for; other ones are repeated by Expand."""


def repeat(g: Graph, x: Value, counts: Mapping[int, int]) -> Value:
    """Each position of some axes so many times, next to each other."""
    counts = {axis_of(x, axis): count for axis, count in counts.items() if count != 1}
    if not counts:
        return replace(x, mask=None)
    if x.dtype not in RESIZABLE or 0 in counts:
        for axis, count in counts.items():
            x = _repeat_by_expand(g, x, axis, count)
        return x
    shape, scales = x.shape, np.ones(x.rank, np.float32)
    for axis, count in counts.items():
        side = shape[axis]
        shape = with_side(shape, axis, None if side is None else side * count)
        scales[tensor_axis(x, axis)] = count
    return g.node(
        "Resize",
        [x, None, scales],
        shape,
        x.dtype,
        channels_first=x.channels_first,
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def _repeat_by_expand(g: Graph, x: Value, axis: int, count: int) -> Value:
    side = x.shape[axis]
    position = tensor_axis(x, axis)
    shape = with_side(x.shape, axis, None if side is None else side * count)
    wide = g.node("Unsqueeze", [x, integers(position + 1)], (*x.shape, 1), x.dtype)
    times = integers(*[1] * (position + 1), count, *[1] * (x.rank - position - 1))
    wide = g.node("Expand", [wide, times], (*x.shape, count), x.dtype)
    all_sizes = g.node("Shape", [x], (x.rank,), "int64")
    factors = integers(*(count if axis == position else 1 for axis in range(x.rank)))
    sizes = g.node("Mul", [all_sizes, factors], (x.rank,), "int64")
    return g.node("Reshape", [wide, sizes], shape, x.dtype, channels_first=x.channels_first)


def reduce_over(g: Graph, op: str, x: Value, axes: Sequence[int], *, keepdims: bool = False) -> Value:
    """A reduction (`op` is "ReduceMean" or the like) over axes in Keras' order, in the layout that the value has."""
    gone = sorted({axis_of(x, axis) for axis in axes})
    left = [axis for axis in range(x.rank) if axis not in gone]
    last = x.rank - 1
    first = x.channels_first and (keepdims or (last in left and len(left) > 2))
    if x.channels_first and not keepdims and 0 in gone:
        x, first = g.in_keras_order(x), False
    shape = [1 if axis in gone else side for axis, side in enumerate(x.shape) if keepdims or axis not in gone]
    positions = sorted(tensor_axis(x, axis) for axis in gone)
    return g.node(op, [x, integers(*positions)], shape, x.dtype, channels_first=first, keepdims=int(keepdims))

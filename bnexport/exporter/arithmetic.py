"""What many layers are made of: arithmetic with broadcasting in either layout, sizes that are fixed when the graph runs, slices and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnexport.exporter.graph import Graph, Input, Shape, Value
from bnexport.types import Array


def elementwise(g: Graph, op: str, *inputs: Input, dtype: str = "", computes: str = "", name: str = "") -> Value:
    """A node whose inputs are broadcast against each other as NumPy does it, whatever their layouts.

    Args:
        g: the graph.
        op: the ONNX operator.
        inputs: values and constants; Python numbers get the dtype of the first value.
        dtype: of the output; "" for that of the first value.
        computes: the dtype that all values are cast to before; "" to leave them as they are.
        name: of the node; "" for the scope and the operator.
    """
    first = next(value for value in inputs if isinstance(value, Value))
    values = [g.value(given, computes or first.dtype) for given in inputs]
    if computes:
        values = [g.cast(value, computes) for value in values]
    shape = broadcast(*(value.shape for value in values))
    rank = len(shape)
    movable = all(value.rank in (0, rank) or g.array(value) is not None for value in values)
    moved = rank > 2 and movable and any(value.channels_first and value.rank == rank for value in values)
    if moved:
        values = [_with_rank(g, value, rank) for value in values]
        values = [g.with_channels_first(value) if value.rank else value for value in values]
    else:
        values = [g.in_keras_order(value) for value in values]
    result = g.node(op, values, shape, dtype or values[0].dtype, channels_first=moved, name=name)
    return replace(result, mask=first.mask)


def _with_rank(g: Graph, value: Value, rank: int) -> Value:
    """A constant with ones for the axes it lacks in front."""
    array = g.array(value)
    if array is None or value.rank in (0, rank):
        return value
    return g.remake(value, array.reshape([1] * (rank - value.rank) + list(array.shape)))


def broadcast(*shapes: Shape) -> Shape:
    """The shape that arrays of these shapes have together; an open side stays open unless the other one is larger than 1."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result: list[int | None] = []
    for sides in zip(*padded, strict=True):
        fixed = [side for side in sides if side not in (1, None)]
        result.append(fixed[0] if fixed else (None if None in sides else 1))
    return tuple(result)


def has_other_axis(x: Shape, bias: Shape) -> bool:
    """Whether Keras on TensorFlow adds along another axis than NumPy and the other backends of Keras.

    It takes what has one axis longer than 1 for a bias along the last axis of its length, or the second one
    (`add` in keras/src/backend/tensorflow/numpy.py).

    Args:
        x: the shape of what is added to.
        bias: the shape of what is added.
    """
    long = [(axis - len(bias), side) for axis, side in enumerate(bias) if side != 1]
    if len(long) != 1 or len(x) < 2 or long[0][1] is None:
        return False
    axis, side = long[0]
    along = -1 if x[-1] == side else 1 - len(x) if x[1] == side else axis
    return along != axis


def unary(g: Graph, op: str, x: Value, *, name: str = "", **attributes: object) -> Value:
    """A node that computes each number by itself, in the layout of its input."""
    made = g.node(op, [x], x.shape, x.dtype, channels_first=x.channels_first, name=name, **attributes)
    return replace(made, mask=x.mask)


def axis_of(x: Value, axis: int) -> int:
    """An axis counted from the first one.

    Raises:
        ValueError: the value has no such axis.
    """
    if not -x.rank <= axis < x.rank:
        raise ValueError(f"axis {axis} of a value with {x.rank} axes")
    return axis % x.rank


def integers(*numbers: int) -> Array:
    """A constant of sizes, axes or positions."""
    return np.asarray(numbers, np.int64)


def size_of(g: Graph, x: Value, axis: int) -> Value:
    """The size of an axis (counted in Keras' order) as int64, shape (1,): a constant where it is known."""
    axis %= x.rank
    side = x.shape[axis]
    if side is not None:
        return g.constant(integers(side))
    where = axis
    if x.channels_first and axis:
        where = 1 if axis == x.rank - 1 else axis + 1
    return g.node("Shape", [x], (1,), "int64", start=where, end=where + 1)


def sizes_of(g: Graph, x: Value, axes: Sequence[int]) -> Value:
    """The sizes of several axes as int64, shape (n,)."""
    parts = [size_of(g, x, axis) for axis in axes]
    arrays = [g.array(part) for part in parts]
    if all(array is not None for array in arrays):
        return g.constant(np.concatenate([array for array in arrays if array is not None]))
    return parts[0] if len(parts) == 1 else g.node("Concat", parts, (len(parts),), "int64", axis=0)


def reshape(g: Graph, x: Value, shape: Sequence[int | None], sizes: Sequence[Value] | None = None) -> Value:
    """The numbers of `x`, read in Keras' order, with another shape.

    Args:
        g: the graph.
        x: the value.
        shape: with the batch axis; at most one open side, unless `sizes` says what they are.
        sizes: the size of each axis, int64 of shape (1,), where more than one side is open.
    """
    x = g.in_keras_order(x)
    if tuple(shape) == x.shape and list(shape).count(None) <= 1:
        return x
    if sizes is None and list(shape).count(None) <= 1:
        target: Input = integers(*(-1 if side is None else side for side in shape))
    elif sizes is None and shape[0] is None and x.shape[0] is None and list(shape[1:]).count(None) == 1:
        target = integers(0, *(-1 if side is None else side for side in shape[1:]))
    elif sizes is None:
        raise ValueError(f"the sizes of {tuple(shape)} are not fixed")
    else:
        target = g.node("Concat", list(sizes), (len(sizes),), "int64", axis=0)
    return g.node("Reshape", [x, target], tuple(shape), x.dtype)


def transpose(g: Graph, x: Value, axes: Sequence[int]) -> Value:
    """The axes of `x` (in Keras' order) in another order."""
    x = g.in_keras_order(x)
    if list(axes) == list(range(x.rank)):
        return x
    return g.node("Transpose", [x], [x.shape[axis] for axis in axes], x.dtype, perm=list(axes))


def take(g: Graph, x: Value, axis: int, start: int, end: int, *, step: int = 1) -> Value:
    """The positions from `start` to `end` of one axis (in Keras' order); negative ones count from the end."""
    x = g.in_keras_order(x)
    axis %= x.rank
    side = x.shape[axis]
    length = None if side is None else len(range(*slice(start, end, step).indices(side)))
    if side is None and step == 1 and 0 <= start <= end < np.iinfo(np.int32).max:
        length = None
    shape = [*x.shape[:axis], length, *x.shape[axis + 1 :]]
    return g.node("Slice", [x, integers(start), integers(end), integers(axis), integers(step)], shape, x.dtype)


def squeeze(g: Graph, x: Value, *axes: int) -> Value:
    """`x` without these axes (in Keras' order), whose size is 1."""
    x = g.in_keras_order(x)
    gone = {axis_of(x, axis) for axis in axes}
    shape = [side for axis, side in enumerate(x.shape) if axis not in gone]
    return g.node("Squeeze", [x, integers(*sorted(gone))], shape, x.dtype)


def expand(g: Graph, x: Value, *axes: int) -> Value:
    """`x` with axes of size 1 at these positions of the result (in Keras' order)."""
    x = g.in_keras_order(x)
    rank = x.rank + len(axes)
    new = sorted(axis % rank for axis in axes)
    sides = iter(x.shape)
    shape = [1 if axis in new else next(sides) for axis in range(rank)]
    return g.node("Unsqueeze", [x, integers(*new)], shape, x.dtype)


def reduce(g: Graph, op: str, x: Value, axes: Sequence[int], *, keepdims: bool = False) -> Value:
    """A reduction (`op` is "ReduceMean" or the like) over axes in Keras' order."""
    x = g.in_keras_order(x)
    gone = {axis_of(x, axis) for axis in axes}
    shape = [1 if axis in gone else side for axis, side in enumerate(x.shape) if keepdims or axis not in gone]
    return g.node(op, [x, integers(*sorted(gone))], shape, x.dtype, keepdims=int(keepdims))


def matmul(g: Graph, a: Value, b: Input) -> Value:
    """The matrix product over the last two axes, with the axes before broadcast."""
    a = g.in_keras_order(a)
    right = g.in_keras_order(g.value(b, a.dtype))
    shape = (*broadcast(a.shape[:-2], right.shape[:-2]), a.shape[-2], right.shape[-1])
    return g.node("MatMul", [a, right], shape, a.dtype)

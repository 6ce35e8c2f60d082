"""Layers that make one value of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce as fold

import numpy as np

from bnexport.exporter.arithmetic import (
    axis_of,
    elementwise,
    expand,
    integers,
    matmul,
    reduce,
    reshape,
    size_of,
    squeeze,
    unary,
)
from bnexport.exporter.axes import permute, tensor_axis
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.promotion import QUOTIENTS, as_value, binary, result_type
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer

OPERATORS = {
    "Add": "Add",
    "Average": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Maximum": "Max",
    "Minimum": "Min",
}

EPSILON = 1e-7
"""Of Keras; files do not say another one."""


def of_one_rank(g: Graph, inputs: Sequence[Value]) -> list[Value]:
    """The inputs with axes of size 1 behind the batch axis, so that all have as many; those that get some lose their mask."""
    rank = max(x.rank for x in inputs)
    return [x if x.rank == rank else replace(expand(g, x, *range(1, 1 + rank - x.rank)), mask=None) for x in inputs]


def either(g: Graph, masks: Sequence[Value | None]) -> Value | None:
    """Where any of the masks holds; None where one of them is missing."""
    given = [mask for mask in masks if mask is not None]
    if len(given) < len(masks):
        return None
    return fold(lambda a, b: elementwise(g, "Or", a, b), given)


@emits("Add", "Average", "Subtract", mask="own")
def merge(g: Graph, layer: StoredLayer, inputs: Sequence[Value]) -> Value:
    """The sum, the mean or the difference; its mask holds where any of the inputs' does."""
    values = of_one_rank(g, inputs)
    made = values[0]
    for x in values[1:]:
        made = binary(g, OPERATORS[layer.kind], made, x)
    if layer.kind == "Average":
        dtype = QUOTIENTS.get(made.dtype, made.dtype)
        made = binary(g, "Div", g.cast(made, dtype), len(inputs), dtype=dtype)
    return replace(made, mask=either(g, [x.mask for x in inputs]))


def wide_mask(g: Graph, x: Value) -> Value | None:
    """The mask of a value with an axis for its numbers."""
    return None if x.mask is None else expand(g, x.mask, -1)


def choose(g: Graph, condition: Value, a: Value, b: Value) -> Value:
    """One value where a condition holds, another one elsewhere."""
    condition, a, b = (g.in_keras_order(value) for value in (condition, a, b))
    return replace(elementwise(g, "Where", condition, a, b, dtype=a.dtype), mask=None)


@emits("Maximum", "Minimum", mask="own")
def extreme(g: Graph, layer: StoredLayer, inputs: Sequence[Value]) -> Value:
    """The largest or the smallest number; what is masked does not count."""
    values = of_one_rank(g, inputs)
    made, kept = values[0], wide_mask(g, values[0])
    for x in values[1:]:
        mask = wide_mask(g, x)
        if mask is not None:
            x = choose(g, mask, *_alike(g, x, made))
        if kept is not None:
            made = choose(g, kept, *_alike(g, made, x))
        kept = None if mask is None or kept is None else elementwise(g, "Or", kept, mask)
        made = binary(g, OPERATORS[layer.kind], made, x)
    if kept is not None:
        return replace(made, mask=squeeze(g, kept, -1))
    return replace(made, mask=either(g, [x.mask for x in inputs]))


def _alike(g: Graph, a: Value, b: Value) -> tuple[Value, Value]:
    dtype = result_type(a, b)
    return g.cast(a, dtype), g.cast(b, dtype)


@emits("Multiply", mask="own")
def multiply(g: Graph, layer: StoredLayer, inputs: Sequence[Value]) -> Value:  # noqa: ARG001 - the form of an emitter
    """The product; what is masked counts as 1, and as 0 where all are masked."""
    values = of_one_rank(g, inputs)
    masks = [wide_mask(g, x) for x in values]
    made: Value | None = None
    for x, mask in zip(values, masks, strict=True):
        if mask is not None:
            x = choose(g, mask, x, as_value(g, 1, x.dtype))
        made = x if made is None else binary(g, "Mul", made, x)
    if made is None:
        raise NotCovered("a product of no values")
    kept = either(g, masks)
    if kept is not None:
        made = choose(g, kept, made, as_value(g, 0, made.dtype))
        return replace(made, mask=squeeze(g, kept, -1))
    return replace(made, mask=either(g, [x.mask for x in inputs]))


def concat(g: Graph, values: Sequence[Value], axis: int) -> Value:
    """The values behind each other along one axis, channels first where the first one is so."""
    first = next((x for x in values if x.rank > 2 and x.channels_first), values[0])
    values = [g.with_channels_first(x) if first.channels_first else g.in_keras_order(x) for x in values]
    axis = axis_of(first, axis)
    sides = [x.shape[axis] for x in values]
    whole = None if None in sides else sum(side or 0 for side in sides)
    others = [
        next((x.shape[position] for x in values if x.shape[position] is not None), None)
        for position in range(first.rank)
    ]
    shape = [whole if position == axis else side for position, side in enumerate(others)]
    if len(values) == 1:
        return replace(values[0], mask=None)
    return g.node(
        "Concat",
        values,
        shape,
        values[0].dtype,
        channels_first=first.channels_first,
        axis=tensor_axis(first, axis),
    )


@emits("Concatenate", mask="own")
def concatenate(g: Graph, layer: StoredLayer, inputs: Sequence[Value]) -> Value:
    """The inputs behind each other; their masks too, where one has any."""
    axis = int(layer.config.get("axis", -1))
    dtype = result_type(*inputs)
    made = concat(g, [g.cast(x, dtype) for x in inputs], axis)
    if all(x.mask is None for x in inputs):
        return made
    masks = [_mask_of_shape(g, x) for x in inputs]
    both = concat(g, masks, axis)
    return replace(made, mask=g.cast(reduce(g, "ReduceMax", g.cast(both, "int32"), [-1]), "bool"))


def _mask_of_shape(g: Graph, x: Value) -> Value:
    """A mask of the shape of the value: everywhere where it has none."""
    x, mask = g.in_keras_order(x), x.mask
    if mask is not None and mask.rank == x.rank:
        return mask
    sizes = g.node("Shape", [x], (x.rank,), "int64")
    whole = g.constant(np.ones((), np.bool_)) if mask is None else expand(g, mask, -1)
    return g.node("Expand", [whole, sizes], x.shape, "bool")


@emits("Dot", mask="off")
def dot(g: Graph, layer: StoredLayer, inputs: Sequence[Value]) -> Value:
    """The products of two inputs summed over one axis of each, for each example; the cosine where they are normalised."""
    axes = layer.config.get("axes", -1)
    pair = [axes, axes] if isinstance(axes, int) else list(axes)
    positions = [axis_of(x, int(axis)) for axis, x in zip(pair, inputs, strict=True)]
    x, y = (g.in_keras_order(replace(value, mask=None)) for value in inputs)
    dtype = result_type(x, y)
    x, y = g.cast(x, dtype), g.cast(y, dtype)
    if layer.config.get("normalize"):
        x, y = to_length_one(g, x, positions[0]), to_length_one(g, y, positions[1])
    return batch_dot(g, x, y, positions)


def to_length_one(g: Graph, x: Value, axis: int) -> Value:
    """The value divided by its length along one axis, which counts as at least 1e-7."""
    total = reduce(g, "ReduceSum", elementwise(g, "Mul", x, x), [axis], keepdims=True)
    inverse = unary(g, "Reciprocal", unary(g, "Sqrt", total))
    return elementwise(g, "Mul", x, elementwise(g, "Min", inverse, 1 / EPSILON))


def integers_value(g: Graph, number: int) -> Value:
    """A size as a constant."""
    return g.constant(integers(number))


def batch_dot(g: Graph, x: Value, y: Value, positions: Sequence[int]) -> Value:
    """Keras' batch_dot over one axis of each."""
    kept = [axis for axis in range(1, x.rank) if axis != positions[0]]
    new = [axis for axis in range(1, y.rank) if axis != positions[1]]
    sides = [x.shape[0], *(x.shape[axis] for axis in kept), *(y.shape[axis] for axis in new)]
    sizes = [size_of(g, x, axis) for axis in (0, *kept)] + [size_of(g, y, axis) for axis in new]
    x = permute(g, x, [0, *kept, positions[0]])
    y = permute(g, y, [0, positions[1], *new])
    if len(kept) == 0:
        x = expand(g, x, 1)
    elif len(kept) > 1:
        x = reshape(g, x, (x.shape[0], None, x.shape[-1]), [sizes[0], integers_value(g, -1), size_of(g, x, -1)])
    if len(new) == 0:
        y = expand(g, y, 2)
    elif len(new) > 1:
        y = reshape(g, y, (*y.shape[:2], None), [size_of(g, y, 0), size_of(g, y, 1), integers_value(g, -1)])
    made = matmul(g, x, y)
    if len(kept) > 1 or len(new) > 1:
        return reshape(g, made, sides, sizes)
    if not kept:
        return squeeze(g, made, 1)
    return squeeze(g, made, -1) if not new else made

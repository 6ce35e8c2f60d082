"""Nodes of `keras.ops` about matrices: diagonals, determinants, cross and Kronecker products, correlation, patterns of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnexport.exporter.arithmetic import (
    axis_of,
    elementwise,
    expand,
    integers,
    matmul,
    reduce,
    reshape,
    transpose,
    unary,
)
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.operations.shapes import flip
from bnexport.exporter.promotion import Operand, as_value, binary, floating, result_type, widen
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import policy_name

SUMS = {"bool": "int32", "int8": "int32", "int16": "int32", "uint8": "uint32", "uint16": "uint32"}


def to_end(g: Graph, x: Value, *axes: int) -> Value:
    """The axes moved behind the others, in this order."""
    places = [axis % x.rank for axis in axes]
    return transpose(g, x, [*(axis for axis in range(x.rank) if axis not in places), *places])


@emits_operation("Diagonal", "Trace")
def diagonal(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The numbers on a diagonal of two axes as the last axis, or their sum."""
    value, config = as_value(g, x), layer.config
    moved = to_end(g, value, int(config.get("axis1", 0)), int(config.get("axis2", 1)))
    rows, columns = moved.shape[-2:]
    if rows is None or columns is None:
        raise NotCovered(f"{layer.kind.lower()} of axes of open size")
    offset = int(config.get("offset", 0))
    places = [row * columns + row + offset for row in range(rows) if 0 <= row + offset < columns]
    flat = reshape(g, moved, (*moved.shape[:-2], rows * columns))
    shape = (*flat.shape[:-1], len(places))
    picked = g.node("Gather", [flat, integers(*places)], shape, flat.dtype, axis=flat.rank - 1)
    if layer.kind == "Diagonal":
        return picked
    dtype = SUMS.get(value.dtype, value.dtype)
    return g.cast(reduce(g, "ReduceSum", widen(g, g.cast(picked, dtype)), [-1]), dtype)


@emits_operation("Det", "Logdet", "Slogdet")
def determinant(g: Graph, layer: StoredLayer, x: Operand) -> Value | tuple[Value, Value]:
    """The determinant of matrices, its logarithm, or its sign and the logarithm of its size."""
    value = g.in_keras_order(as_value(g, x, floating(x)))
    made = g.node("Det", [value], value.shape[:-2], value.dtype)
    if layer.kind == "Det":
        return made
    if layer.kind == "Logdet":
        return unary(g, "Log", made)
    return unary(g, "Sign", made), unary(g, "Log", unary(g, "Abs", made))


@emits_operation("Cross")
def cross(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """The cross product of vectors with two or three numbers."""
    config, dtype = layer.config, result_type(x1, x2)
    axis = config.get("axis")
    where = [int(config.get(name, -1) if axis is None else axis) for name in ("axisa", "axisb", "axisc")]
    vectors = [to_end(g, widen(g, as_value(g, x, dtype)), place) for x, place in zip((x1, x2), where, strict=False)]
    sides = [vector.shape[-1] for vector in vectors]
    if not all(side in (2, 3) for side in sides):
        raise NotCovered("a cross product along an axis of open size")
    a, b = ([_part(g, vector, nth) for nth in range(vector.shape[-1] or 0)] for vector in vectors)
    third = _minor(g, a[0], b[1], a[1], b[0])
    if sides == [2, 2]:
        return g.cast(third, dtype)
    zero = elementwise(g, "Sub", third, third)
    a, b = (part if len(part) == 3 else [*part, zero] for part in (a, b))
    parts = [_minor(g, a[1], b[2], a[2], b[1]), _minor(g, a[2], b[0], a[0], b[2]), third]
    wide = [g.in_keras_order(expand(g, part, -1)) for part in parts]
    shape = (*wide[0].shape[:-1], 3)
    made = g.node("Concat", wide, shape, wide[0].dtype, axis=wide[0].rank - 1)
    place = where[2] % made.rank
    order = list(range(made.rank - 1))
    order.insert(place, made.rank - 1)
    return g.cast(transpose(g, made, order), dtype)


def _part(g: Graph, x: Value, place: int) -> Value:
    return g.node("Gather", [x, np.asarray(place, np.int64)], x.shape[:-1], x.dtype, axis=x.rank - 1)


def _minor(g: Graph, a: Value, b: Value, c: Value, d: Value) -> Value:
    return elementwise(g, "Sub", elementwise(g, "Mul", a, b), elementwise(g, "Mul", c, d))


@emits_operation("Kron")
def kronecker(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """Each number of the first times all of the second."""
    dtype = result_type(x1, x2)
    a, b = (g.in_keras_order(widen(g, as_value(g, x, dtype))) for x in (x1, x2))
    rank = max(a.rank, b.rank)
    a, b = (expand(g, x, *range(rank - x.rank)) if x.rank < rank else x for x in (a, b))
    wide = elementwise(g, "Mul", expand(g, a, *range(1, 2 * rank, 2)), expand(g, b, *range(0, 2 * rank, 2)))
    sides = [
        None if None in pair else math.prod(side or 0 for side in pair) for pair in zip(a.shape, b.shape, strict=True)
    ]
    return g.cast(reshape(g, wide, sides), dtype)


@emits_operation("Vander")
def powers(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The powers of each number as a row."""
    value, count = as_value(g, x), layer.config.get("N") or as_value(g, x).shape[0]
    if count is None:
        raise NotCovered("vander without N of a vector of open size")
    exponents = np.arange(int(count)) if layer.config.get("increasing") else np.arange(int(count))[::-1]
    wide = result_type(value, "float32")
    made = binary(g, "Pow", expand(g, value, -1), exponents.astype(wide), dtype=wide)
    return g.cast(made, value.dtype)


@emits_operation("Corrcoef")
def correlation(g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """How the rows of a matrix are correlated with each other."""
    value = g.in_keras_order(as_value(g, x, floating(x)))
    count = value.shape[-1]
    if count is None or value.rank < 2 or value.shape[-2] is None:
        raise NotCovered("corrcoef of matrices of open size")
    centred = elementwise(g, "Sub", value, reduce(g, "ReduceMean", value, [-1], keepdims=True))
    axes = [*range(value.rank - 2), value.rank - 1, value.rank - 2]
    covariance = elementwise(g, "Div", matmul(g, centred, transpose(g, centred, axes)), float(count - 1))
    variance = elementwise(g, "Mul", covariance, np.eye(value.shape[-2], dtype=value.dtype))
    deviation = unary(g, "Sqrt", reduce(g, "ReduceSum", variance, [-1]))
    if value.rank > 2:
        raise NotCovered("corrcoef of several matrices")
    both = elementwise(g, "Mul", expand(g, deviation, -1), expand(g, deviation, 0))
    made = elementwise(g, "Div", covariance, both)
    return elementwise(g, "Min", elementwise(g, "Max", made, -1.0), 1.0)


@emits_operation("Rot90")
def rotate(g: Graph, layer: StoredLayer, array: Operand) -> Value:
    """Turned by right angles in the plane of the last two axes.

    Raises:
        NotCovered: it is another plane, in which the backends of Keras turn differently.
    """
    x = replace(as_value(g, array), mask=None)
    turns = int(layer.config.get("k", 1)) % 4
    first, second = (axis_of(x, int(axis)) for axis in layer.config.get("axes", (0, 1)))
    if (first, second) != (x.rank - 2, x.rank - 1):
        raise NotCovered(
            "rot90 in another plane than that of the last two axes, which the backends of Keras turn differently"
        )
    if turns == 2 and (x.shape[first] is None or x.shape[first] != x.shape[second]):
        raise NotCovered(
            "rot90 by two right angles of planes that are not square, which Keras on TensorFlow computes wrongly"
        )
    order = list(range(x.rank))
    order[first], order[second] = second, first
    backwards = {1: [second], 2: [first, second], 3: [first]}.get(turns)
    if backwards:
        x = flip(g, replace(layer, kind="Flip", config={"axis": backwards}), x)
    return transpose(g, x, order) if turns in (1, 3) else x


@emits_operation("Linspace", "Logspace")
def spaced(g: Graph, layer: StoredLayer, start: Operand, stop: Operand) -> Value | tuple[Value, Value]:
    """Numbers at equal distances from start to stop, or a base to the power of them."""
    config = layer.config
    given, count = config.get("dtype"), int(config.get("num", 50))
    dtype = policy_name(given) if given else result_type(start, stop, "float")
    if "int" in dtype or count < 2:
        raise NotCovered(f"{layer.kind.lower()} of integers, or of fewer than two numbers")
    a, b = as_value(g, start, dtype), as_value(g, stop, dtype)
    ends = count - 1 if config.get("endpoint", True) else count
    step = elementwise(g, "Div", elementwise(g, "Sub", b, a), float(ends))
    axis = int(config.get("axis", 0))
    rank = max(a.rank, b.rank) + 1
    axis %= rank
    numbers = np.arange(count).astype(dtype).reshape([count if place == axis else 1 for place in range(rank)])
    wide = [expand(g, value, axis) if value.rank == rank - 1 else value for value in (a, step)]
    made = elementwise(g, "Add", elementwise(g, "Mul", wide[1], numbers), wide[0])
    if layer.kind == "Logspace":
        return elementwise(g, "Pow", g.value(float(config.get("base", 10)), dtype), made)
    return (made, step) if config.get("retstep") else made


@emits_operation("Full")
def full(g: Graph, layer: StoredLayer, fill_value: Operand) -> Value:
    """A number in a fixed shape."""
    shape, given = layer.config["shape"], layer.config.get("dtype")
    sides = [int(side) for side in (shape if isinstance(shape, Sequence) else [shape])]
    value = as_value(g, fill_value, policy_name(given) if given else "float32")
    return g.node("Expand", [value, integers(*sides)], sides, value.dtype)

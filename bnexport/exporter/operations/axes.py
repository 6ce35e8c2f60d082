"""Nodes of `keras.ops` that reduce, sort and add up along axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnexport.exporter.arithmetic import axis_of, elementwise, expand, integers, reduce, reshape, unary
from bnexport.exporter.axes import cut, reduce_over
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.promotion import Operand, as_value, binary, floating, is_float, result_type, widen
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import policy_name

SUMS = {"bool": "int32", "int8": "int32", "int16": "int32", "uint8": "uint32", "uint16": "uint32"}
"""The dtype of a sum of small integers."""


def axes_of(layer: StoredLayer, x: Value) -> list[int]:
    """The axes that an operation is told; all for None."""
    axis = layer.config.get("axis", layer.config.get("axes"))
    if axis is None:
        return list(range(x.rank))
    return [axis_of(x, int(a)) for a in (axis if isinstance(axis, Sequence) else [axis])]


def _over(g: Graph, op: str, x: Value, layer: StoredLayer) -> Value:
    axes = axes_of(layer, x)
    if not axes:
        return x
    return reduce_over(g, op, x, axes, keepdims=bool(layer.config.get("keepdims", False)))


@emits_operation("Sum", "Prod")
def total(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The sum or the product."""
    x = as_value(g, x)
    given = layer.config.get("dtype")
    dtype = policy_name(given) if given else SUMS.get(x.dtype, x.dtype)
    return g.cast(_over(g, f"Reduce{layer.kind}", widen(g, g.cast(x, dtype)), layer), dtype)


@emits_operation("Mean", "Average", "Var", "Std")
def moment(g: Graph, layer: StoredLayer, x: Operand, weights: Operand | None = None) -> Value:
    """The mean, the variance or its root; that of integers is float32, and half precision is computed in float32."""
    if weights is not None:
        return _weighted(g, layer, x, weights)
    x = as_value(g, x)
    dtype = floating(x)
    wide = g.cast(x, "float64" if dtype == "float64" else "float32")
    if layer.kind in ("Mean", "Average"):
        return g.cast(_over(g, "ReduceMean", wide, layer), dtype)
    made = _variance(g, layer, wide)
    return g.cast(unary(g, "Sqrt", made) if layer.kind == "Std" else made, dtype)


def _weighted(g: Graph, layer: StoredLayer, x: Operand, weights: Operand) -> Value:
    """The average with weights of the shape of the value, or one for each position of an axis."""
    dtype = result_type(x, weights, "float")
    value, share = as_value(g, x, dtype), as_value(g, weights, dtype)
    axes = axes_of(layer, value)
    if share.rank < value.rank:
        share = reshape(g, share, [share.shape[0] if axis in axes else 1 for axis in range(value.rank)])
    total = reduce_over(g, "ReduceSum", elementwise(g, "Mul", value, share), axes)
    return elementwise(g, "Div", total, reduce_over(g, "ReduceSum", share, axes))


def _variance(g: Graph, layer: StoredLayer, x: Value) -> Value:
    centre = reduce_over(g, "ReduceMean", x, axes_of(layer, x), keepdims=True)
    apart = elementwise(g, "Sub", x, centre)
    return _over(g, "ReduceMean", elementwise(g, "Mul", apart, apart), layer)


@emits_operation("Moments")
def moments(g: Graph, layer: StoredLayer, x: Operand) -> tuple[Value, Value]:
    """Mean and variance."""
    x = as_value(g, x)
    wide = g.cast(x, "float64" if x.dtype == "float64" else "float32")
    mean = _over(g, "ReduceMean", wide, layer)
    return g.cast(mean, x.dtype), g.cast(_variance(g, layer, wide), x.dtype)


@emits_operation("Max", "Min", "Amax", "Amin", "Ptp")
def extreme(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The largest or the smallest number, or how far they are apart."""
    x = as_value(g, x)
    wide = widen(g, x)
    if layer.kind == "Ptp":
        apart = elementwise(g, "Sub", _over(g, "ReduceMax", wide, layer), _over(g, "ReduceMin", wide, layer))
        return g.cast(apart, x.dtype)
    op = "Max" if layer.kind.lower().endswith("max") else "Min"
    made = g.cast(_over(g, f"Reduce{op}", wide, layer), x.dtype)
    initial = layer.config.get("initial")
    return made if initial is None else binary(g, op, made, initial, dtype=made.dtype)


@emits_operation("Any", "All", "CountNonzero")
def truth(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Whether one or all are true (not 0), or how many."""
    whole = g.cast(as_value(g, x, "bool"), "int32")
    if layer.kind == "CountNonzero":
        return _over(g, "ReduceSum", whole, layer)
    return g.cast(_over(g, "ReduceMax" if layer.kind == "Any" else "ReduceMin", whole, layer), "bool")


@emits_operation("Logsumexp")
def log_sum_exp(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """log(sum(exp(x))), without overflow."""
    x = as_value(g, x, floating(x))
    return log_of_sum(g, x, axes_of(layer, x), keepdims=bool(layer.config.get("keepdims", False)))


def log_of_sum(g: Graph, x: Value, axes: Sequence[int], *, keepdims: bool) -> Value:
    """log(sum(exp(x))) over axes."""
    most = reduce_over(g, "ReduceMax", x, axes, keepdims=True)
    sums = reduce_over(g, "ReduceSum", unary(g, "Exp", elementwise(g, "Sub", x, most)), axes, keepdims=True)
    made = elementwise(g, "Add", unary(g, "Log", sums), most)
    return made if keepdims else reduce_over(g, "ReduceMax", made, axes)


@emits_operation("Norm")
def norm(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The length of vectors: the root of the sum of squares, the sum of sizes, or the largest size.

    Raises:
        NotCovered: it is the norm of matrices, or of another order.
    """
    x = as_value(g, x, floating(x))
    order, axis = layer.config.get("ord"), layer.config.get("axis")
    whole = axis is None or isinstance(axis, Sequence)
    if order in (None, "fro", "euclidean") or (order == 2 and not whole):
        return unary(g, "Sqrt", _over(g, "ReduceSum", elementwise(g, "Mul", x, x), layer))
    if not whole and order in (np.inf, "inf"):
        return _over(g, "ReduceMax", unary(g, "Abs", x), layer)
    if not whole and isinstance(order, int) and order > 0:
        return power_sum(g, x, axes_of(layer, x), order, keepdims=bool(layer.config.get("keepdims", False)))
    raise NotCovered(f"the norm of order {order}")


def power_sum(g: Graph, x: Value, axes: Sequence[int], order: int, *, keepdims: bool) -> Value:
    """The sum of the sizes, each to a power, and the root of it."""
    sizes = unary(g, "Abs", x)
    if order == 1:
        return reduce_over(g, "ReduceSum", sizes, axes, keepdims=keepdims)
    total = reduce_over(g, "ReduceSum", elementwise(g, "Pow", sizes, float(order)), axes, keepdims=keepdims)
    return elementwise(g, "Pow", total, 1 / order)


@emits_operation("Argmax", "Argmin")
def position_of_extreme(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Where the largest or smallest number is, the first one of several."""
    x = as_value(g, x)
    x = x if is_float(x.dtype) else g.cast(x, "float64" if x.dtype in ("int64", "uint32") else "int32")
    axis, keep = layer.config.get("axis"), bool(layer.config.get("keepdims", False))
    rank = x.rank
    x = reshape(g, x, (None,)) if axis is None else g.in_keras_order(x)
    position = 0 if axis is None else int(axis) % rank
    sides = [1 if a == position else side for a, side in enumerate(x.shape) if keep or a != position]
    op = "ArgMax" if layer.kind == "Argmax" else "ArgMin"
    made = g.cast(g.node(op, [x], sides, "int64", axis=position, keepdims=int(keep)), "int32")
    return expand(g, made, *range(1, rank)) if axis is None and keep else made


@emits_operation("Cumsum", "Cumprod")
def running(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The sums or products of all numbers up to each."""
    given, axis = layer.config.get("dtype"), layer.config.get("axis")
    x = as_value(g, x, policy_name(given) if given else "")
    x = g.cast(x, "int32") if x.dtype == "bool" else x
    x = reshape(g, x, (None,)) if axis is None else g.in_keras_order(x)
    position = 0 if axis is None else axis_of(x, int(axis))
    if layer.kind == "Cumsum":
        made = g.node("CumSum", [widen(g, x), g.constant(np.asarray(position))], x.shape, widen(g, x).dtype)
        return g.cast(made, x.dtype)
    return _running_product(g, x, position)


def _running_product(g: Graph, x: Value, position: int) -> Value:
    side = x.shape[position]
    if side is None:
        raise NotCovered("cumprod over an axis of open size")
    wide = expand(g, widen(g, x), position)
    shape = [1] * wide.rank
    shape[position] = shape[position + 1] = side
    kept = g.constant(np.tri(side, dtype=bool).reshape(shape), "kept")
    ones = g.value(1, wide.dtype)
    return g.cast(
        reduce(g, "ReduceProd", elementwise(g, "Where", kept, wide, ones, dtype=wide.dtype), [position + 1]), x.dtype
    )


def order_along(
    g: Graph, x: Value, axis: int, count: int | None = None, *, largest: bool = False
) -> tuple[Value, Value]:
    """The largest or smallest numbers along an axis, in order, and where they were; all for None."""
    if x.dtype in ("bool", "uint8", "int8", "int16", "uint16", "uint32"):
        values, positions = order_along(g, widen(g, x), axis, count, largest=largest)
        return g.cast(values, x.dtype), positions
    x = g.in_keras_order(x)
    axis %= x.rank
    many: Value = (
        g.node("Shape", [x], (1,), "int64", start=axis, end=axis + 1) if count is None else g.constant(integers(count))
    )
    shape = (*x.shape[:axis], x.shape[axis] if count is None else count, *x.shape[axis + 1 :])
    values, positions = g.node_with_outputs(
        "TopK", [x, many], [(shape, x.dtype), (shape, "int64")], axis=axis, largest=int(largest)
    )
    return values, g.cast(positions, "int32")


@emits_operation("TopK")
def top_k(g: Graph, layer: StoredLayer, x: Operand) -> tuple[Value, Value]:
    """The k largest numbers of the last axis, and where they were."""
    x = as_value(g, x)
    return order_along(g, x, x.rank - 1, int(layer.config["k"]), largest=True)


@emits_operation("Sort", "Argsort")
def sort(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The numbers in ascending order, or where they were."""
    x, axis = as_value(g, x), layer.config.get("axis", -1)
    if axis is None:
        x, axis = reshape(g, x, (None,)), 0
    return order_along(g, x, int(axis), None, largest=False)[1 if layer.kind == "Argsort" else 0]


@emits_operation("Diff")
def differences(g: Graph, layer: StoredLayer, a: Operand) -> Value:
    """How far each number is from the one before."""
    x, axis = as_value(g, a), int(layer.config.get("axis", -1))
    for _ in range(int(layer.config.get("n", 1))):
        x = binary(
            g, "Sub", cut(g, x, {axis % x.rank: (1, 0)}), cut(g, x, {axis % x.rank: (0, 1)}), dtype=result_type(x)
        )
    return x

"""Nodes of `keras.ops` that are statistics: quantiles, and reductions that leave out what is no number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bnexport.exporter.arithmetic import elementwise, expand, integers, reshape, squeeze, transpose, unary
from bnexport.exporter.axes import cut, reduce_over
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.operations.axes import axes_of, extreme, moment, order_along, position_of_extreme, running, total
from bnexport.exporter.operations.logic import nan_to_num
from bnexport.exporter.promotion import Operand, as_value, floating, is_float, result_type
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array


@emits_operation("Quantile", "Percentile", "Median")
def quantile(g: Graph, layer: StoredLayer, x: Operand, q: Operand = 0.5) -> Value:
    """The numbers below which fixed shares of all numbers along some axes are.

    Raises:
        NotCovered: the shares are computed by the graph, or an axis has an open size.
    """
    value = g.in_keras_order(replace(as_value(g, x, floating(x)), mask=None))
    given = g.array(as_value(g, q))
    axes = axes_of(layer, value)
    sides = [value.shape[axis] for axis in axes]
    if given is None or given.ndim > 1 or None in sides:
        raise NotCovered(f"{layer.kind.lower()} over axes of open size, or of shares that the graph computes")
    shares = np.asarray(given, np.float32) / np.float32(100 if layer.kind == "Percentile" else 1)
    count = math.prod(side or 0 for side in sides)
    others = [axis for axis in range(value.rank) if axis not in axes]
    moved = transpose(g, value, [*others, *axes])
    flat = reshape(g, moved, (*(value.shape[axis] for axis in others), count))
    ordered, _ = order_along(g, flat, flat.rank - 1)
    method = "linear" if layer.kind == "Quantile" else str(layer.config.get("method", "linear"))  # as Keras' nodes do
    made = _between(g, ordered, count, shares.astype(np.float64).reshape(-1), method)
    nan = unary(g, "IsNaN", flat)
    unknown = reduce_over(g, "ReduceMax", g.cast(replace(nan, dtype="bool"), "int32"), [-1], keepdims=True)
    made = elementwise(g, "Where", g.cast(unknown, "bool"), g.value(np.nan, made.dtype), made, dtype=made.dtype)
    if layer.config.get("keepdims"):
        for axis in sorted(axes):
            made = expand(g, made, axis)
    if given.ndim == 0:
        return squeeze(g, made, -1)
    return transpose(g, made, [made.rank - 1, *range(made.rank - 1)])


def _between(g: Graph, ordered: Value, count: int, shares: Array, method: str) -> Value:
    """The numbers at fractions of the places of an ordered last axis."""
    at = (count - 1) * np.asarray(shares, np.float64)
    lower, higher, nearest = (
        np.clip(places, 0, count - 1).astype(np.int64) for places in (np.floor(at), np.ceil(at), np.rint(at))
    )
    plain = {"lower": lower, "higher": higher, "nearest": nearest}
    if method in plain:
        return _places(g, ordered, plain[method])
    if method == "midpoint":
        both = elementwise(g, "Add", _places(g, ordered, lower), _places(g, ordered, higher))
        return elementwise(g, "Mul", both, 0.5)
    if method != "linear":
        raise NotCovered(f"quantiles by the method {method}")
    below = np.maximum(higher - 1, 0)
    above = np.minimum(below + 1, count - 1)
    fraction = (above - at).astype(ordered.dtype)
    one = np.ones((), ordered.dtype)
    first = elementwise(g, "Mul", _places(g, ordered, above), np.asarray(one - fraction, ordered.dtype))
    return elementwise(g, "Add", first, elementwise(g, "Mul", _places(g, ordered, below), fraction))


def _places(g: Graph, x: Value, places: Array) -> Value:
    shape = (*x.shape[:-1], places.size)
    return g.node(
        "Gather", [x, integers(*(int(place) for place in places.reshape(-1)))], shape, x.dtype, axis=x.rank - 1
    )


Plain = Callable[[Graph, StoredLayer, Value], Value]
WITHOUT_NAN: dict[str, tuple[Plain, str, float]] = {
    "Nanmax": (extreme, "Max", -np.inf),
    "Nanmin": (extreme, "Min", np.inf),
    "Nansum": (total, "Sum", 0.0),
    "Nanprod": (total, "Prod", 1.0),
    "Nanargmax": (position_of_extreme, "Argmax", -np.inf),
    "Nanargmin": (position_of_extreme, "Argmin", np.inf),
}
"""What computes it of numbers, under which class, and what stands for what is no number."""


@emits_operation(*WITHOUT_NAN)
def without_nan(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """A reduction that leaves out what is no number; where nothing is left, that is what comes out (or -1 for a position)."""
    function, kind, neutral = WITHOUT_NAN[layer.kind]
    value, plain = as_value(g, x), replace(layer, kind=kind)
    if not is_float(value.dtype):
        made: Value = function(g, plain, value)
        return made
    nan = _is_nan(g, value)
    made = function(g, plain, elementwise(g, "Where", nan, g.value(neutral, value.dtype), value, dtype=value.dtype))
    if kind in ("Sum", "Prod"):
        return made
    nothing = _over_all(g, layer, g.cast(nan, "int32"), "ReduceMin", made)
    otherwise = g.value(-1 if kind.startswith("Arg") else np.nan, made.dtype)
    return elementwise(g, "Where", g.cast(nothing, "bool"), otherwise, made, dtype=made.dtype)


def _is_nan(g: Graph, x: Value) -> Value:
    return replace(unary(g, "IsNaN", x), dtype="bool", mask=None)


def _over_all(g: Graph, layer: StoredLayer, x: Value, op: str, like: Value) -> Value:
    keep = bool(layer.config.get("keepdims", False)) and like.rank == x.rank
    return reduce_over(g, op, x, axes_of(layer, x), keepdims=keep)


@emits_operation("Nanmean", "Nanvar", "Nanstd")
def moment_without_nan(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The mean, the variance or its root of what is a number."""
    value = as_value(g, x)
    if not is_float(value.dtype):
        made: Value = moment(g, replace(layer, kind=layer.kind[3:].capitalize()), value)
        return made
    kept = unary(g, "Not", _is_nan(g, value))
    axes, keep = axes_of(layer, value), bool(layer.config.get("keepdims", False))
    if layer.kind == "Nanmean":
        return _mean_of(g, value, kept, axes, keep=keep)
    apart = elementwise(g, "Sub", value, _mean_of(g, value, kept, axes, keep=True))
    variance = _mean_of(g, elementwise(g, "Mul", apart, apart), kept, axes, keep=keep)
    return unary(g, "Sqrt", variance) if layer.kind == "Nanstd" else variance


def _mean_of(g: Graph, x: Value, kept: Value, axes: Sequence[int], *, keep: bool) -> Value:
    chosen = elementwise(g, "Where", kept, x, g.value(0.0, x.dtype), dtype=x.dtype)
    count = reduce_over(g, "ReduceSum", g.cast(kept, x.dtype), axes, keepdims=keep)
    return elementwise(g, "Div", reduce_over(g, "ReduceSum", chosen, axes, keepdims=keep), count)


@emits_operation("Nancumsum", "Nancumprod")
def running_without_nan(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Sums or products up to each number, those that are none left out."""
    product = layer.kind == "Nancumprod"
    filled = nan_to_num(g, replace(layer, config={"nan": 1.0 if product else 0.0}), as_value(g, x))
    made: Value = running(g, replace(layer, kind="Cumprod" if product else "Cumsum"), filled)
    return made


@emits_operation("Trapezoid")
def trapezoid(g: Graph, layer: StoredLayer, y: Operand) -> Value:
    """The area under a curve by the trapezoidal rule."""
    if layer.config.get("x") is not None:
        raise NotCovered("trapezoid of places")
    value, axis = as_value(g, y, result_type(y, "float")), int(layer.config.get("axis", -1))
    axis %= value.rank
    sums = elementwise(g, "Add", cut(g, value, {axis: (1, 0)}), cut(g, value, {axis: (0, 1)}))
    area = elementwise(g, "Mul", sums, 0.5 * float(layer.config.get("dx", 1.0)))
    return reduce_over(g, "ReduceSum", area, [axis])

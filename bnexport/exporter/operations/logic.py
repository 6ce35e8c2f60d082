"""Nodes of `keras.ops` about what holds: comparisons, logic, choices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from bnexport.exporter.arithmetic import elementwise, unary
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.promotion import WIDE, Operand, as_value, binary, floating, is_float, result_type
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Nested

COMPARISONS = {
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
}

LOGIC = {"LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor"}


@emits_operation(*COMPARISONS, "NotEqual")
def compare(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """Where the comparison holds."""
    made = binary(g, COMPARISONS.get(layer.kind, "Equal"), x1, x2, result="bool")
    return unary(g, "Not", made) if layer.kind == "NotEqual" else made


@emits_operation(*LOGIC)
def logic(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """And, or, either."""
    return elementwise(g, LOGIC[layer.kind], as_value(g, x1, "bool"), as_value(g, x2, "bool"))


@emits_operation("LogicalNot")
def logical_not(g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """Where it does not hold."""
    return unary(g, "Not", as_value(g, x, "bool"))


@emits_operation("Isclose")
def is_close(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand, rtol: float = 1e-5, atol: float = 1e-8) -> Value:
    """Where two numbers differ by rounding only."""
    dtype = result_type(x1, x2)
    if not is_float(dtype):
        return binary(g, "Equal", x1, x2, result="bool")
    b = as_value(g, x2, dtype)
    bound = elementwise(g, "Add", elementwise(g, "Mul", unary(g, "Abs", b), rtol), atol)
    a = as_value(g, x1, dtype)
    near = elementwise(g, "LessOrEqual", unary(g, "Abs", elementwise(g, "Sub", a, b)), bound, dtype="bool")
    if not layer.config.get("equal_nan"):
        return near
    return elementwise(g, "Or", near, elementwise(g, "And", _test(g, "IsNaN", a), _test(g, "IsNaN", b)))


@emits_operation("Where")
def where(
    g: Graph, layer: StoredLayer, condition: Operand, x1: Operand | None = None, x2: Operand | None = None
) -> Value:
    """One number where the condition holds, another one elsewhere."""
    if x1 is None or x2 is None:
        raise NotCovered(f"{layer.name}: where with a condition only, whose result has as many rows as the data decide")
    dtype = result_type(x1, x2)
    wide = WIDE.get(dtype, dtype)
    a, b = as_value(g, x1, wide), as_value(g, x2, wide)
    return g.cast(elementwise(g, "Where", as_value(g, condition, "bool"), a, b, dtype=wide), dtype)


@emits_operation("Isnan", "Isinf", "Isfinite", "Isposinf", "Isneginf")
def is_special(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Where it is no number, or infinite."""
    x = as_value(g, x, floating(x))
    nan = partial(_test, g, "IsNaN", x)
    if layer.kind == "Isnan":
        return nan()
    if layer.kind == "Isfinite":
        return unary(g, "Not", elementwise(g, "Or", nan(), _test(g, "IsInf", x)))
    only = {"Isposinf": {"detect_negative": 0}, "Isneginf": {"detect_positive": 0}}.get(layer.kind, {})
    return _test(g, "IsInf", x, **only)


def _test(g: Graph, op: str, x: Value, **attributes: Nested) -> Value:
    return g.node(op, [x], x.shape, "bool", channels_first=x.channels_first, **attributes)


@emits_operation("NanToNum")
def nan_to_num(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """A number in the place of what is none, and the ends of the range in the place of infinities."""
    x = as_value(g, x)
    if not is_float(x.dtype):
        return as_value(g, x)
    limits, config = np.finfo(x.dtype.replace("bfloat16", "float32")), layer.config
    ends = {"detect_negative": config.get("posinf"), "detect_positive": config.get("neginf")}
    made = elementwise(
        g, "Where", _test(g, "IsNaN", x), g.value(float(config.get("nan", 0.0)), x.dtype), x, dtype=x.dtype
    )
    for (other, given), limit in zip(ends.items(), (limits.max, limits.min), strict=True):
        end = g.value(float(limit if given is None else given), x.dtype)
        made = elementwise(g, "Where", _test(g, "IsInf", made, **{other: 0}), end, made, dtype=x.dtype)
    return made


@emits_operation("Heaviside")
def heaviside(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """0 below 0, 1 above, x2 at 0."""
    dtype = result_type(x1, x2)
    dtype = dtype if is_float(dtype) else "float64" if dtype == "int64" else "float32"
    x = as_value(g, x1, dtype)
    at_zero = elementwise(g, "Equal", x, 0.0, dtype="bool")
    above = g.cast(elementwise(g, "Greater", x, 0.0, dtype="bool"), dtype)
    return elementwise(g, "Where", at_zero, as_value(g, x2, dtype), above, dtype=dtype)


@emits_operation("Select")
def select(
    g: Graph,
    layer: StoredLayer,
    condlist: Sequence[Operand],
    choicelist: Sequence[Operand],
    default: Operand | None = None,
) -> Value:
    """The choice of the first condition that holds."""
    default = layer.config.get("default", 0) if default is None else default
    made = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        made = where(g, layer, condition, choice, made)
    return as_value(g, made)

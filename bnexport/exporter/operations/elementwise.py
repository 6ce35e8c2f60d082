"""Nodes of `keras.ops` that compute each number by itself: arithmetic and functions.

The classes are those of keras/src/ops; their arguments are those of the call, and those of the class are in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bnexport.exporter.arithmetic import elementwise, has_other_axis, unary
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.promotion import Operand, as_value, binary, floating, is_float, result_type, widen
from bnexport.exporter.registry import OPERATIONS, emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import policy_name

BINARY = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Maximum": "Max",
    "Minimum": "Min",
}

FLOATING = {
    "Arccos": "Acos",
    "Arccosh": "Acosh",
    "Arcsin": "Asin",
    "Arcsinh": "Asinh",
    "Arctan": "Atan",
    "Arctanh": "Atanh",
    "Ceil": "Ceil",
    "Cos": "Cos",
    "Cosh": "Cosh",
    "Erf": "Erf",
    "Exp": "Exp",
    "Floor": "Floor",
    "Log": "Log",
    "Sin": "Sin",
    "Sinh": "Sinh",
    "Sqrt": "Sqrt",
    "Tan": "Tan",
    "Tanh": "Tanh",
}
"""Functions of floating-point numbers; integers become float32 before."""


@emits_operation(*BINARY)
def arithmetic(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """Sum, difference, product, larger or smaller number.

    Raises:
        NotCovered: it is a sum that Keras computes as that of a bias along another axis than the one it is broadcast along.
    """
    sums = layer.kind == "Add" and layer.module.startswith("keras.src.ops.")
    if sums and has_other_axis(as_value(g, x1).shape, as_value(g, x2).shape):
        raise NotCovered(
            "a sum of shapes that Keras on TensorFlow broadcasts along another axis than NumPy (add them in the other order)"
        )
    return binary(g, BINARY[layer.kind], x1, x2)


@emits_operation("Divide", "TrueDivide")
def divide(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """The quotient; that of integers is float32."""
    return binary(g, "Div", x1, x2, dtype=result_type(x1, x2, "float"))


@emits_operation("DivideNoNan")
def divide_no_nan(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """The quotient, and 0 where the divisor is."""
    dtype = result_type(x1, x2, "float")
    below = as_value(g, x2, dtype)
    is_zero = elementwise(g, "Equal", below, 0.0, dtype="bool")
    safe = elementwise(g, "Where", is_zero, g.value(1.0, dtype), below, dtype=dtype)
    return elementwise(g, "Where", is_zero, g.value(0.0, dtype), divide(g, layer, x1, safe), dtype=dtype)


@emits_operation("Mod")
def mod(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """The remainder, with the sign of the divisor."""
    dtype = result_type(x1, x2).replace("bool", "int32")
    if not is_float(dtype):
        return binary(g, "Mod", x1, x2, dtype=dtype)
    a, b = as_value(g, x1, dtype), as_value(g, x2, dtype)
    rest = _fmod(g, a, b)
    signs = elementwise(g, "Mul", unary(g, "Sign", rest), unary(g, "Sign", b))
    other = elementwise(g, "Less", signs, 0.0, dtype="bool")
    return elementwise(g, "Where", other, elementwise(g, "Add", rest, b), rest, dtype=dtype)


def _fmod(g: Graph, a: Value, b: Value) -> Value:
    """A - trunc(a / b) * b, as C has it."""
    quotient = elementwise(g, "Div", a, b)
    whole = elementwise(g, "Mul", unary(g, "Sign", quotient), unary(g, "Floor", unary(g, "Abs", quotient)))
    return elementwise(g, "Sub", a, elementwise(g, "Mul", whole, b))


@emits_operation("FloorDivide")
def floor_divide(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """The quotient, rounded down."""
    dtype = result_type(x1, x2)
    if is_float(dtype):
        return unary(g, "Floor", binary(g, "Div", x1, x2))
    whole = binary(g, "Sub", x1, mod(g, layer, x1, x2), dtype=dtype)
    return binary(g, "Div", whole, x2, dtype=dtype)


@emits_operation("Power")
def power(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """x1 to the power of x2; a square is a product."""
    dtype = result_type(x1, x2)
    if isinstance(x1, Value) and isinstance(x2, int | float) and x2 == 2:
        return binary(g, "Mul", x1, x1, dtype=dtype)
    return binary(g, "Pow", x1, x2, dtype=dtype)


@emits_operation("Arctan2")
def arctan2(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """The angle of the point (x2, x1)."""
    dtype = result_type(x1, x2, "float")
    return angle(g, as_value(g, x1, dtype), as_value(g, x2, dtype))


def angle(g: Graph, y: Value, x: Value) -> Value:
    """The angle of the point (x, y), between -pi and pi."""
    dtype, pi = x.dtype, float(np.pi)
    zero = elementwise(g, "Equal", x, 0.0, dtype="bool")
    safe = elementwise(g, "Where", zero, g.value(1.0, dtype), x, dtype=dtype)
    flat = unary(g, "Atan", elementwise(g, "Div", y, safe))
    turn = elementwise(
        g, "Where", elementwise(g, "Less", y, 0.0, dtype="bool"), g.value(-pi, dtype), g.value(pi, dtype)
    )
    turn = Value(turn.name, turn.shape, dtype, turn.channels_first)
    left = elementwise(g, "Less", x, 0.0, dtype="bool")
    turned = elementwise(g, "Where", left, elementwise(g, "Add", flat, turn), flat, dtype=dtype)
    straight = elementwise(g, "Mul", unary(g, "Sign", y), pi / 2)
    return elementwise(g, "Where", zero, straight, turned, dtype=dtype)


@emits_operation("Clip")
def clip(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """At least and at most so much."""
    made = as_value(g, x)
    made = g.cast(made, "int32") if made.dtype == "bool" else made
    for op, name in (("Max", "x_min"), ("Min", "x_max")):
        bound = layer.config.get(name)
        made = made if bound is None else binary(g, op, made, bound, dtype=made.dtype)
    return made


@emits_operation(*FLOATING)
def function(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """A function that ONNX has an operator for."""
    return unary(g, FLOATING[layer.kind], as_value(g, x, floating(x)))


@emits_operation("Negative", "Reciprocal", "Sign", "Absolute", "Abs", "Fabs")
def same_dtype(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The same of integers and floating-point numbers."""
    x = as_value(g, x)
    if layer.kind in ("Absolute", "Abs", "Fabs"):
        x = as_value(g, x, floating(x)) if layer.kind == "Fabs" else x
        return x if x.dtype.startswith(("uint", "bool")) else g.cast(unary(g, "Abs", widen(g, x)), x.dtype)
    op = {"Negative": "Neg"}.get(layer.kind, layer.kind)
    return g.cast(unary(g, op, widen(g, x)), x.dtype)


@emits_operation("Square")
def square(g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """The product with itself."""
    return binary(g, "Mul", x, x, dtype=result_type(x).replace("bool", "int32"))


@emits_operation("Round")
def round_to(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Rounded to so many decimals, halves to even."""
    x, decimals = as_value(g, x), int(layer.config.get("decimals", 0))
    if decimals < 0 and not is_float(x.dtype):
        raise NotCovered("the rounding of integers to tens")
    if not is_float(x.dtype):
        return as_value(g, x)
    if not decimals:
        return unary(g, "Round", x)
    factor = float(10.0**decimals)
    return elementwise(g, "Div", unary(g, "Round", elementwise(g, "Mul", x, factor)), factor)


@emits_operation("Cast", "ConvertToTensor", "Copy", "StopGradient", "Array", "Real", "Conj", "Conjugate")
def cast(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The same, in another dtype where one is named."""
    dtype = layer.config.get("dtype") if layer.kind in ("Cast", "ConvertToTensor", "Array") else None
    return as_value(g, x, policy_name(dtype) if dtype else "")


@emits_operation("SaturateCast")
def saturate_cast(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The same in another dtype, cut off at its limits."""
    x, dtype = as_value(g, x), policy_name(layer.config["dtype"])
    if is_float(dtype) or dtype == "bool" or not is_float(x.dtype):
        raise NotCovered(f"saturate_cast from {x.dtype} to {dtype}")
    limits = np.iinfo(dtype)
    x = binary(g, "Max", binary(g, "Min", x, float(limits.max)), float(limits.min))
    return g.cast(x, dtype)


def _log(g: Graph, x: Value, base: float) -> Value:
    return elementwise(g, "Div", unary(g, "Log", x), float(np.log(base)))


def _log1p(g: Graph, x: Value) -> Value:
    return unary(g, "Log", elementwise(g, "Add", x, 1.0))


def _rsqrt(g: Graph, x: Value) -> Value:
    return unary(g, "Reciprocal", unary(g, "Sqrt", x))


def _cbrt(g: Graph, x: Value) -> Value:
    root = elementwise(g, "Pow", unary(g, "Abs", x), 1 / 3)
    return elementwise(g, "Mul", unary(g, "Sign", x), root)


def _trunc(g: Graph, x: Value) -> Value:
    return elementwise(g, "Mul", unary(g, "Sign", x), unary(g, "Floor", unary(g, "Abs", x)))


COMPOSED: dict[str, Callable[[Graph, Value], Value]] = {
    "Cbrt": _cbrt,
    "Deg2rad": lambda g, x: elementwise(g, "Mul", x, float(np.pi / 180)),
    "Erfc": lambda g, x: elementwise(g, "Sub", g.value(1.0, x.dtype), unary(g, "Erf", x)),
    "Exp2": lambda g, x: elementwise(g, "Pow", g.value(2.0, x.dtype), x),
    "Expm1": lambda g, x: elementwise(g, "Sub", unary(g, "Exp", x), 1.0),
    "Log10": lambda g, x: _log(g, x, 10.0),
    "Log1p": _log1p,
    "Log2": lambda g, x: _log(g, x, 2.0),
    "Rad2deg": lambda g, x: elementwise(g, "Mul", x, float(180 / np.pi)),
    "Rsqrt": _rsqrt,
    "Trunc": _trunc,
}
"""Functions of floating-point numbers that ONNX has no operator for."""


def _compose(kind: str, g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    return COMPOSED[kind](g, as_value(g, x, floating(x)))


OPERATIONS.update({kind: partial(_compose, kind) for kind in COMPOSED})


@emits_operation("Logaddexp", "Logaddexp2", "Hypot")
def of_two(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """log(exp(x1) + exp(x2)), or sqrt(x1^2 + x2^2)."""
    dtype = result_type(x1, x2, "float")
    a, b = as_value(g, x1, dtype), as_value(g, x2, dtype)
    if layer.kind == "Hypot":
        return unary(g, "Sqrt", elementwise(g, "Add", elementwise(g, "Mul", a, a), elementwise(g, "Mul", b, b)))
    base = 2.0 if layer.kind.endswith("2") else float(np.e)
    apart = unary(g, "Neg", unary(g, "Abs", elementwise(g, "Sub", a, b)))
    small = unary(g, "Exp", elementwise(g, "Mul", apart, float(np.log(base))))
    more = elementwise(g, "Div", _log1p(g, small), float(np.log(base)))
    return elementwise(g, "Add", elementwise(g, "Max", a, b), more)

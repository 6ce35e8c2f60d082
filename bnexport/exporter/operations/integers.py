"""Nodes of `keras.ops` about bits, places and membership, and functions of single numbers that are not in `elementwise`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnexport.exporter.arithmetic import elementwise, expand, reduce, reshape, unary
from bnexport.exporter.axes import reduce_over
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.preprocessing import digitize
from bnexport.exporter.operations.logic import is_close
from bnexport.exporter.promotion import Operand, as_value, binary, floating, is_float, result_type, widen
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer


@emits_operation("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(g: Graph, layer: StoredLayer, x: Operand, y: Operand) -> Value:
    """And, or, either of bits."""
    dtype = result_type(x, y)
    if dtype == "bool":
        raise NotCovered(
            f"{layer.kind} of truth values, which does not run in Keras either (use logical_and and its kin)"
        )
    return binary(g, layer.kind, x, y, dtype=dtype)


@emits_operation("BitwiseNot", "BitwiseInvert")
def bitwise_not(g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """Each bit the other way."""
    return unary(g, "BitwiseNot", as_value(g, x))


@emits_operation("BitwiseLeftShift", "LeftShift", "BitwiseRightShift", "RightShift")
def shift(g: Graph, layer: StoredLayer, x: Operand, y: Operand) -> Value:
    """Times a power of two, or divided by it and rounded down, as signed integers are shifted."""
    dtype = result_type(x, y).replace("bool", "int32")
    power = binary(g, "Pow", as_value(g, 2, "int64"), as_value(g, y, "int64"), dtype="int64")
    wide = as_value(g, x, "int64")
    if "Left" in layer.kind:
        return g.cast(elementwise(g, "Mul", wide, power), dtype)
    whole = elementwise(g, "Sub", wide, elementwise(g, "Mod", wide, power))
    return g.cast(elementwise(g, "Div", whole, power), dtype)


@emits_operation("Fmax", "Fmin")
def extreme_of_numbers(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """The larger or the smaller one; what is no number does not count."""
    dtype, op = result_type(x1, x2), layer.kind[1:].capitalize()
    if not is_float(dtype):
        return binary(g, op, x1, x2)
    a, b = as_value(g, x1, dtype), as_value(g, x2, dtype)
    first, second = (unary(g, "IsNaN", value) for value in (a, b))
    a_kept = elementwise(g, "Where", _bool(first), b, a, dtype=dtype)
    b_kept = elementwise(g, "Where", _bool(second), a, b, dtype=dtype)
    return elementwise(g, op, a_kept, b_kept)


def _bool(x: Value) -> Value:
    return Value(x.name, x.shape, "bool", x.channels_first)


@emits_operation("Fmod")
def remainder(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """The remainder, with the sign of the dividend."""
    dtype = result_type(x1, x2).replace("bool", "int32")
    a, b = (widen(g, as_value(g, given, dtype)) for given in (x1, x2))
    size, other = unary(g, "Abs", a), unary(g, "Abs", b)
    if is_float(a.dtype):
        whole = unary(g, "Floor", elementwise(g, "Div", size, other))
        rest = elementwise(g, "Sub", size, elementwise(g, "Mul", whole, other))
    else:
        rest = elementwise(g, "Mod", size, other)
    return g.cast(elementwise(g, "Mul", unary(g, "Sign", a), rest), dtype)


@emits_operation("Ldexp")
def scaled_by_power(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """x1 times two to the power of x2."""
    dtype = result_type(x1, x2, "float")
    power = elementwise(g, "Pow", g.value(2.0, dtype), as_value(g, x2, dtype))
    return elementwise(g, "Mul", as_value(g, x1, dtype), power)


@emits_operation("Sinc")
def sinc(g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """sin(pi x) / (pi x), and 1 at 0."""
    value = as_value(g, x, floating(x))
    is_zero = elementwise(g, "Equal", value, 0.0, dtype="bool")
    angle = elementwise(g, "Mul", value, float(np.pi))
    safe = elementwise(g, "Where", is_zero, g.value(1.0, value.dtype), angle, dtype=value.dtype)
    part = elementwise(g, "Div", unary(g, "Sin", safe), safe)
    return elementwise(g, "Where", is_zero, g.value(1.0, value.dtype), part, dtype=value.dtype)


@emits_operation("Angle")
def angle_of_real(g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """Pi below 0, 0 elsewhere: the angle of a real number in the complex plane."""
    value = as_value(g, x, floating(x))
    below = elementwise(g, "Less", value, 0.0, dtype="bool")
    pair = g.value(float(np.pi), value.dtype), g.value(0.0, value.dtype)
    return elementwise(g, "Where", below, *pair, dtype=value.dtype)


@emits_operation("Imag", "Isreal")
def of_real_number(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The imaginary part of a real number is 0, and that it is real is true."""
    value = as_value(g, x)
    if layer.kind == "Isreal":
        return elementwise(g, "Or", *[as_value(g, True), unary(g, "Not", g.cast(value, "bool"))])
    zero = elementwise(g, "Sub", *[widen(g, value)] * 2)
    return g.cast(zero, value.dtype)


@emits_operation("Signbit")
def sign_bit(g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """Whether a number is below 0, or -0.0."""
    value = widen(g, as_value(g, x))
    below = elementwise(g, "Less", value, 0, dtype="bool")
    if not is_float(value.dtype):
        return below
    is_zero = elementwise(g, "Equal", value, 0, dtype="bool")
    inverse = elementwise(g, "Less", unary(g, "Reciprocal", value), 0, dtype="bool")
    return elementwise(g, "Or", below, elementwise(g, "And", is_zero, inverse))


@emits_operation("AllClose")
def all_close(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """Whether all numbers differ by rounding only; infinite ones are close to themselves alone."""
    config, dtype = layer.config, result_type(x1, x2)
    close = is_close(g, layer, x1, x2, float(config.get("rtol", 1e-5)), float(config.get("atol", 1e-8)))
    if is_float(dtype):
        a, b = as_value(g, x1, dtype), as_value(g, x2, dtype)
        finite = elementwise(
            g, "Less", elementwise(g, "Max", unary(g, "Abs", a), unary(g, "Abs", b)), np.inf, dtype="bool"
        )
        same = elementwise(g, "Equal", a, b, dtype="bool")
        close = elementwise(g, "Or", elementwise(g, "And", close, finite), same)
    return g.cast(reduce_over(g, "ReduceMin", g.cast(close, "int32"), range(close.rank)), "bool")


@emits_operation("IsIn")
def is_in(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """Whether a number occurs among others."""
    dtype = result_type(x1, x2)
    a, b = (widen(g, as_value(g, given, dtype)) for given in (x1, x2))
    same = elementwise(g, "Equal", expand(g, a, -1), reshape(g, b, (None,)), dtype="bool")
    made = g.cast(reduce(g, "ReduceMax", g.cast(same, "int32"), [-1]), "bool")
    return unary(g, "Not", made) if layer.config.get("invert") else made


@emits_operation("Digitize")
def digitized(g: Graph, layer: StoredLayer, x: Operand, bins: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """How many of the bounds a number has reached."""
    bounds = g.array(as_value(g, bins))
    if bounds is None:
        raise NotCovered("digitize with bounds that the graph computes")
    return digitize(g, as_value(g, x), [float(bound) for bound in np.asarray(bounds, np.float64)])


@emits_operation("SearchSorted")
def search_sorted(g: Graph, layer: StoredLayer, sorted_sequence: Operand, values: Operand) -> Value:
    """How many numbers of an ascending sequence are below each value, or not above it."""
    given = as_value(g, values)
    sequence, wide = as_value(g, sorted_sequence, given.dtype), expand(g, given, -1)
    left = layer.config.get("side", "left") == "left"
    before = elementwise(g, "Greater" if left else "GreaterOrEqual", wide, sequence, dtype="bool")
    return reduce(g, "ReduceSum", g.cast(before, "int32"), [-1])


@emits_operation("UnravelIndex")
def unravel(g: Graph, layer: StoredLayer, indices: Operand) -> tuple[Value, ...]:
    """The position on each axis of an array of a shape, for positions in it flattened."""
    shape: Sequence[int] = layer.config["shape"]
    rest = as_value(g, indices)
    if rest.rank != 1:
        raise NotCovered("unravel_index of indices with another number of axes than one")
    parts = []
    for side in reversed(shape):
        part = elementwise(g, "Mod", rest, int(side))
        parts.append(part)
        rest = elementwise(g, "Div", elementwise(g, "Sub", rest, part), int(side))
    return tuple(reversed(parts))

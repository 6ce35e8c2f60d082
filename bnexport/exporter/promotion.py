"""Which dtype Keras computes in where dtypes meet (`keras.backend.result_type`), and arithmetic in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce as fold
from typing import TypeAlias

import numpy as np

from bnexport.exporter.arithmetic import elementwise
from bnexport.exporter.graph import Graph, NotCovered, Value, numpy_dtype
from bnexport.types import Array

Operand: TypeAlias = Value | Array | np.generic | float | Sequence[object]
"""What an operation of Keras is called with: a value, an array, a number, or a list of them."""

FLOATX = "float32"
"""Keras' default for numbers without a dtype; files do not say another one."""

ABOVE: dict[str, tuple[str, ...]] = {
    "bool": ("int",),
    "uint8": ("int16", "uint16"),
    "uint16": ("int32", "uint32"),
    "uint32": ("int64", "uint64"),
    "uint64": ("float",),
    "int": ("uint8", "int8"),
    "int8": ("int16",),
    "int16": ("int32",),
    "int32": ("int64",),
    "int64": ("float",),
    "float": ("bfloat16", "float16"),
    "bfloat16": ("float32",),
    "float16": ("float32",),
    "float32": ("float64",),
    "float64": (),
}
"""The lattice of Keras: what each dtype is promoted to. "int" and "float" are those of Python numbers."""


def _reachable(dtype: str) -> frozenset[str]:
    if dtype not in ABOVE:
        raise NotCovered(f"arithmetic on numbers of the dtype {dtype}")
    return fold(frozenset.union, (_reachable(above) for above in ABOVE[dtype]), frozenset({dtype}))


def result_type(*given: Operand | str) -> str:
    """The dtype that Keras computes in.

    Args:
        given: values, arrays, Python numbers, and names of dtypes ("int" and "float" for those of Python numbers).

    Raises:
        NotCovered: the numbers are none that Keras computes with in one dtype.
    """
    names = {_name(each) for each in given}
    common = frozenset.intersection(*(_reachable(name) for name in names))
    least = [name for name in common if common <= _reachable(name)]
    result = least[0]
    if result == "int":
        return "int32"
    return FLOATX if result == "float" else result.replace("uint64", "uint32")


def _name(given: Operand | str) -> str:
    if isinstance(given, Value | np.ndarray | np.generic):
        return str(given.dtype)
    if isinstance(given, str):
        return given
    if isinstance(given, bool):
        return "bool"
    return "int" if isinstance(given, int) else "float"


def is_float(dtype: str) -> bool:
    """Whether a dtype is one of floating-point numbers."""
    return "float" in dtype


def floating(given: Operand | str) -> str:
    """The floating-point dtype that Keras converts to where a function needs one: float32 for integers, itself otherwise."""
    name = _name(given)
    return result_type(name) if is_float(name) else FLOATX


def as_value(g: Graph, given: Operand | str, dtype: str = "") -> Value:
    """A value, an array, a list or a number as a value, of this dtype."""
    if isinstance(given, Value):
        return g.cast(given, dtype) if dtype else given
    if not dtype:
        dtype = str(given.dtype) if isinstance(given, np.ndarray | np.generic) else _dtype_of(given)
    return g.constant(np.asarray(given).astype(numpy_dtype(dtype)))


def _dtype_of(given: Operand | str) -> str:
    """The dtype that Keras' TensorFlow backend gives to a Python number or a list of them."""
    kind = np.asarray(given).dtype.kind
    return {"b": "bool", "i": "int32", "u": "int32"}.get(kind, FLOATX)


def binary(g: Graph, op: str, a: Operand, b: Operand, *, dtype: str = "", result: str = "") -> Value:
    """A node for two numbers or values, broadcast against each other, in the dtype that Keras promotes to.

    Args:
        g: the graph.
        op: the ONNX operator.
        a: the first one.
        b: the second one.
        dtype: that they are cast to; "" for the one Keras promotes to.
        result: the dtype of the result; "" for that of the operands.
    """
    dtype = dtype or result_type(a, b)
    wide = WIDE.get(dtype, dtype)
    made = elementwise(g, op, as_value(g, a, wide), as_value(g, b, wide), dtype=result or wide)
    return made if result else g.cast(made, dtype)


WIDE = {
    "bool": "int32",
    "uint8": "int32",
    "uint16": "int32",
    "int8": "int32",
    "int16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}
"""The dtypes that runtimes have arithmetic for, for those that they have none for."""


QUOTIENTS = {
    **dict.fromkeys(("int32", "int64", "uint32", "uint64"), "float64"),
    **dict.fromkeys(("int8", "int16", "uint8", "uint16"), "float32"),
}
"""The dtype of a quotient of integers in TensorFlow, where Keras leaves the division to it."""


def widen(g: Graph, x: Value) -> Value:
    """A value in a dtype that runtimes have arithmetic for."""
    return g.cast(x, WIDE.get(x.dtype, x.dtype))

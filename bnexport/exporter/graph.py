"""The ONNX graph that a Keras model becomes: values, nodes and weights under Keras' names (no framework).

A `Value` carries its shape as Keras has it. Its tensor in the graph may have the channels first: images stay so from the first
convolution on, and a Transpose stands only where a layer needs the axes in Keras' order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import reason as reason_of
from bnexport.exporter.narrow import KEPT, NARROW, compute_wide
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]
"""Sides of a tensor as Keras has them, batch axis included; None for an open one."""

OPSET = 18

SHARED = 16
"""Constants of at most so many numbers are stored once."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph.

    Args:
        name: of the tensor.
        shape: as Keras has it.
        dtype: NumPy's name of it, or "bfloat16".
        channels_first: whether the last axis of `shape` is the second axis of the tensor.
        mask: Keras' mask, a bool tensor (N, T); None where there is none.
    """

    name: str
    shape: Shape
    dtype: str
    channels_first: bool = False
    mask: Value | None = None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def floating(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype.startswith(("float", "bfloat"))


Input = Value | Array | float | int | bool | None
"""What a node reads: a value, a constant, or None for an input that is left out."""


class NotCovered(Exception):  # noqa: N818 - no error: another converter is tried
    """A layer, or a way of using it, that the exporter has no operators for. The text is the reason, as a user reads it."""

    layer: str = ""
    """The path of the layer."""


class Graph:
    """A graph that grows. Names of nodes begin with the path of the layer in whose scope they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.logits: dict[str, Value] = {}
        """What went into a softmax or sigmoid, by the name of what came out."""
        self.metadata: dict[str, dict[str, object]] = {}
        """By the name of the node."""
        self.forms: dict[tuple[str, str], Value] = {}
        """Other tensors with the numbers of a value (the steps of a series first, say), by its name and what they are called."""
        self.unmasked: set[str] = set()
        """The tensors whose mask a layer took away (MultiHeadAttention takes it from its inputs)."""
        self._names: set[str] = set()
        self._scope: list[str] = []
        self._calls: dict[str, int] = {}
        self._layouts: dict[tuple[str, bool], Value] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def input(self, name: str, shape: Shape, dtype: str) -> Value:
        """An input of the graph."""
        self._names.add(name)
        return Value(name, shape, dtype)

    def local(self, name: str, shape: Shape, dtype: str) -> Value:
        """An input of the graph of a loop."""
        return Value(self._unique(f"{self.path}/{name}"), shape, dtype)

    @contextmanager
    def layer(self, path: str) -> Iterator[str]:
        """The scope of one call of a layer; gives its path, from the second call on with "#2", "#3" and so on behind it.

        Raises:
            NotCovered: with the layer's path; also where the configuration has values that no layer of the class has.
        """
        self._calls[path] = nth = self._calls.get(path, 0) + 1
        before, self._scope = self._scope, [path if nth == 1 else f"{path}#{nth}"]
        try:
            yield self._scope[0]
        except NotCovered as reason:
            reason.layer = reason.layer or path
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            refusal = NotCovered(f"a layer whose configuration or inputs do not fit its class ({reason_of(error)})")
            refusal.layer = path
            raise refusal from error
        finally:
            self._scope = before

    @contextmanager
    def scope(self, part: str) -> Iterator[None]:
        """A part of a layer, whose name stands before those of the nodes inside."""
        self._scope.append(part)
        try:
            yield
        finally:
            self._scope.pop()

    @contextmanager
    def body(self) -> Iterator[list[onnx.NodeProto]]:
        """The nodes added inside are those of a loop: they go into this list, and what they make is not read outside."""
        outer = self.nodes, dict(self.logits), dict(self._layouts), dict(self.forms)
        self.nodes = []
        try:
            yield self.nodes
        finally:
            self.nodes, self.logits, self._layouts, self.forms = outer

    @property
    def path(self) -> str:
        """Where nodes are added now."""
        return "/".join(self._scope)

    def node(
        self,
        op: str,
        inputs: Sequence[Input],
        shape: Sequence[int | None],
        dtype: str = "",
        *,
        channels_first: bool = False,
        name: str = "",
        **attributes: object,
    ) -> Value:
        """Adds a node with one output.

        Args:
            op: the ONNX operator.
            inputs: what it reads; constants get the dtype of the first value where they are Python numbers.
            shape: of the output, as Keras has it.
            dtype: of the output; "" for that of the first value.
            channels_first: whether the output's last axis is the second one in the tensor.
            name: of the node; "" for the scope and the operator.
            attributes: of the node; those that are None are left out.
        """
        return self.node_with_outputs(
            op, inputs, [(tuple(shape), dtype)], channels_first=channels_first, name=name, **attributes
        )[0]

    def node_with_outputs(
        self,
        op: str,
        inputs: Sequence[Input],
        outputs: Sequence[tuple[Shape, str] | None],
        *,
        channels_first: bool = False,
        name: str = "",
        **attributes: object,
    ) -> list[Value]:
        """Adds a node with several outputs: shape and dtype of each, None for one that nobody reads (its value has no name)."""
        from onnx import helper

        first = next((value.dtype for value in inputs if isinstance(value, Value)), "float32")
        if op not in KEPT and any(isinstance(value, Value) and value.dtype == NARROW for value in inputs):
            return compute_wide(self, op, inputs, outputs, channels_first=channels_first, name=name, **attributes)
        read = ["" if value is None else self.value(value, first).name for value in inputs]
        while read and not read[-1]:
            read.pop()
        name = self._unique(name or (f"{self.path}/{op}" if self.path else op))
        made = []
        for position, output in enumerate(outputs):
            shape, dtype = output or ((), "")
            made.append(
                Value(f"{name}:{position}" if output is not None else "", shape, dtype or first, channels_first)
            )
        node = helper.make_node(op, read, [value.name for value in made], name)
        given = {key: value for key, value in attributes.items() if value is not None}
        node.attribute.extend(helper.make_attribute(key, given[key]) for key in sorted(given))
        self.nodes.append(node)
        return made

    def value(self, given: Input, dtype: str = "float32") -> Value:
        """A value, or a constant as one; Python numbers become scalars of `dtype`."""
        if isinstance(given, Value):
            return given
        array = given if isinstance(given, np.ndarray) else np.asarray(given, numpy_dtype(dtype))
        return self.constant(array)

    def constant(self, array: Array, name: str = "constant") -> Value:
        """A constant; small ones of the same content are stored once."""
        key = (str(array.dtype), array.shape, array.tobytes()) if array.size <= SHARED else None
        if key is not None and key in self._shared:
            stored = self._shared[key]
        else:
            stored = self._store(name if key is not None or not self.path else f"{self.path}/{name}", array)
            if key is not None:
                self._shared[key] = stored
        return Value(stored, tuple(array.shape), str(array.dtype))

    def weight(self, name: str, array: Array) -> Value:
        """A weight of the layer in whose scope we are, under its name in Keras. A second call of a layer reads the same tensor."""
        base = f"{re.sub(r'#[0-9]+$', '', self._scope[0])}{''.join(f'/{part}' for part in self._scope[1:])}/{name}"
        stored = self.initializers.get(base)
        same = stored is not None and (
            stored is array or (stored.dtype == array.dtype and np.array_equal(stored, array))
        )
        return Value(base if same else self._store(base, array), tuple(array.shape), str(array.dtype))

    def remake(self, value: Value, array: Array) -> Value:
        """A constant made of another one, under its name (`native` gives it the very name where nobody reads the other one)."""
        if array.size <= SHARED and value.name.startswith("constant"):
            return self.constant(np.ascontiguousarray(array))
        return Value(self._store(value.name, np.ascontiguousarray(array)), tuple(array.shape), str(array.dtype))

    def array(self, value: Value) -> Array | None:
        """The content of a constant; None where the value is computed."""
        return self.initializers.get(value.name)

    def in_keras_order(self, x: Value) -> Value:
        """The same with the axes of its tensor in Keras' order."""
        return self._laid_out(x, channels_first=False)

    def with_channels_first(self, x: Value) -> Value:
        """The same with the last axis second in its tensor; what has fewer than three axes stays as it is."""
        return self._laid_out(x, channels_first=True) if x.rank > 2 else x

    def _laid_out(self, x: Value, *, channels_first: bool) -> Value:
        if x.channels_first == channels_first:
            return x
        if (x.name, channels_first) not in self._layouts:
            last = x.rank - 1
            axes = [0, last, *range(1, last)] if channels_first else [0, *range(2, x.rank), 1]
            array = self.array(x)
            if array is None:
                moved = self.node("Transpose", [x], x.shape, x.dtype, channels_first=channels_first, perm=axes)
            else:
                moved = replace(self.remake(x, np.transpose(array, axes)), channels_first=channels_first)
            self._layouts[x.name, channels_first] = replace(moved, shape=x.shape)
            self._layouts[moved.name, x.channels_first] = replace(x, mask=None)
        return replace(self._layouts[x.name, channels_first], shape=x.shape, mask=x.mask)

    def cast(self, x: Value, dtype: str) -> Value:
        """The same in another dtype."""
        if x.dtype == dtype:
            return x
        cast = self.node("Cast", [x], x.shape, dtype, channels_first=x.channels_first, to=tensor_type(dtype))
        return replace(cast, mask=x.mask)

    def _store(self, name: str, array: Array) -> str:
        name = self._unique(name)
        self.initializers[name] = array
        return name

    def _unique(self, name: str) -> str:
        unique, nth = name, 1
        while unique in self._names:
            unique, nth = f"{name}_{nth}", nth + 1
        self._names.add(unique)
        return unique


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The NumPy dtype of a Keras dtype's name."""
    if name.startswith(("bfloat", "int4", "uint4", "float8")):
        import ml_dtypes

        extended: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
        return extended
    return np.dtype(str if name == "string" else name)


def tensor_type(name: str) -> int:
    """The number of ONNX for a Keras dtype's name."""
    from onnx import TensorProto, helper

    number: int = TensorProto.STRING if name == "string" else helper.np_dtype_to_tensor_dtype(numpy_dtype(name))
    return number

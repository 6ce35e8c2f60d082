"""Weights into a graph that was converted without them, and the constants folded that only move data.

A converter that never saw the weights leaves `Transpose(kernel)`, `Squeeze(Reshape(bias))` and the like in the graph.
Those are evaluated here with NumPy, once. Only operators that move or retype numbers are folded, never arithmetic, so
the values are the weights' own, and each result keeps the name of the weight it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bnexport.onnx_graph import subgraphs
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


def attach(model: onnx.ModelProto, weights: Mapping[str, Array]) -> None:
    """Turns the graph inputs named in `weights` into initializers, and folds what only moves data. Works in place.

    A weight that is needed in one form only keeps its name, whatever its new layout (`conv/kernel` becomes
    output-channels-first); the second form of a weight gets "#2" behind its name. Weights nobody reads are left out.
    Scale and offset that a BatchNormalization layer does not have (ones and zeros) are named after its node.
    """
    graph = model.graph
    folded = _Folded(graph, weights)
    nodes = [node for node in graph.node if not folded.take(node)]
    read = dict.fromkeys(name for node in nodes for name in subgraphs.reads(node) if name in folded.values)
    read.update(dict.fromkeys(output.name for output in graph.output if output.name in folded.values))
    names = folded.final_names(list(read), _batch_normalization_roles(nodes))
    for node in nodes:
        subgraphs.rename(node, names)
    inputs = [i for i in graph.input if i.name not in weights]
    kept = {names[name]: folded.values[name] for name in read}
    made = {output for node in nodes for output in node.output}
    shapes = [info for info in graph.value_info if info.name in made]
    for repeated, content in ((graph.node, nodes), (graph.input, inputs), (graph.value_info, shapes)):
        del repeated[:]
        repeated.extend(content)
    set_initializers(model, kept)


def set_initializers(model: onnx.ModelProto, values: Mapping[str, Array]) -> None:
    """Replaces all initializers of the graph by `values`, in place; each array is copied once."""
    del model.graph.initializer[:]
    for name, value in values.items():
        add_initializer(model, name, value)


def add_initializer(model: onnx.ModelProto, name: str, value: Array) -> None:
    """Adds one initializer to the graph, in place."""
    from onnx import helper

    tensor = model.graph.initializer.add(
        name=name, data_type=helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape
    )
    content = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    del value  # the message copies the bytes once more: where nobody else needs the array, there are never three of it
    tensor.raw_data = content


def initializers(model: onnx.ModelProto) -> dict[str, Array]:
    """The initializers of the graph by name. The arrays may be read-only."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def set_apart(model: onnx.ModelProto, inside: Collection[str]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A copy of the model that only names its large weights, and those weights, which share the memory of nothing that changes.

    Copies, serialised forms and sessions of the former take no memory for the latter.

    Args:
        model: the model; not changed.
        inside: the initializers whose values the copy has whatever their size.
    """
    import onnx

    copy, apart = onnx.ModelProto(), {}
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy_field(copy, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy_field(copy.graph, field.name, value)
    kept = {*inside, *(info.name for info in model.graph.input)}
    for tensor in model.graph.initializer:
        dtype = _APART.get(tensor.data_type)
        if dtype is None or tensor.name in kept or len(content := tensor.raw_data) < _LARGE:
            copy.graph.initializer.append(tensor)
            continue
        apart[tensor.name] = np.frombuffer(content, dtype).reshape(tuple(tensor.dims))
        named = copy.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        named.data_location = onnx.TensorProto.EXTERNAL
        for key, text in (("location", "memory"), ("offset", "0"), ("length", str(len(content)))):
            named.external_data.add(key=key, value=text)
    return copy, apart


def _copy_field(message: onnx.ModelProto | onnx.GraphProto, name: str, value: object) -> None:
    if isinstance(value, str | int | bytes):
        setattr(message, name, value)
    else:
        getattr(message, name).extend(value)


_LARGE = 1024
_APART = {1: "<f4", 10: "<f2", 11: "<f8"}
"""What is set apart: floating-point values of so many bytes, by ONNX' number of their type."""


def _batch_normalization_roles(nodes: list[onnx.NodeProto]) -> dict[str, str]:
    roles = ("gamma", "beta", "moving_mean", "moving_variance")
    return {
        name: f"{node.name}/{role}"
        for node in nodes
        if node.op_type == "BatchNormalization"
        for name, role in zip(node.input[1:], roles, strict=True)
    }


class _Folded:
    """The constants of a graph: what is known so far, where it came from, and by which steps."""

    def __init__(self, graph: onnx.GraphProto, weights: Mapping[str, Array]) -> None:
        from onnx import numpy_helper

        self.weights = weights
        self.values: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.values.update(weights)
        self.origin = {name: name for name in weights}
        self.steps: dict[str, tuple[Any, ...]] = {name: (name,) for name in self.values}

    def take(self, node: onnx.NodeProto) -> bool:
        """Whether the node's output is now known, so that the node can go."""
        from onnx import helper, numpy_helper

        output = node.output[0]
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            self.values[output] = numpy_helper.to_array(node.attribute[0].t)
            self.steps[output] = (output,)
            return True
        fold = _MOVES.get(node.op_type)
        if fold is None or node.domain or not all(name in self.values for name in node.input if name):
            return False
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.values[output] = fold(attributes, *(self.values[name] for name in node.input if name))
        self.steps[output] = (
            node.op_type,
            tuple(sorted((k, str(v)) for k, v in attributes.items())),
            *(self.steps[n] for n in node.input if n),
        )
        origin = next((self.origin[n] for n in node.input if n in self.origin), None)
        if origin is not None:
            self.origin[output] = origin
        return True

    def final_names(self, read: list[str], roles: Mapping[str, str]) -> dict[str, str]:
        """One name for each constant that is read: its weight's own where possible, the same for the same steps."""
        taken: dict[str, tuple[Any, ...]] = {}
        names: dict[str, str] = {}
        for name in sorted(read, key=lambda n: n not in self.weights):  # a weight read as it is keeps its name
            wanted, nth = self.origin.get(name) or roles.get(name, name), 1
            while (final := wanted if nth == 1 else f"{wanted}#{nth}") in taken and taken[final] != self.steps[name]:
                nth += 1
            taken[final] = self.steps[name]
            names[name] = final
        return names


def _reshape(attributes: dict[str, Any], x: Array, shape: Array) -> Array:
    if attributes.get("allowzero"):
        return x.reshape(shape.tolist())
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())])


def _cast(attributes: dict[str, Any], x: Array) -> Array:
    from onnx import helper

    return x.astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))


_MOVES: dict[str, Callable[..., Array]] = {
    "Cast": _cast,
    "Concat": lambda attributes, *parts: np.concatenate(parts, axis=attributes["axis"]),
    "Identity": lambda _, x: x,
    "Reshape": _reshape,
    "Squeeze": lambda _, x, axes=None: np.squeeze(x, None if axes is None else tuple(axes.tolist())),
    "Transpose": lambda attributes, x: np.transpose(x, attributes.get("perm")),
    "Unsqueeze": lambda _, x, axes: np.expand_dims(x, tuple(axes.tolist())),
}

"""A graph that computes in float64 what another one computes in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_TO = {"Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype", "RandomUniformLike": "dtype"}
"""The operators that name the type of their output in an attribute."""


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float32 or float16 tensor is float64: inputs, weights, constants, and what operators are asked to make."""
    import onnx

    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for graph in _graphs(wide.graph):
        for tensor in graph.initializer:
            tensor.CopyFrom(_widen(tensor))
        for info in (*graph.input, *graph.output, *graph.value_info):
            if info.type.tensor_type.elem_type in _narrow():
                info.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == _TO.get(node.op_type) and attribute.i in _narrow():
                    attribute.i = onnx.TensorProto.DOUBLE
                elif attribute.type == onnx.AttributeProto.TENSOR:
                    attribute.t.CopyFrom(_widen(attribute.t))
            if node.op_type == "Constant" and node.attribute[0].name in ("value_float", "value_floats"):
                value = onnx.helper.get_attribute_value(node.attribute[0])
                del node.attribute[:]
                tensor = onnx.numpy_helper.from_array(np.asarray(value, np.float64), "")
                node.attribute.append(onnx.helper.make_attribute("value", tensor))
    return wide


def _narrow() -> tuple[int, ...]:
    import onnx

    return (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def _widen(tensor: onnx.TensorProto) -> onnx.TensorProto:
    from onnx import numpy_helper

    if tensor.data_type not in _narrow():
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)

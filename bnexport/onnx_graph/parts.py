"""A part of a graph as a graph of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph import stages, subgraphs
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


def node_title(node: onnx.NodeProto) -> str:
    """The operator of a node and its name, or what it makes where it has none."""
    return f"{node.op_type} {node.name or node.output[0]}"


def part_inputs(model: onnx.ModelProto, nodes: Collection[int]) -> list[str]:
    """The tensors that some nodes, by their positions, read and neither make themselves nor have as weights."""
    stored = {tensor.name for tensor in model.graph.initializer}
    made = {output for index in nodes for output in model.graph.node[index].output}
    read = dict.fromkeys(name for index in sorted(nodes) for name in subgraphs.reads(model.graph.node[index]))
    return [name for name in read if name not in stored and name not in made]


def part_outputs(model: onnx.ModelProto, nodes: Collection[int]) -> list[str]:
    """The tensors that some nodes make and that others of the graph, or its caller, need."""
    inside = set(nodes)
    needed = {info.name for info in model.graph.output}
    for index, node in enumerate(model.graph.node):
        if index not in inside:
            needed.update(subgraphs.reads(node))
    return [output for index in sorted(inside) for output in model.graph.node[index].output if output in needed]


def cut_out(
    model: onnx.ModelProto, nodes: Collection[int], inputs: Mapping[str, Array], outputs: Collection[str]
) -> onnx.ModelProto:
    """A model of some nodes, by their positions, with the weights that they read.

    Args:
        model: the whole graph.
        nodes: their positions.
        inputs: values of every tensor that they need, by which the inputs are described.
        outputs: the tensors that it gives out.
    """
    import onnx
    from onnx import helper

    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    part.graph.name = "part"
    part.graph.node.extend(model.graph.node[index] for index in sorted(nodes))
    part.graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape))
        for name, value in inputs.items()
    )
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    stages.add_weights(part, model, {})
    return part


def with_random_weights(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto | None:
    """A copy whose floating point weights of more than one value are others, of the same spread: it says nothing about the model it came from.

    None where there are no such weights.
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    generator, changed = np.random.default_rng(seed), False
    for tensor in copy.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and values.size > 1:
            other = generator.normal(values.mean(), values.std(), values.shape)
            sign = np.abs(other) if (values >= 0).all() else other  # a variance stays one
            tensor.CopyFrom(numpy_helper.from_array(sign.astype(values.dtype), tensor.name))
            changed = True
    return copy if changed else None

"""The last steps of an export: nodes that say what they are, and a file that is right under default optimisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import ExportError, reason
from bnexport.onnx_graph import metadata, subgraphs, tensors

if TYPE_CHECKING:
    import onnx

IR_VERSION = 10
"""The first IR version whose nodes carry metadata."""


class InvalidGraph(ExportError):  # noqa: N818 - no error where another converter makes a valid one
    """The checker or the shape inference of ONNX refuses a graph."""


def finish(
    model: onnx.ModelProto,
    *,
    name: str,
    producer_version: str,
    hidden: Mapping[str, str],
    nodes: Mapping[str, Mapping[str, object]],
    properties: Mapping[str, object],
) -> None:
    """Completes an exported graph in place, and checks it.

    Args:
        model: the graph with its weights attached.
        name: the graph's name.
        producer_version: bnexport's version.
        hidden: for each output that ends in softmax or sigmoid, the tensor before it, given out so far and hidden now.
        nodes: metadata for nodes, by node name.
        properties: metadata for the model.

    Raises:
        InvalidGraph: the checker or the shape inference refuses the graph.
    """
    import onnx

    graph = model.graph
    graph.name, graph.doc_string = name, ""
    model.ir_version, model.producer_name, model.producer_version = IR_VERSION, "bnexport", producer_version
    kept = [info for info in graph.output if info.name not in set(hidden.values())]
    del graph.output[:]
    graph.output.extend(kept)
    for info in [*graph.input, *graph.output]:
        _open_batch(info)
    used = {node.domain for node in graph.node}
    opsets = [entry for entry in model.opset_import if entry.domain == "" or entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    for node in graph.node:
        if node.name in nodes:
            metadata.write(node, nodes[node.name])
    metadata.write(model, {**properties, "logits": dict(hidden) or None})
    keep_pads(model)
    light = tensors.without_weights(model)
    try:
        onnx.checker.check_model(light)
        inferred = onnx.shape_inference.infer_shapes(light, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InvalidGraph(
            f"the exported graph is not valid ONNX ({reason(error)})",
            fix="report it as a bug of bnexport, with the model",
        ) from error
    del graph.value_info[:]
    graph.value_info.extend(inferred.graph.value_info)


def keep_pads(model: onnx.ModelProto) -> None:
    """Writes the zero of every Pad in front of a MaxPool as -0.0, in place.

    onnxruntime up to 1.31, onnxsim and onnxoptimizer fold a zero Pad into the MaxPool behind it, whose own padding is minus
    infinity: where the pooled values are negative the result is another. -0.0 means the same and is not folded.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    pooled = {node.input[0] for node in model.graph.node if node.op_type == "MaxPool"}
    for node in model.graph.node:
        if node.op_type != "Pad" or node.output[0] not in pooled:
            continue
        if any(a.name == "mode" and a.s != b"constant" for a in node.attribute):
            continue
        value = stored.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if value is not None and numpy_helper.to_array(value).any():
            continue
        zero = numpy_helper.to_array(value) if value is not None else np.zeros((), np.float32)
        name = f"{node.name or node.output[0]}/negative_zero"
        model.graph.initializer.append(numpy_helper.from_array(-np.abs(zero), name))
        node.input[:] = [*node.input[:2], name, *node.input[3:]]
    read = {name for node in model.graph.node for name in subgraphs.reads(node)}
    read |= {info.name for info in model.graph.output}
    unread = [tensor for tensor in model.graph.initializer if tensor.name not in read]
    for tensor in unread:
        model.graph.initializer.remove(tensor)


def _open_batch(info: onnx.ValueInfoProto) -> None:
    """Names the open first axis "N", and forgets the converter's names for the others."""
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        if not dim.HasField("dim_value") or dim.dim_value < 0:
            dim.Clear()
            if axis == 0:
                dim.dim_param = "N"

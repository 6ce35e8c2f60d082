"""The last steps of an export: nodes that say what they are, and a file that is right under default optimisations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import ExportError
from bnexport.onnx_graph import metadata, subgraphs, tensors

if TYPE_CHECKING:
    import onnx

IR_VERSION = 10
"""The first IR version whose nodes carry metadata."""


class InvalidGraph(ExportError):  # noqa: N818 - no error where another converter makes a valid one
    """The checker or the shape inference of ONNX refuses a graph: the configuration of a layer is damaged, or an axis has size 0.

    Args:
        words: why, as ONNX says it.
        node: the name of the node that is refused; "" where ONNX names none.
        empty: the first tensor with an axis of size 0 and its shape, in words; "" where there is none.
    """

    def __init__(self, words: str, node: str = "", empty: str = "") -> None:
        self.words, self.node, self.empty = words, node, empty
        self.layer = re.sub(r"#[0-9]+$", "", node.rpartition("/")[0])
        """The path of the layer that the node is part of; "" where that is not known."""
        super().__init__(f"EX002: bnexport cannot export the model: {self.description}", fix=self.advice)

    @property
    def description(self) -> str:
        """What is refused, as a reason beside the name of the layer."""
        words = f"{self.words} (node {self.node})" if self.node and not self.layer else self.words
        if self.empty:
            return f"{self.empty} has an axis of size 0, on which ONNX refuses an operator: {words}"
        return f"ONNX refuses an operator: {words}"

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.empty:
            return "change the shape of the input, or the layer that makes an axis of size 0 (one that crops, slices or reshapes, say)"
        return (
            "check the sizes, strides and rates in the configuration of the layer; if the model runs in its framework, report "
            "it as a bug of bnexport, with the model"
        )


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
        raise _refusal(error, light) from error
    del graph.value_info[:]
    graph.value_info.extend(inferred.graph.value_info)


def _refusal(error: Exception, model: onnx.ModelProto) -> InvalidGraph:
    """Which node of a graph ONNX refuses, why, and on what."""
    import onnx

    text = " ".join(str(error).split())
    name = re.search(r"node name: ([^)]*)\)|Bad node spec for node\. Name: (\S*)", text)
    node = (name[1] or name[2] or "") if name else ""
    words = re.sub(
        r"^.*?node name: [^)]*\): *|\[\w+\] *| *\(op_type:.*$| *==> Context.*$", "", text
    )  # of the first node
    sized = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    empty = [info for info in [*sized.input, *sized.value_info, *sized.output] if 0 in (tensors.shape(info) or ())]
    return InvalidGraph(words, node, f"{empty[0].name}, of shape {_shape_text(empty[0])}," if empty else "")


def _shape_text(info: onnx.ValueInfoProto) -> str:
    sides = ["N" if side is None else str(side) for side in tensors.shape(info) or ()]
    return f"({', '.join(sides)})"


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

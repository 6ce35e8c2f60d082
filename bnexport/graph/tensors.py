"""Which tensors a graph has, which of them it gives out, and how large they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bnexport.errors import InputError
from bnexport.graph import metadata

if TYPE_CHECKING:
    import onnx

SQUASHING = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_PASSING = {"Identity", "Cast"}


def inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph inputs that a caller has to feed (an initializer that is also an input is not among them)."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in stored]


def shape(info: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    """The static shape of a tensor, None for an axis that is open; None for a tensor of unknown rank."""
    kind = info.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)


def describe(model: onnx.ModelProto) -> None:
    """Adds the type and shape of every tensor that the file does not describe, as far as shape inference knows them; in place."""
    known = {info.name for info in [*model.graph.value_info, *model.graph.output]}
    made = {output for node in model.graph.node for output in node.output if output}
    if not made <= known:
        model.graph.value_info.extend(info for info in _inferred(model) if info.name in made - known)


def ranks(model: onnx.ModelProto) -> dict[str, int]:
    """The rank of every tensor whose rank is known, by shape inference where the file does not say."""
    known = {
        i.name: s
        for i in [*model.graph.value_info, *model.graph.input, *model.graph.output]
        if (s := shape(i)) is not None
    }
    made = {output for node in model.graph.node for output in node.output if output}
    if not made <= set(known):
        known.update({i.name: s for i in _inferred(model) if (s := shape(i)) is not None})
    return {name: len(s) for name, s in known.items()}


def _inferred(model: onnx.ModelProto) -> Iterable[onnx.ValueInfoProto]:
    import onnx

    inferred: Iterable[onnx.ValueInfoProto] = onnx.shape_inference.infer_shapes(without_weights(model)).graph.value_info
    return inferred


def without_weights(model: onnx.ModelProto, *, larger_than: int = 256) -> onnx.ModelProto:
    """The same graph with its larger initializers as inputs: small enough to check and to infer shapes on quickly."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    listed = {info.name for info in model.graph.input}
    for tensor in model.graph.initializer:
        size = 1
        for dim in tensor.dims:
            size *= dim
        if size <= larger_than:
            light.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def refuse_impossible(model: onnx.ModelProto) -> None:
    """Refuses what the checker lets pass: weights of another size than their shape says, and operators that no runtime brings.

    Raises:
        InputError: there is one.
    """
    import onnx

    texts = [text for holder in (model, *model.graph.node) for e in holder.metadata_props for text in (e.key, e.value)]
    parts = (
        *model.graph.node,
        *model.graph.initializer,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    )
    texts += [part.name for part in parts]
    if not all(isinstance(text, str) for text in texts):  # protobuf gives what is not UTF-8 as bytes
        raise InputError("a name in the graph is not text")
    for tensor in model.graph.initializer:
        count = math.prod(tensor.dims)
        if min(tensor.dims, default=0) < 0:
            raise InputError(f"the weight {tensor.name} has a negative size", found=str(list(tensor.dims)))
        if not tensor.HasField("raw_data"):
            continue
        bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if tensor.data_type not in _PACKED and len(tensor.raw_data) * 8 != count * bits:
            raise InputError(
                f"the weight {tensor.name} is damaged",
                found=f"{len(tensor.raw_data)} bytes",
                expected=f"{count * bits // 8} for the shape {list(tensor.dims)}",
            )
    own = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            raise InputError(
                f"the graph needs the operator {node.op_type} of the domain {node.domain}, which onnxruntime does not bring",
                fix="export the model without it",
            )


_DOMAINS = {
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.experimental",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
}
_PACKED = {21, 22, 23, 25, 26}  # onnx.TensorProto: UINT4, INT4, FLOAT4E2M1, UINT2, INT2: several to a byte


def squashed(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """For each graph output that ends in softmax or sigmoid: the tensor before it, and which of the two.

    The tensor is the one the file's metadata names, or the input of the last Softmax or Sigmoid node, found through Identity and Cast.
    """
    maker = {output: node for node in model.graph.node for output in node.output}
    named = metadata.read(model, "logits", {})
    found = {}
    for output in model.graph.output:
        node = maker.get(output.name)
        while node is not None and node.op_type in _PASSING:
            node = maker.get(node.input[0])
        if node is not None and node.op_type in SQUASHING:
            found[output.name] = (named.get(output.name, node.input[0]), SQUASHING[node.op_type])
    return found


def rename_outputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Gives the graph's outputs other names, in order and in place; nothing happens where there are more or fewer of them."""
    if len(names) != len(model.graph.output):
        return
    new = dict(zip([info.name for info in model.graph.output], names, strict=True))
    for info in [*model.graph.output, *model.graph.value_info]:
        info.name = new.get(info.name, info.name)
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that also gives out the tensors `names`.

    Raises:
        InputError: the graph has no tensor of that name.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {info.name for info in copy.graph.output}
    known = {info.name: info for info in copy.graph.value_info}
    made = {output for node in copy.graph.node for output in node.output}
    for name in names:
        if name in given:
            continue
        if name not in made:
            raise InputError(f"the graph has no tensor {name}", fix="export the model again with bnexport export")
        copy.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
    return copy

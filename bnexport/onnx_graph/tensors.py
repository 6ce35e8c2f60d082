"""Which tensors a graph has, which of them it gives out, and how large they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError
from bnexport.onnx_graph import outputs
from bnexport.results.signature import Port

if TYPE_CHECKING:
    import onnx


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


def dtypes(infos: Iterable[onnx.ValueInfoProto]) -> dict[str, np.dtype[np.generic]]:
    """The NumPy type of each tensor; tensors of unknown type are left out."""
    import onnx

    return {
        info.name: onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        for info in infos
        if info.type.tensor_type.elem_type
    }


def ports(infos: Iterable[onnx.ValueInfoProto]) -> tuple[Port, ...]:
    """Tensors as a signature lists them; those of unknown rank have no axes, those of unknown type are float32."""
    listed = list(infos)
    kinds = dtypes(listed)
    return tuple(Port(i.name, shape(i) or (), kinds.get(i.name, np.dtype(np.float32))) for i in listed)


def describe(model: onnx.ModelProto) -> None:
    """Gives every tensor the type and shape that shape inference finds, in place.

    What the file says about a tensor is kept only where shape inference says nothing: an exporter may have written it wrongly.
    """
    made = {output for node in model.graph.node for output in node.output if output}
    if made <= {info.name for info in model.graph.output}:
        return
    inferred = {info.name: info for info in _infer(model) if info.name in made}
    written = {info.name: info for info in model.graph.value_info if info.name in made}
    del model.graph.value_info[:]
    model.graph.value_info.extend([*inferred.values(), *(i for n, i in written.items() if n not in inferred)])


def ranks(model: onnx.ModelProto) -> dict[str, int]:
    """The rank of every tensor whose rank is known, by shape inference where the file does not say."""
    return {name: len(sides) for name, sides in shapes(model).items()}


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """The shape of every tensor whose rank is known (`shape`), by shape inference where the file does not say."""
    stated = {
        i.name: s
        for i in [*model.graph.value_info, *model.graph.input, *model.graph.output]
        if (s := shape(i)) is not None
    }
    made = {output for node in model.graph.node for output in node.output if output}
    if not made <= set(stated):
        stated.update({i.name: s for i in _infer(model) if (s := shape(i)) is not None})
    return stated


def declare_ranks(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Describes tensors of unknown rank by shapes that they had in one run: of those only the rank and the channels are kept; in place."""
    import onnx

    for info in [*model.graph.value_info]:
        if info.name in shapes:
            model.graph.value_info.remove(info)
    for name, sides in shapes.items():
        model.graph.value_info.append(
            onnx.helper.make_tensor_value_info(
                name, 1, [side if axis == 1 else None for axis, side in enumerate(sides)]
            )
        )


def _infer(model: onnx.ModelProto) -> Iterable[onnx.ValueInfoProto]:
    """What shape inference finds; nothing where it refuses the graph, which a wrong description of one tensor is enough for."""
    import onnx

    try:
        inferred: Iterable[onnx.ValueInfoProto] = onnx.shape_inference.infer_shapes(
            without_weights(model)
        ).graph.value_info
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return []
    return inferred


def without_weights(model: onnx.ModelProto, *, larger_than: int = 256) -> onnx.ModelProto:
    """The same graph with its larger initializers as inputs: small enough to check and to infer shapes on quickly."""
    return with_inputs_for(model, {t.name for t in model.graph.initializer if math.prod(t.dims) > larger_than})


def with_inputs_for(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The same graph with some initializers as inputs, and without descriptions of its inner tensors."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    listed = {info.name for info in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in names:
            light.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def refuse_empty_outputs(model: onnx.ModelProto) -> None:
    """Refuses a graph with an output in which there is nothing to compare.

    Raises:
        InputError: the shape of an output has an axis of size 0.
    """
    for info in model.graph.output:
        sides = shape(info) or ()
        if 0 in sides:
            raise InputError(
                f"the output {info.name} of the model has an axis of size 0, so that there is nothing to compare",
                found=f"shape ({', '.join('N' if side is None else str(side) for side in sides)})",
                fix="correct the layer that makes it, or check a model without this output",
            )


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
        raise InputError("a name in the graph is not valid UTF-8")
    kinds = [(info.name, info.type.tensor_type.elem_type) for info in parts if isinstance(info, onnx.ValueInfoProto)]
    kinds += [(tensor.name, tensor.data_type) for tensor in model.graph.initializer]
    for name, kind in kinds:
        if kind not in onnx.TensorProto.DataType.values():
            raise InputError(f"the tensor {name} has an unknown element type", found=str(kind))
    for tensor in model.graph.initializer:
        count = math.prod(tensor.dims)
        if min(tensor.dims, default=0) < 0:
            raise InputError(f"the weight {tensor.name} has a negative dimension", found=f"shape {list(tensor.dims)}")
        if not tensor.HasField("raw_data"):
            continue
        bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if tensor.data_type not in _PACKED and len(tensor.raw_data) * 8 != count * bits:
            raise InputError(
                f"the weight {tensor.name} is damaged",
                found=f"{len(tensor.raw_data)} bytes",
                expected=f"{count * bits // 8} bytes for the shape {list(tensor.dims)}",
            )
    own = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            raise InputError(
                f"the graph requires the operator {node.op_type} of the domain {node.domain}, which onnxruntime does not provide",
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


def rename_outputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Gives the graph's outputs other names, in order and in place; nothing happens where there are more or fewer of them."""
    if len(names) != len(model.graph.output):
        return
    new = dict(zip([info.name for info in model.graph.output], names, strict=True))
    weights = {tensor.name for tensor in model.graph.initializer}
    used = weights.union(*([*node.input, *node.output] for node in model.graph.node)) - set(new)
    for name in (used - {info.name for info in model.graph.input}).intersection(
        names
    ):  # a weight or another tensor has the name already
        new[name] = next(free for nth in itertools.count(1) if (free := f"{name}_{nth}") not in used)
    for tensor in model.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for info in [*model.graph.output, *model.graph.value_info]:
        info.name = new.get(info.name, info.name)
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that also gives out the tensors `names`, also logits that `outputs.squashing_functions` has a new name for.

    Raises:
        InputError: the graph has no tensor of that name.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {info.name for info in copy.graph.output}
    infos = {info.name: info for info in copy.graph.value_info}
    made = {output for node in copy.graph.node for output in node.output}
    laid_out = outputs.logits_nodes(model)
    for name in dict.fromkeys(names):
        if name in given:
            continue
        if name in laid_out and name not in made:
            copy.graph.node.extend(laid_out[name])
            copy.graph.output.append(onnx.ValueInfoProto(name=name))
            continue
        if name not in made:
            raise InputError(f"the graph has no tensor {name}", fix="export the model again with bnexport export")
        copy.graph.output.append(infos.get(name) or onnx.ValueInfoProto(name=name))
    return copy

"""Outputs whose number of rows depends on the data: along which axis, chosen by which node.

Shapes are inferred twice: with a number of items that shows up in a shape for no other reason, and once more with so many rows behind each
selecting node. So an axis of selected rows differs from one of items, and rows that belong together are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph import subgraphs, tensors
from bnexport.onnx_graph.outputs import SELECTING, selection_indices, selections, sources
from bnexport.results.heads import Selection

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]

_ITEMS = 89
_SPACE = 32
"""The length of other axes that are open."""

_ROWS = (997, 1009, 1013, 1019, 1021, 1031, 1033, 1039)
"""Primes."""

_LAYING = {"Identity", "Cast"}


def selected_outputs(model: onnx.ModelProto) -> dict[str, Selection]:
    """The outputs, and the indices by which their rows are chosen, whose number of rows depends on the data.

    An output behind a selection whose shape does not depend on it (a fixed number of rows, filled up) is none of them.
    """
    names = [*selections(model), *selection_indices(model)]
    if not names:
        return {}
    nodes = [node for node in model.graph.node if node.op_type in SELECTING and not node.domain]
    plain = _infer(model, {}, names)
    rows: dict[str, Shape] = {}
    groups: dict[int, str] = {}
    for node, count in zip(nodes, cycle(_ROWS), strict=False):
        rows |= _with_rows(node, count, plain)
        groups[count] = "" if count in groups else node.output[0]
    inferred = _infer(model, rows, names)
    stated = {info.name: tensors.shape(info) for info in model.graph.output}
    maker = {output: node for node in model.graph.node for output in node.output if output}
    selected = {}
    for name in names:
        shape = rows.get(name) or inferred.get(name)
        axes = [axis for axis, side in enumerate(shape or ()) if side in groups]
        unknown = [axis for axis, side in enumerate(shape or stated.get(name) or (None,)) if side is None]
        if not axes and not unknown:
            continue
        axis = axes[0] if axes else unknown[0]
        node = _selecting(maker, name)
        selected[name] = Selection(
            axis,
            groups.get(shape[axis] or 0, "") if axes and shape else "",
            names_rows=node is not None,
            batch=0 if node is not None and _starts_with_items(node, plain) else None,
            certain=bool(axes),
        )
    return selected


def _selecting(maker: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """The NonMaxSuppression or NonZero node that a tensor comes straight from."""
    while name in maker and maker[name].op_type in _LAYING:
        name = maker[name].input[0]
    node = maker.get(name)
    return node if node is not None and node.op_type in ("NonMaxSuppression", "NonZero") and not node.domain else None


def _starts_with_items(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """Whether the first index of each row is the position of an item."""
    return node.op_type == "NonMaxSuppression" or shapes.get(node.input[0], ())[:1] == (_ITEMS,)


def _with_rows(node: onnx.NodeProto, count: int, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of what a node selects, with so many rows; nothing where its rank is unknown."""
    if node.op_type == "NonMaxSuppression":
        return {node.output[0]: (count, 3)}
    source = shapes.get(node.input[0])
    if node.op_type == "NonZero":
        return {} if source is None else {node.output[0]: (len(source), count)}
    axis = next((a.i for a in node.attribute if a.name == "axis"), None)
    first: Shape | None = (count,)
    if axis is not None:
        first = (
            None if source is None else tuple(count if nth == axis % len(source) else s for nth, s in enumerate(source))
        )
    if first is None:
        return {}
    given = {node.output[0]: first}
    if node.op_type == "Unique":
        given |= {name: (count,) for name in (*node.output[1:2], *node.output[3:4]) if name}
    return given


def _infer(model: onnx.ModelProto, given: Mapping[str, Shape], names: list[str]) -> dict[str, Shape]:
    """The shape of every tensor whose rank is known, where some are given."""
    import onnx

    light = tensors.without_weights(model)
    kinds = {info.name: info.type.tensor_type.elem_type for info in [*model.graph.value_info, *model.graph.output]}
    stored = {tensor.name for tensor in model.graph.initializer}
    for info in light.graph.input:
        if info.name in stored or not info.type.tensor_type.HasField("shape"):
            continue
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_value = _SPACE if axis else _ITEMS
    kept = [node for node in light.graph.node if not any(name in given for name in node.output)]
    del light.graph.node[:]
    light.graph.node.extend(kept)
    for name, rows in given.items():
        kind = kinds.get(name) or onnx.TensorProto.INT64
        light.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, rows))
    del light.graph.output[:]
    made = {output for node in kept for output in node.output}
    light.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names) if name in made
    )
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    infos = [*inferred.value_info, *inferred.input, *inferred.output]
    return {info.name: shape for info in infos if (shape := tensors.shape(info)) is not None}


def selecting_graph(
    model: onnx.ModelProto, index: str, dtypes: Mapping[str, np.dtype[np.generic]]
) -> tuple[onnx.ModelProto, list[str]] | None:
    """The nodes of a graph that choose rows, alone: their inputs are the tensors that they choose by.

    Args:
        model: the graph.
        index: the tensor with the indices of what is chosen.
        dtypes: of the tensors that can be given.

    Returns:
        The graph and the names of its inputs; None where it needs more than can be given.
    """
    import onnx

    maker = {output: node for node in model.graph.node for output in node.output if output}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    given = {*sources(model)} | {info.name for info in tensors.inputs(model)}
    wanted: set[str] = set()
    inputs: dict[str, None] = {}
    waiting = [index]
    weights: dict[str, onnx.TensorProto] = {}
    while waiting:
        name = waiting.pop()
        if name in stored:
            weights[name] = stored[name]
        elif name in given and name != index:
            inputs[name] = None
        elif name not in maker:
            return None
        elif maker[name].output[0] not in wanted:
            wanted.add(maker[name].output[0])
            waiting += [read for read in subgraphs.reads(maker[name]) if read]
    if not set(inputs) <= dtypes.keys():
        return None
    graph = onnx.helper.make_graph(
        [node for node in model.graph.node if node.output[0] in wanted],
        "selection",
        [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtypes[name]), None)
            for name in inputs
        ],
        [onnx.ValueInfoProto(name=index)],
        list(weights.values()),
    )
    made = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made, list(inputs)


def same_selection(reference: onnx.ModelProto, other: onnx.ModelProto) -> dict[str, str]:
    """The tensors inside a graph by which rows are selected, and their indices, with their names in another graph that selects by the same operators.

    They are known by their order. Where one graph selects in another way, there are none.
    """
    ours, theirs = sources(reference), sources(other)
    indices = selection_indices(reference)
    nodes = [[n for n in model.graph.node if n.op_type in SELECTING and not n.domain] for model in (reference, other)]
    if len(ours) != len(theirs) or [n.op_type for n in nodes[0]] != [n.op_type for n in nodes[1]]:
        return {}
    given = {info.name for info in reference.graph.output}
    chosen = {a.output[0]: b.output[0] for a, b in zip(*nodes, strict=True) if a.output[0] in indices}
    return {a: b for a, b in zip(ours, theirs, strict=True) if a not in given} | chosen

"""The float32 form of a graph in float16 or bfloat16, with noise as large as rounding to 16 bits behind gates.

A value y that is rounded to p bits is off by 2^-p |y| at most (p = 11 for float16, 8 for bfloat16; IEEE 754, section 3.6), and by half the
smallest step near 0:

    y' = y + noise * (2^-p y + t) * 2 U,   U uniform in (-1/2, 1/2),   t = 2^-25 for float16, 0 for bfloat16

This is applied to the inputs, the weights and whatever a node computes in 16 bits; operators that only move values are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph import subgraphs
from bnexport.onnx_graph.quantised_sites import NOISE, QUANTISE, FloatForm, Site

if TYPE_CHECKING:
    import onnx

FLOAT, FLOAT16, BFLOAT16 = 1, 10, 16  # onnx.TensorProto
_STEP = {FLOAT16: (2.0**-11, 2.0**-25), BFLOAT16: (2.0**-8, 0.0)}
_NAMES = """
Reshape Transpose Flatten Squeeze Unsqueeze Identity Relu MaxPool GlobalMaxPool Concat Slice Gather GatherElements GatherND Split Clip Max Min
Expand Pad Tile Shape Where Neg Abs Sign Dropout DepthToSpace SpaceToDepth Constant ConstantOfShape ReduceMax ReduceMin TopK Compress Scatter
ScatterElements ScatterND Reverse ReverseSequence
"""
_EXACT = frozenset(_NAMES.split())
_TYPES = {"to", "dtype"}


def half_form(model: onnx.ModelProto) -> FloatForm | None:
    """The float32 form of a graph that computes in 16 bits; None where nothing in it does.

    Args:
        model: with the types of its tensors described.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    types = {i.name: i.type.tensor_type.elem_type for i in [*graph.value_info, *graph.output, *graph.input]}
    stored = {t.name: t.data_type for t in graph.initializer}
    kind = next((k for k in (FLOAT16, BFLOAT16) if k in types.values() or k in stored.values()), 0)
    if not kind:
        return None
    _widen(graph)
    return _noisy(copy, kind, types, {name for name, k in stored.items() if k == kind})


def as_if_half(model: onnx.ModelProto, precision: str) -> FloatForm:
    """A graph in float32 with noise as large as rounding to 16 bits wherever it computes: what it would be off by if it computed in 16 bits.

    Args:
        model: the graph.
        precision: "float16" or "bfloat16".
    """
    import onnx

    copy = onnx.shape_inference.infer_shapes(model)
    kind = {"float16": FLOAT16, "bfloat16": BFLOAT16}[precision]
    infos = [*copy.graph.value_info, *copy.graph.output, *copy.graph.input]
    types = {info.name: kind for info in infos if info.type.tensor_type.elem_type == FLOAT}
    return _noisy(copy, kind, types, {t.name for t in copy.graph.initializer if t.data_type == FLOAT})


def _noisy(model: onnx.ModelProto, kind: int, types: dict[str, int], weights: set[str]) -> FloatForm:
    from onnx import helper, numpy_helper

    graph, (relative, absolute) = model.graph, _STEP[kind]
    for name, value in (("relative", 2 * relative), ("absolute", 2 * absolute)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"bnexport/{name}"))
    sites: list[Site] = []
    inputs: dict[int, str] = {}
    nodes: list[onnx.NodeProto] = []

    def add(source: str, output: str, site: Site) -> None:
        """Adds a tensor with noise: output = source + noise."""
        p, nth = f"{output}/rounding", len(sites)
        graph.initializer.append(numpy_helper.from_array(np.array(nth, np.int64), f"{p}/at"))
        nodes.extend(
            [
                helper.make_node(
                    "RandomUniformLike", [source], [f"{p}/u"], low=-0.5, high=0.5, dtype=1, seed=float(nth + 1)
                ),
                helper.make_node("Gather", [NOISE, f"{p}/at"], [f"{p}/n"]),
                helper.make_node("Mul", [source, "bnexport/relative"], [f"{p}/r"]),
                helper.make_node("Add", [f"{p}/r", "bnexport/absolute"], [f"{p}/s"]),
                helper.make_node("Mul", [f"{p}/s", f"{p}/u"], [f"{p}/v"]),
                helper.make_node("Mul", [f"{p}/v", f"{p}/n"], [f"{p}/w"]),
                helper.make_node("Add", [source, f"{p}/w"], [output]),
            ]
        )
        inputs[nth] = source
        sites.append(site)

    read = {name for node in graph.node for name in subgraphs.reads(node)}
    moved = {
        name: f"{name}/rounded"
        for name in [*weights, *(info.name for info in graph.input if types.get(info.name) == kind)]
        if name in read
    }
    for name, new in moved.items():
        add(name, new, Site(name, name in weights, name))
    for node in list(graph.node):
        subgraphs.rename(node, moved)
        rounded = [o for o in node.output if o and types.get(o) == kind] if node.op_type not in _EXACT else []
        plain = {name: f"{name}/plain" for name in rounded}
        node.output[:] = [plain.get(name, name) for name in node.output]
        nodes.append(node)
        for name, before in plain.items():
            add(before, name, Site(name, False, name, nodes=(node.name,) if node.name else ()))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    graph.input.extend(helper.make_tensor_value_info(name, FLOAT, [len(sites)]) for name in (QUANTISE, NOISE))
    return FloatForm(model, tuple(sites), inputs)


def _widen(graph: onnx.GraphProto) -> None:
    """Gives everything in 16 bits the type float32, in place, also in the graphs inside."""
    from onnx import numpy_helper

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_type in _STEP:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))

    for tensor in graph.initializer:
        widen(tensor)
    for info in [*graph.input, *graph.output, *graph.value_info]:
        if info.type.tensor_type.elem_type in _STEP:
            info.type.tensor_type.elem_type = FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen(attribute.t)
            if attribute.name in _TYPES and attribute.i in _STEP:
                attribute.i = FLOAT
        for inner in subgraphs.graphs(node):
            _widen(inner)

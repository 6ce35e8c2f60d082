"""The graphs that folding is tried on, one for each row of the table; also what `scripts/bench.py fold` gives to other tools."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

RNG = np.random.default_rng(0)
EPSILON = 0.5  # large, so that a forgotten one shows
Graph = tuple[list[onnx.NodeProto], dict[str, np.ndarray]]


def bn(x: str, y: str, channels: int, name: str = "bn") -> Graph:
    parts = {
        f"{name}/gamma": RNG.uniform(0.5, 1.5, channels),
        f"{name}/beta": RNG.uniform(-1, 1, channels),
        f"{name}/mean": RNG.uniform(-1, 1, channels),
        f"{name}/var": RNG.uniform(0.1, 2, channels),
    }
    return [helper.make_node("BatchNormalization", [x, *parts], [y], name=name, epsilon=EPSILON)], parts


def op(
    kind: str,
    x: str,
    y: str,
    weight: tuple[int, ...],
    *,
    bias: int | None = None,
    name: str = "op",
    **attributes: object,
) -> Graph:
    parts = {f"{name}/w": RNG.normal(size=weight)} | ({f"{name}/b": RNG.normal(size=bias)} if bias else {})
    return [helper.make_node(kind, [x, *parts], [y], name=name, **attributes)], parts


def arithmetic(kind: str, x: str, y: str, shape: tuple[int, ...], *, swap: bool = False) -> Graph:
    name = f"{y}/c"
    return [helper.make_node(kind, [name, x] if swap else [x, name], [y], name=f"{kind}_{y}")], {
        name: RNG.uniform(0.5, 1.5, shape)
    }


def move(kind: str, x: str, y: str, *shape: int, **attributes: object) -> Graph:
    """A node that moves values: a Transpose with `perm`, or a Reshape, Squeeze or Unsqueeze with `shape` as its second input."""
    parts = {f"{y}/where": np.array(shape, np.int64)} if shape else {}
    return [helper.make_node(kind, [x, *parts], [y], name=f"{kind}_{y}", **attributes)], parts


def pad(x: str, y: str, rank: int) -> Graph:
    pads = np.array([0, 0, *[1] * (rank - 2), 0, 0, *[1] * (rank - 2)], np.int64)
    return [helper.make_node("Pad", [x, f"{y}/pads"], [y], name="pad")], {f"{y}/pads": pads}


def model(
    x: tuple[int, ...],
    *parts: Graph,
    dtype: type = np.float32,
    outputs: tuple[str, ...] = ("y",),
    opset: int = 18,
) -> onnx.ModelProto:
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [node for part, _ in parts for node in part]
    stored = [
        numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(dtype), n)
        for _, values in parts
        for n, v in values.items()
    ]
    info = [helper.make_tensor_value_info("x", code, ["N", *x[1:]])]
    graph = helper.make_graph(nodes, "g", info, [helper.make_tensor_value_info(o, code, None) for o in outputs], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def ungrouped(original: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every grouped ConvTranspose written out: the reference evaluator of onnx 1.23 cannot run one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(original)
    del copy.graph.node[:]
    stored = {t.name: numpy_helper.to_array(t) for t in original.graph.initializer}
    for node in original.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        groups = attributes.pop("group", 1) if node.op_type == "ConvTranspose" else 1
        if groups == 1:
            copy.graph.node.append(node)
            continue
        y, weights = node.output[0], np.split(stored[node.input[1]], groups)
        biases = (
            np.split(stored[node.input[2]], groups)
            if len(node.input) > 2
            else [np.zeros(w.shape[1], w.dtype) for w in weights]
        )
        copy.graph.node.append(
            helper.make_node("Split", [node.input[0]], [f"{y}/x{g}" for g in range(groups)], axis=1, num_outputs=groups)
        )
        for g, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            copy.graph.initializer.extend(
                [numpy_helper.from_array(weight, f"{y}/w{g}"), numpy_helper.from_array(bias, f"{y}/b{g}")]
            )
            copy.graph.node.append(
                helper.make_node("ConvTranspose", [f"{y}/x{g}", f"{y}/w{g}", f"{y}/b{g}"], [f"{y}/y{g}"], **attributes)
            )
        copy.graph.node.append(helper.make_node("Concat", [f"{y}/y{g}" for g in range(groups)], [y], axis=1))
    return copy


def in_float64(original: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every float in float64."""
    copy = onnx.ModelProto()
    copy.CopyFrom(original)
    for tensor in copy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float64), tensor.name))
    for info in [*copy.graph.input, *copy.graph.output]:
        info.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del copy.graph.value_info[:]
    return copy


def distance(one: onnx.ModelProto, other: onnx.ModelProto, shape: tuple[int, ...]) -> float:
    """The largest difference of the first outputs in float64, relative to the size of the other's."""
    x = np.random.default_rng(1).normal(size=shape)
    a, r = (ReferenceEvaluator(in_float64(ungrouped(m))).run(None, {"x": x})[0] for m in (one, other))
    assert a.shape == r.shape
    return float(np.abs(a - r).max() / np.abs(r).max())


C2, C1, C3, D, V = (2, 4, 7, 7), (2, 4, 9), (2, 4, 5, 5, 5), (2, 4, 7, 7), (3, 4)

TABLE: dict[str, tuple[tuple[int, ...], Callable[[], list[Graph]]]] = {
    "Conv 1d": (C1, lambda: [op("Conv", "x", "a", (6, 4, 3), bias=6), bn("a", "y", 6)]),
    "Conv 2d": (C2, lambda: [op("Conv", "x", "a", (6, 4, 3, 3), pads=[1, 1, 1, 1]), bn("a", "y", 6)]),
    "Conv 3d": (C3, lambda: [op("Conv", "x", "a", (6, 4, 2, 2, 2), bias=6), bn("a", "y", 6)]),
    "depthwise": (C2, lambda: [op("Conv", "x", "a", (8, 1, 3, 3), group=4), bn("a", "y", 8)]),
    "grouped": (C2, lambda: [op("Conv", "x", "a", (6, 2, 3, 3), bias=6, group=2), bn("a", "y", 6)]),
    "ConvTranspose": (C2, lambda: [op("ConvTranspose", "x", "a", (4, 6, 3, 3), strides=[2, 2]), bn("a", "y", 6)]),
    "ConvTranspose grouped": (
        C2,
        lambda: [op("ConvTranspose", "x", "a", (4, 3, 3, 3), bias=6, group=2), bn("a", "y", 6)],
    ),
    "Gemm": (V, lambda: [op("Gemm", "x", "a", (4, 6), bias=6), bn("a", "y", 6)]),
    "Gemm transB alpha beta": (
        V,
        lambda: [op("Gemm", "x", "a", (6, 4), bias=6, transB=1, alpha=0.5, beta=3.0), bn("a", "y", 6)],
    ),
    "Gemm transA": ((4, 3), lambda: [op("Gemm", "x", "a", (4, 6), transA=1), bn("a", "y", 6)]),
    "MatMul": (V, lambda: [op("MatMul", "x", "a", (4, 6)), bn("a", "y", 6)]),
    "MatMul + Add": (V, lambda: [op("MatMul", "x", "a", (4, 6)), arithmetic("Add", "a", "b", (6,)), bn("b", "y", 6)]),
    "BN -> Conv": (C2, lambda: [bn("x", "a", 4), op("Conv", "a", "y", (6, 4, 3, 3), bias=6)]),
    "BN -> Conv grouped": (C2, lambda: [bn("x", "a", 4), op("Conv", "a", "y", (6, 2, 3, 3), group=2)]),
    "BN -> Gemm": (V, lambda: [bn("x", "a", 4), op("Gemm", "a", "y", (4, 6), bias=6, alpha=0.5, beta=2.0)]),
    "BN -> Gemm transB": (V, lambda: [bn("x", "a", 4), op("Gemm", "a", "y", (6, 4), transB=1)]),
    "BN -> MatMul": (V, lambda: [bn("x", "a", 4), op("MatMul", "a", "y", (4, 6))]),
    "Pad -> BN -> Conv": (C2, lambda: [pad("x", "p", 4), bn("p", "a", 4), op("Conv", "a", "y", (6, 4, 3, 3))]),
    "BN -> BN -> Conv": (
        C2,
        lambda: [bn("x", "a", 4, "one"), bn("a", "b", 4, "two"), op("Conv", "b", "y", (6, 4, 1, 1))],
    ),
    "Conv -> BN -> BN": (
        C2,
        lambda: [op("Conv", "x", "a", (6, 4, 1, 1)), bn("a", "b", 6, "one"), bn("b", "y", 6, "two")],
    ),
    "shared weights": (
        C2,
        lambda: [
            op("Conv", "x", "a", (4, 4, 1, 1)),
            bn("a", "b", 4, "one"),
            ([helper.make_node("Conv", ["b", "op/w"], ["c"], name="again")], {}),
            bn("c", "y", 4, "two"),
        ],
    ),
    "Conv + Mul + Add": (
        C2,
        lambda: [
            op("Conv", "x", "a", (6, 4, 3, 3)),
            arithmetic("Mul", "a", "b", (1, 6, 1, 1)),
            arithmetic("Add", "b", "y", (6, 1, 1)),
        ],
    ),
    "Conv + Div + Sub": (
        C2,
        lambda: [
            op("Conv", "x", "a", (6, 4, 3, 3), bias=6),
            arithmetic("Div", "a", "b", (6, 1, 1)),
            arithmetic("Sub", "b", "y", (6, 1, 1), swap=True),
        ],
    ),
    "Conv -> Transpose -> Mul + Add": (
        C2,
        lambda: [
            op("Conv", "x", "a", (6, 4, 3, 3)),
            move("Transpose", "a", "b", perm=[0, 2, 3, 1]),
            arithmetic("Mul", "b", "c", (6,)),
            arithmetic("Add", "c", "y", (1, 1, 6)),
        ],
    ),
    "ConvTranspose -> Transpose -> Div + Sub": (
        C2,
        lambda: [
            op("ConvTranspose", "x", "a", (4, 3, 3, 3), bias=6, group=2),
            move("Transpose", "a", "b", perm=[0, 2, 3, 1]),
            arithmetic("Div", "b", "c", (6,)),
            arithmetic("Sub", "c", "y", (6,), swap=True),
        ],
    ),
    "Conv 3d -> Transpose -> Mul + Add": (
        C3,
        lambda: [
            op("Conv", "x", "a", (6, 4, 2, 2, 2), bias=6),
            move("Transpose", "a", "b", perm=[0, 2, 3, 4, 1]),
            arithmetic("Mul", "b", "c", (6,)),
            arithmetic("Add", "c", "y", (6,)),
        ],
    ),
    "Conv -> Transpose -> Transpose -> BN": (
        C2,
        lambda: [
            op("Conv", "x", "a", (6, 4, 3, 3)),
            move("Transpose", "a", "b", perm=[0, 2, 3, 1]),
            move("Transpose", "b", "c", perm=[0, 3, 1, 2]),
            bn("c", "y", 6),
        ],
    ),
    "Conv 1d as 2d -> Squeeze -> Add, Mul, Add": (
        C1,
        lambda: [
            move("Unsqueeze", "x", "a", 2),
            op("Conv", "a", "b", (6, 4, 1, 3)),
            move("Squeeze", "b", "c", 2),
            arithmetic("Add", "c", "d", (1, 6, 1)),
            arithmetic("Mul", "d", "e", (1, 6, 1)),
            arithmetic("Add", "e", "y", (1, 6, 1)),
        ],
    ),
    "MatMul + Add + Mul + Add": (
        V,
        lambda: [
            op("MatMul", "x", "a", (4, 6)),
            *(arithmetic(k, x, y, (6,)) for k, x, y in (("Add", "a", "b"), ("Mul", "b", "c"), ("Add", "c", "y"))),
        ],
    ),
    "MatMul -> Reshape -> Add, Mul, Add": (
        (6, 4),
        lambda: [
            op("MatMul", "x", "a", (4, 6)),
            move("Reshape", "a", "b", -1, 2, 6),
            *(arithmetic(k, x, y, (6,)) for k, x, y in (("Add", "b", "c"), ("Mul", "c", "d"), ("Add", "d", "y"))),
        ],
    ),
    "Mul + Add -> Transpose -> Conv": (
        (2, 7, 7, 4),
        lambda: [
            arithmetic("Mul", "x", "a", (4,)),
            arithmetic("Add", "a", "b", (4,)),
            move("Transpose", "b", "c", perm=[0, 3, 1, 2]),
            op("Conv", "c", "y", (6, 4, 3, 3)),
        ],
    ),
    "Mul + Add -> MatMul + Add": (
        V,
        lambda: [
            arithmetic("Mul", "x", "a", (4,)),
            arithmetic("Add", "a", "b", (4,)),
            op("MatMul", "b", "c", (4, 6)),
            arithmetic("Add", "c", "y", (6,)),
        ],
    ),
    "Conv + Mul of one number": (C2, lambda: [op("Conv", "x", "a", (6, 4, 3, 3)), arithmetic("Mul", "a", "y", ())]),
}

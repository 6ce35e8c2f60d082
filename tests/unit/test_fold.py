"""Folding, row by row, against ONNX' reference evaluator on the same graph in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnexport.graph import linear
from bnexport.graph.fold import Folded, fold

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


def pad(x: str, y: str, rank: int) -> Graph:
    pads = np.array([0, 0, *[1] * (rank - 2), 0, 0, *[1] * (rank - 2)], np.int64)
    return [helper.make_node("Pad", [x, f"{y}/pads"], [y], name="pad")], {f"{y}/pads": pads}


def model(
    x: tuple[int, ...], *parts: Graph, dtype: type = np.float32, outputs: tuple[str, ...] = ("y",)
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
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
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
    "Conv + Mul of one number": (C2, lambda: [op("Conv", "x", "a", (6, 4, 3, 3)), arithmetic("Mul", "a", "y", ())]),
}


def folded(name: str, dtype: type = np.float32) -> tuple[onnx.ModelProto, Folded, tuple[int, ...]]:
    shape, build = TABLE[name]
    original = model(shape, *build(), dtype=dtype)
    return original, fold(original), shape


@pytest.mark.parametrize("name", TABLE)
def test_every_row_folds(name: str) -> None:
    """Nothing affine is left, and the result is the same to float32 rounding of the weights, which a deleted epsilon is not."""
    original, done, shape = folded(name)
    before = original.SerializeToString(deterministic=True)
    assert fold(original)
    assert original.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(done.model, full_check=True)
    left = [n.op_type for n in done.model.graph.node if n.op_type not in linear.LINEAR]
    assert left == {
        "MatMul": ["Add"],
        "MatMul + Add": ["Add"],
        "BN -> MatMul": ["Add"],
        "Pad -> BN -> Conv": ["Pad"],
    }.get(name, [])
    assert done
    assert not done.refusals
    assert distance(done.model, original, shape) < 1e-6  # weights are rounded to float32 once: 6e-8 each


@pytest.mark.parametrize("name", ["Conv 2d", "Gemm", "MatMul"])
def test_half_precision_folds(name: str) -> None:
    """float16 weights stay float16; computed in float64 and rounded once."""
    original, done, shape = folded(name, np.float16)
    assert {t.data_type for t in done.model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert distance(done.model, original, shape) < 2e-3  # float16 keeps 11 bits: 5e-4 for each weight


MUTATIONS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "epsilon deleted": ("Conv 2d", lambda m: _attributes(m, epsilon=0.0)),
    "bias dropped": ("Conv 1d", lambda m: m.setattr(linear.Linear, "after", _without_bias(linear.Linear.after))),
    "bias dropped before": (
        "BN -> Gemm",
        lambda m: m.setattr(linear.Linear, "before", _without_bias(linear.Linear.before)),
    ),
    "groups ignored": ("ConvTranspose grouped", lambda m: m.setattr(linear.Linear, "_groups", property(lambda _: 1))),
    "alpha ignored": ("BN -> Gemm", lambda m: m.setattr(linear.Linear, "alpha", property(lambda _: 1.0))),
    "scale swapped with shift": ("Conv 2d", lambda m: m.setattr(linear.Linear, "after", _swapped(linear.Linear.after))),
}


def _attributes(patch: pytest.MonkeyPatch, **changed: float) -> None:
    from bnexport.graph import patterns

    original = patterns.attributes_of
    patch.setattr(
        patterns,
        "attributes_of",
        lambda node: {**original(node), **(changed if node.op_type == "BatchNormalization" else {})},
    )


def _without_bias(original: Callable) -> Callable:
    def changed(self: linear.Linear, s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return original(linear.Linear(self.op, self.weight, None, self.attributes), s, t)

    return changed


def _swapped(original: Callable) -> Callable:
    return lambda self, s, t: original(self, t, s)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_fold_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake one could make in the algebra moves the result by far more than the tolerance of the test above, or folds nothing."""
    row, mutate = MUTATIONS[name]
    mutate(monkeypatch)
    original, done, shape = folded(row)
    assert done.refusals or distance(done.model, original, shape) > 1e-3


REFUSED: dict[str, tuple[tuple[int, ...], Callable[[], list[Graph]], tuple[str, ...], str]] = {
    "another reader": (
        C2,
        lambda: [
            op("Conv", "x", "a", (6, 4, 1, 1)),
            bn("a", "b", 6),
            arithmetic("Mul", "a", "c", ()),
            ([helper.make_node("Add", ["b", "c"], ["y"])], {}),
        ],
        ("y",),
        "read elsewhere too",
    ),
    "a graph output": (
        C2,
        lambda: [op("Conv", "x", "a", (6, 4, 1, 1)), bn("a", "y", 6)],
        ("y", "a"),
        "read elsewhere too",
    ),
    "zero padding": (
        C2,
        lambda: [
            ([helper.make_node("Relu", ["x"], ["r"])], {}),
            bn("r", "a", 4),
            op("Conv", "a", "y", (6, 4, 3, 3), pads=[1, 1, 1, 1]),
        ],
        ("y",),
        "pads what it reads",
    ),
    "automatic padding": (
        C2,
        lambda: [
            ([helper.make_node("Relu", ["x"], ["r"])], {}),
            bn("r", "a", 4),
            op("Conv", "a", "y", (6, 4, 3, 3), auto_pad="SAME_UPPER"),
        ],
        ("y",),
        "pads what it reads",
    ),
    "between nonlinearities": (
        C2,
        lambda: [
            ([helper.make_node("Relu", ["x"], ["r"])], {}),
            bn("r", "a", 4),
            ([helper.make_node("Relu", ["a"], ["y"])], {}),
        ],
        ("y",),
        "comes from Relu; its result goes into Relu",
    ),
    "not finite": (C2, lambda: [op("Conv", "x", "a", (6, 4, 1, 1)), _broken(bn("a", "y", 6))], ("y",), "not finite"),
    "channels elsewhere": ((2, 4, 5), lambda: [op("MatMul", "x", "a", (5, 4)), bn("a", "y", 4)], ("y",), ""),
}


def _broken(graph: Graph) -> Graph:
    graph[1]["bn/var"][2] = -3.0
    return graph


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_have_a_reason(name: str) -> None:
    """What must not be folded stays as it was, and says why."""
    shape, build, outputs, reason = REFUSED[name]
    original = model(shape, *build(), outputs=outputs)
    done = fold(original)
    assert [r.name for r in done.refusals] == ["bn"]
    assert reason in done.refusals[0].reason
    assert done.refusals[0].reason
    assert [n.op_type for n in done.model.graph.node] == [n.op_type for n in original.graph.node]


def test_a_weight_that_may_be_fed_is_left_alone() -> None:
    """An initializer that is also a graph input can be overridden by the caller."""
    original = model(C2, *TABLE["Conv 2d"][1]())
    original.graph.input.append(helper.make_tensor_value_info("op/w", 1, [6, 4, 3, 3]))
    [refusal] = fold(original).refusals
    assert "not a constant" in refusal.reason


def test_training_mode_is_left_alone() -> None:
    """A node in training mode has no fixed scale."""
    original = model(C2, *TABLE["Conv 2d"][1]())
    original.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))
    [refusal] = fold(original).refusals
    assert "training mode" in refusal.reason


def test_a_shared_weight_gets_one_initializer_for_each_use() -> None:
    """Two convolutions that shared a weight do not share the folded ones."""
    _, done, _ = folded("shared weights")
    used = [n.input[1] for n in done.model.graph.node]
    assert len(set(used)) == 2

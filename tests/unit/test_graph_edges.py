"""Edits on graphs at their edges: pads of other modes, weights that are replaced, scales that are spread, operators on integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from bnexport import check
from bnexport.onnx_graph.finish import InvalidGraph, finish, keep_pads
from bnexport.onnx_graph.parts import with_random_weights
from bnexport.onnx_graph.qoperators import expand
from bnexport.onnx_graph.quantised_sites import NotCoveredError, spread_scale

X = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)


def graph(nodes: str, shape: str = "N, 3, 4, 4", **stored: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]>
        g (float[{shape}] x) => (float[?] y) {{ {nodes} }}""")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items())
    return model


def run(model: onnx.ModelProto, x: np.ndarray = X) -> np.ndarray:
    [y] = ReferenceEvaluator(model).run(None, {"x": x})
    return y


@pytest.mark.parametrize(
    ("mode", "kept"),
    [("", True), ('<mode = "constant">', True), ('<mode = "reflect">', False), ('<mode = "edge">', False)],
)
def test_only_a_pad_of_zeros_is_written_as_negative_zero(mode: str, kept: bool) -> None:
    """A pad that mirrors or repeats has no value; the result is the same either way."""
    pads = np.int64([0, 0, 1, 1, 0, 0, 1, 1])
    model = graph(f"p = Pad {mode} (x, pads)  y = MaxPool <kernel_shape = [2, 2]> (p)", pads=pads)
    before = run(model)
    keep_pads(model)
    [added] = [t for t in model.graph.initializer if t.name != "pads"] or [None]
    assert (added is not None) is kept
    if added is not None:
        assert added.name == "p/negative_zero"  # the node has no name of its own
        assert np.signbit(numpy_helper.to_array(added))
    np.testing.assert_array_equal(run(model), before)


def test_random_weights_are_as_large_as_those_that_they_replace() -> None:
    """Each float weight of more than one value is drawn anew with its mean and deviation; what is never negative stays so."""
    rng = np.random.default_rng(1)
    stored = {
        "w": rng.normal(3, 0.5, (3, 1, 1)).astype(np.float32),
        "v": rng.uniform(0, 1, (3, 400, 1)).astype(np.float32),
        "u": rng.normal(-1, 2, (3, 400, 1)).astype(np.float32),
        "one": np.float32([7]),
        "axes": np.int64([2, 3]),
    }
    nodes = "a = Mul(x, w)  b = Add(a, one)  m = ReduceMean <keepdims = 1> (v)  k = ReduceMean <keepdims = 1> (u)  c = Add(b, m)  d = Add(c, k)  y = ReduceMean(d, axes)"
    other = with_random_weights(graph(nodes, **stored))
    assert other is not None
    values = {t.name: numpy_helper.to_array(t) for t in other.graph.initializer}
    assert {name: v.shape for name, v in values.items()} == {name: v.shape for name, v in stored.items()}
    assert {name for name, v in stored.items() if np.array_equal(values[name], v)} == {"one", "axes"}
    assert (values["v"] >= 0).all()
    assert (values["u"] < 0).any()
    assert (values["u"] > 0).any()
    np.testing.assert_allclose(
        values["u"].mean(), stored["u"].mean(), atol=0.25
    )  # three standard errors of 1,200 values
    np.testing.assert_allclose(values["u"].std(), stored["u"].std(), rtol=0.1)


@pytest.mark.parametrize(("attributes", "axis"), [({}, 1), ({"axis": 0}, 0), ({"axis": -1}, 2)])
def test_scales_lie_along_their_axis(attributes: dict[str, int], axis: int) -> None:
    """One for each channel of axis 1 unless the node states another; one for all has no shape."""
    node = helper.make_node("DequantizeLinear", ["i", "s"], ["w"], **attributes)
    spread = spread_scale(np.arange(4, dtype=np.float32), (4, 4, 4), node)
    assert spread.shape == tuple(4 if a == axis else 1 for a in range(3))
    assert spread_scale(np.float32([2]), (4, 4, 4), node).shape == ()


def test_scales_of_blocks_are_repeated() -> None:
    """Each for the rows of its block, also where the last block is shorter; without a block size there is no float form."""
    scale = np.float32([[1, 2], [3, 4], [5, 6]])
    node = helper.make_node("DequantizeLinear", ["i", "s"], ["w"], axis=0, block_size=2)
    assert spread_scale(scale, (5, 2), node).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4], [5, 6]]
    with pytest.raises(NotCoveredError):
        spread_scale(scale, (5, 2), helper.make_node("DequantizeLinear", ["i", "s"], ["w"], axis=0))


def test_operators_on_integers_are_covered_or_the_graph_is_not() -> None:
    """A concatenation reads each part with its own scale; channels that come last, and operators that are unknown, are not covered."""

    def expanded(*nodes: onnx.NodeProto) -> list[str] | None:
        made = expand(nodes)
        return None if made is None else [node.op_type for node in made]

    microsoft = {"domain": "com.microsoft"}
    joined = helper.make_node("QLinearConcat", ["s", "z", "a", "as", "az", "b", "bs", "bz"], ["y"], axis=1, **microsoft)
    assert expanded(joined) == ["DequantizeLinear", "DequantizeLinear", "Concat", "QuantizeLinear"]
    [first, second, middle, last] = expand([joined]) or []
    assert [list(first.input), list(second.input), list(last.input)[1:]] == [
        ["a", "as", "az"],
        ["b", "bs", "bz"],
        ["s", "z"],
    ]
    assert list(middle.input) == [*first.output, *second.output]
    pool = ["x", "xs", "xz", "ys", "yz"]
    for last_channels, kinds in ((0, ["DequantizeLinear", "AveragePool", "QuantizeLinear"]), (1, None)):
        node = helper.make_node(
            "QLinearAveragePool", pool, ["y"], kernel_shape=[2, 2], channels_last=last_channels, **microsoft
        )
        assert expanded(node) == kinds
    assert expanded(helper.make_node("QLinearWhere", pool, ["y"], **microsoft)) is None
    assert expanded(helper.make_node("QAttention", pool, ["y"], **microsoft)) is None
    assert expanded(helper.make_node("QuickGelu", ["x"], ["y"], **microsoft)) == ["QuickGelu"]
    assert expanded(helper.make_node("QuantizeLinear", ["x", "s"], ["y"])) == ["QuantizeLinear"]
    assert expanded(helper.make_node("Relu", ["x"], ["y"])) == ["Relu"]


def test_what_onnx_reference_cannot_open_is_a_finding_of_the_target(tmp_path: Path) -> None:
    """It raises where it reads a Scan over the second axis, which onnxruntime runs: the check goes on with the other runs."""
    body = parser.parse_graph("body (float[3, 2] i) => (float[3, 2] o) { o = Relu (i) }")
    scan = helper.make_node("Scan", ["x"], ["y"], "scan", body=body, num_scan_inputs=1, scan_input_axes=[1])
    ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [3, 4, 2]), ("y", [4, 3, 2]))]
    graph_of_scan = helper.make_graph([scan], "g", ends[:1], ends[1:])
    model = helper.make_model(graph_of_scan, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=X[0, :, :, :2])
    report = check(tmp_path / "net.onnx", inputs=tmp_path / "data.npz", targets=["onnxruntime:cpu", "onnx-reference"])
    [finding] = [finding for finding in report.findings if finding.code == "RT016"]
    assert (
        "onnx-reference cannot run the model (Scan is not implemented for other input axes than 0.)" in finding.message
    )
    assert any(c.actual == "onnx-inference@cpu" and c for c in report.comparisons)


def test_a_graph_that_onnx_refuses_is_described_by_its_first_node() -> None:
    """The words of ONNX are about one node; a tensor with an axis of size 0 is the reason where there is one."""
    empty = graph("s = Reshape (x, to)  y = Relu (s)", "N, 0, 4, 4", to=np.int64([-1, 0]))
    wrong = graph("p = MaxPool <kernel_shape = [0, 2]> (x)  y = Transpose <perm = [0, 2, 1, 3]> (p)")
    unknown = graph("y = Relu <beta = 1.0> (x)")
    for model, start in (
        (empty, "x, of shape (N, 0, 4, 4), has an axis of size 0, on which ONNX refuses an operator: "),
        (wrong, "ONNX refuses an operator: Attribute kernel_shape must only contain positive values"),
        (unknown, "ONNX refuses an operator: Unrecognized attribute: beta for operator Relu"),
    ):
        model.graph.output[0].type.tensor_type.shape.dim.extend([onnx.TensorShapeProto.Dimension()] * 4)
        for nth, node in enumerate(model.graph.node):
            node.name = f"block/layer_{nth}#2/{node.op_type}"
        with pytest.raises(InvalidGraph) as e:
            finish(model, name="g", producer_version="1", hidden={}, nodes={}, properties={})
        assert e.value.description.startswith(start)
        assert "layer_1" not in str(e.value)
        assert e.value.layer == "block/layer_0"
        assert ("bug" in str(e.value)) == (model is not empty)

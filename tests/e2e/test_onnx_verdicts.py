"""Verdicts on ONNX files of other tools: what an expert would say about each, on graphs of a few nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from PIL import Image

from bnexport import Overrides, Preprocessing, Scaling, check
from bnexport.comparison.tally import Tally
from bnexport.datasets import sidecar
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.onnx_graph import outputs, protobuf, tensors
from bnexport.onnx_graph.constants import Constants
from bnexport.onnx_graph.order import sort_nodes
from bnexport.onnx_graph.quantised import quantisation
from bnexport.results.heads import Heads
from bnexport.results.runs import Role, RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import CheckReport
from bnexport.rules.measured import interval
from bnexport.runtimes import ort_session

RNG = np.random.default_rng(0)


def graph(text: str, weights: dict[str, Any] | None = None, opset: int = 18) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    for name, value in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def checked(tmp_path: Path, model: onnx.ModelProto, **inputs: Any) -> CheckReport:
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "data.npz", **inputs)
    return check(tmp_path / "net.onnx", inputs=tmp_path / "data.npz", providers=["cpu"])


def codes(report: CheckReport) -> dict[str, Any]:
    return {finding.code: finding for finding in report.findings}


BN = {"gamma": [1.0, 2.0], "beta": [0.0, 0.1], "mean": [0.0, 0.1], "var": [1.0, 0.9]}
STORED = {name: np.float32(value) for name, value in BN.items()}


def images(count: int = 40) -> np.ndarray:
    return RNG.normal(0, 1, (count, 2, 4, 4)).astype(np.float32)


def test_a_selection_is_no_batch_normalisation(tmp_path: Path) -> None:
    """V2: the rows of NonZero are found over the whole batch: nothing is wrong with it."""
    model = graph("g (float[N, 3] x) => (int64[2, K] y) { h = Sigmoid(x)  b = Greater(h, half)  y = NonZero(b) }")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    report = checked(tmp_path, model, x=RNG.normal(size=(5, 3)).astype(np.float32))
    assert report, str(report)
    assert {c.tensor for c in report.comparisons} >= {"y", "h"}  # what is selected from is compared too


def test_a_detector_is_compared_by_what_it_selects_from(tmp_path: Path) -> None:
    """V2: the rows behind NonMaxSuppression are another number in every batch and mode: neither BN006 nor RT008."""
    text = """g (float[N, 4, 8, 8] x) => (int64[K, 3] chosen, float[K, 4] kept) {
        c = Conv<kernel_shape = [1, 1]>(x, w)  [bn] n = BatchNormalization(c, gamma, beta, mean, var)
        flat = Reshape(n, cells)  logits, corner, size = Split<axis = 1>(flat, parts)  scores = Sigmoid(logits)
        wide = Exp(size)  far = Add(corner, wide)  columns = Concat<axis = 1>(corner, far)
        boxes = Transpose<perm = [0, 2, 1]>(columns)
        chosen = NonMaxSuppression(boxes, scores, most, overlap, threshold)
        where = Gather<axis = 1>(chosen, image_and_box)  kept = GatherND(boxes, where) }"""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 1, (6, 4, 1, 1)).astype(np.float32),
        **dict(zip(BN, np.float32([[1] * 6, [0] * 6, [0] * 6, [4] * 6]), strict=True)),
        "cells": np.int64([0, 6, 64]),
        "parts": np.int64([2, 2, 2]),
        "image_and_box": np.int64([0, 2]),
        "most": np.int64([20]),
        "overlap": np.float32([0.5]),
        "threshold": np.float32([0.6]),
    }
    report = checked(tmp_path, graph(text, weights), x=rng.normal(size=(40, 4, 8, 8)).astype(np.float32))
    assert report, str(report)
    assert not {"BN006", "RT008"} & set(codes(report))
    compared = {c.tensor for c in report.comparisons if c.actual == "onnx-inference@cpu"}
    assert compared == {"scores", "boxes", "chosen", "kept"}


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_another_number_of_rows_is_said_between_sides_that_must_be_equal(mode: Any) -> None:
    """RT008: rounding may move a score across the threshold; between two modes it is no rounding."""
    keras = RunSpec("keras", "inference", "tensorflow", Role.CONTROL)
    training = RunSpec("keras", "training", "tensorflow", Role.CONTROL)
    runs = [keras, training if mode == "training" else RunSpec("onnxruntime", "inference", "cpu", artifact="onnx")]
    tally = Tally(runs, Heads(("kept",), selected=frozenset({"kept"})), Tolerances())
    recorded: dict[str, dict[str, Any]] = {}
    batch = Feed({}, ("a", "b"), np.full(2, -1))
    for rows, run in enumerate(runs, 3):
        outputs = {"kept": np.ones((rows, 4), np.float32)}
        if run is keras:
            tally.begin(batch, outputs)
        tally.add(run.id, batch, outputs, recorded)
        recorded[run.id] = outputs
    finding = tally.uneven()
    if mode == "training":
        assert finding is None
    else:
        assert finding is not None
        assert (finding.code, finding.severity) == ("RT008", "warning")
        assert (
            "kept: 1 of 4 rows of onnx-inference@cpu and 0 of 3 of keras-inference have no partner" in finding.message
        )


def test_unsorted_nodes_are_sorted_and_said(tmp_path: Path) -> None:
    """V5: onnxruntime runs such a file; it is checked, and EX008 says what was done."""
    model = graph("g (float[N, 3] x) => (float[N, 3] y) { h = Relu(x)  y = Exp(h) }")
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    report = checked(tmp_path, model, x=RNG.normal(size=(3, 3)).astype(np.float32))
    assert report, str(report)
    assert "sorted" in codes(report)["EX008"].message


def test_a_circle_is_refused() -> None:
    """Nodes that read from each other have no order."""
    model = graph("g (float[3] x) => (float[3] y) { h = Add(x, y)  y = Relu(h) }")
    with pytest.raises(InputError, match="cycle"):
        sort_nodes(model.graph)


def test_strings_are_run(tmp_path: Path) -> None:
    """V7: a text input takes text, and numbers are refused in one sentence that names it."""
    model = graph("g (string[N] s) => (string[N] y) { y = Identity(s) }")
    assert checked(tmp_path, model, s=np.array(["a", "b", "long"]))
    with pytest.raises(InputError, match="the input s takes text: found float32; expected an array of strings"):
        checked(tmp_path, model, s=np.zeros(3, np.float32))


@pytest.mark.parametrize("scaled", [1, 255])
def test_a_uint8_input_takes_pixels(tmp_path: Path, scaled: int) -> None:
    """V8: whole numbers run, a value that uint8 cannot hold is refused, never wrapped around."""
    model = graph("g (uint8[N, 2] x) => (float[N, 2] y) { h = Cast<to = 1>(x)  y = Exp(h) }")
    x = np.float32([[0, 1.2], [0.6, 1]]) * scaled
    if scaled == 255:
        with pytest.raises(InputError, match="do not fit into uint8: found values from 0 to 306; expected 0 to 255"):
            checked(tmp_path, model, x=x)
    else:
        assert checked(tmp_path, model, x=x)


def test_a_uint8_input_is_fed_pixels_of_images(tmp_path: Path) -> None:
    """V8: images of neighbouring grey levels are told apart, also beside a file that says how the floats were scaled; another scaling is refused."""
    levels = (100, 101, 102)
    for level in levels:
        (tmp_path / "images" / str(level)).mkdir(parents=True)
        Image.fromarray(np.full((4, 4), level, np.uint8)).save(tmp_path / "images" / str(level) / "a.png")
    text = """g (uint8[N, 4, 4, 1] x) => (float[N, 3] y) {
        h = Cast<to = 1>(x)  m = ReduceMean<keepdims = 0>(h, axes)  column = Reshape(m, shape)
        off = Sub(column, levels)  off2 = Mul(off, off)  nearest = Neg(off2)  y = Softmax(nearest) }"""
    weights = {"axes": np.int64([1, 2, 3]), "shape": np.int64([-1, 1]), "levels": np.float32([levels])}
    model = tmp_path / "net.onnx"
    model.write_bytes(graph(text, weights).SerializeToString())
    report = check(model, tmp_path / "images", providers=["cpu"])
    assert report, str(report)
    assert {(side.correct, side.of) for side in report.sides} == {(3, 3)}
    sidecar.write(model, sidecar.Sidecar(preprocessing=Preprocessing((4, 4), 1, scaling=Scaling.UNIT)))
    assert {side.correct for side in check(model, tmp_path / "images", providers=["cpu"]).sides} == {3}
    with pytest.raises(UsageError, match="the input x takes uint8 pixels, which are not scaled: found --normalize u"):
        check(model, tmp_path / "images", providers=["cpu"], overrides=Overrides(scaling=Scaling.UNIT))


def test_parameters_that_follow_from_constants_are_folded(tmp_path: Path) -> None:
    """V9: Constant, ConstantOfShape, Identity and DequantizeLinear in front of BatchNormalization: all is diagnosed."""
    text = """g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {
        gamma = DequantizeLinear(q, step)  beta = Constant<value_floats = [0.0, 0.1]>()
        ones = ConstantOfShape<value = float[1] {1.0}>(two)  var = Identity(ones)  mean = Mul(var, nothing)
        [bn] y = BatchNormalization(x, gamma, beta, mean, var) }"""
    weights = {"q": np.int8([1, 2]), "step": np.float32(0.5), "two": np.int64([2]), "nothing": np.float32(0)}
    report = checked(tmp_path, graph(text, weights), x=images())
    assert report.model.layers == 1
    assert "EX008" not in codes(report)
    assert {side.id for side in report.sides} >= {"onnx-training@cpu", "onnx-recalibrated@cpu"}


def test_a_folded_parameter_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    """V4: quantisers leave the old initializer beside the one they read: names stay unique."""
    text = """g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {
        b = DequantizeLinear(q, step) [bn] y = BatchNormalization(x, gamma, b, mean, var) }"""
    weights = {**{k: v for k, v in STORED.items() if k != "beta"}, "bn/beta": np.int8([1, 2]), "step": np.float32(0.5)}
    model = graph(text.replace("q,", "q0,"), weights)
    model.graph.node[0].input[0] = "bn/beta"
    assert checked(tmp_path, model, x=images()).model.layers == 1


def test_computed_parameters_leave_out_the_statistics_only(tmp_path: Path) -> None:
    """V9: parameters that an input decides: parity and the batch are checked, and a note says what is left out."""
    text = """g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {
        m = ReduceMean<keepdims = 0>(x, axes) [bn] y = BatchNormalization(x, gamma, beta, m, var) }"""
    weights = {**{k: v for k, v in STORED.items() if k != "mean"}, "axes": np.int64([0, 2, 3])}
    report = checked(tmp_path, graph(text, weights), x=images())
    assert "bn" in codes(report)["EX008"].message
    assert codes(report)["BN006"].evidence["normalises_by_batch"]
    assert not any(side.mode == "training" for side in report.sides)


def test_constants_of_a_huge_size_are_left_alone() -> None:
    """A file cannot make bnexport fill memory."""
    model = graph(
        "g (float[1] x) => (float[1] y) { h = ConstantOfShape(s)  y = Identity(x) }", {"s": np.int64([1 << 40])}
    )
    assert Constants(model).value("h") is None


def test_an_unknown_rank_is_learnt_by_a_run(tmp_path: Path) -> None:
    """V11: the rank of what is normalised is known once the graph has run."""
    text = """g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {
        sides = Shape(x) kept = Compress(sides, all) h = Reshape(x, kept)
        [bn] y = BatchNormalization(h, gamma, beta, mean, var) }"""
    report = checked(tmp_path, graph(text, {**STORED, "all": np.ones(4, bool)}), x=images(4))
    assert "onnx-training@cpu" in {side.id for side in report.sides}


def test_a_scalar_waits_for_its_stage_as_a_scalar(tmp_path: Path) -> None:
    """V12: the place of the last row, which the graph computes before BatchNormalization and reads behind it, keeps its rank 0: statistics are examined."""
    text = """g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {
        sides = Shape(x)  rows = Gather(sides, second)  last = Sub(rows, one)
        [bn1] h = BatchNormalization(x, gamma, beta, mean, var)
        flat = Gather<axis = 2>(h, last)  row = Unsqueeze(flat, axis)  sum = Add(h, row)
        [bn2] y = BatchNormalization(sum, gamma2, beta, mean2, var2) }"""
    own = {f"{name}2": value * 2 for name, value in STORED.items() if name != "beta"}
    constants = {"second": np.int64(2), "one": np.int64(1), "axis": np.int64([2])}
    report = checked(tmp_path, graph(text, {**STORED, **own, **constants}), x=images(8))
    assert "onnx-recalibrated@cpu" in {side.id for side in report.sides}


def test_a_rank_0_input_stays_one() -> None:
    """A number is fed as a number, not as a row of one; in a bundle too."""
    text = "g (float x, int64 n) => (float[1] row, int64[1] column) { row = Unsqueeze(x, axis)  column = Unsqueeze(n, axis) }"
    session = ort_session.Session(graph(text, {"axis": np.int64([0])}).SerializeToString())
    rows = session.run({"x": np.array(1, np.float32), "n": np.array(2.0)}, ["row", "column"])
    assert [row.shape for row in rows.values()] == [(1,), (1,)]
    assert protobuf.array_from(protobuf.tensor_bytes(np.array(1, np.float32), "x"), "x.pb").shape == ()


def test_outputs_are_listed_in_the_order_of_the_graph(tmp_path: Path) -> None:
    """Not in that of a set, which is another one in every process."""
    names = ["fifth", "a", "zero", "b", "third", "c", "first"]
    nodes = "  ".join(f"{name} = Exp(x)" for name in names)
    model = graph(f"g (float[N, 3] x) => ({', '.join(f'float[N, 3] {name}' for name in names)}) {{ {nodes} }}")
    report = checked(tmp_path, model, x=np.float32([[1, 2, 3]]))
    assert [c.tensor for c in report.comparisons] == names


def test_a_position_outside_the_table_names_the_input(tmp_path: Path) -> None:
    """V12: the input and its range, not onnxruntime's sentence alone."""
    model = graph(
        "g (int64[N, 2] ids) => (float[N, 2, 3] y) { y = Gather(table, ids) }", {"table": np.ones((5, 3), "f")}
    )
    with pytest.raises(InputError, match=r"the input ids contains indices into a table of 5 rows.*expected 0 to 4"):
        checked(tmp_path, model, ids=np.int64([[0, 7]]))


def test_text_and_numbers_without_rows_are_compared(tmp_path: Path) -> None:
    """S15: an output of rank 0 and a tensor of strings end in a verdict."""
    model = graph(
        "g (float[N, 3] x) => (float m, string[N, 3] t) { m = ReduceMean<keepdims = 0>(x)  t = Cast<to = 8>(x) }"
    )
    report = checked(tmp_path, model, x=np.float32([[1, 2, 3], [4, 5, 6]]))
    assert report, str(report)
    assert {c.tensor for c in report.comparisons} == {"m", "t"}


def test_one_softmax_alone_is_a_net(tmp_path: Path) -> None:
    """S15: its logits are its input."""
    report = checked(tmp_path, graph("g (float[N, 3] x) => (float[N, 3] y) { y = Softmax(x) }"), x=np.eye(3, dtype="f"))
    assert report, str(report)
    assert {c.tensor for c in report.comparisons} == {"logits", "probabilities"}


def test_logits_behind_layout_are_laid_out(tmp_path: Path) -> None:
    """D3: Sigmoid, then Transpose: the logits are compared in the output's layout."""
    model = graph(
        "g (float[N, 2, 4, 4] x) => (float[N, 4, 4, 2] y) { h = Neg(x)  s = Sigmoid(h)  y = Transpose<perm = [0, 2, 3, 1]>(s) }"
    )
    [(name, kind)] = outputs.squashing_functions(model).values()
    assert kind == "sigmoid"
    x = images(2)
    [logits] = (
        ort_session.Session(tensors.with_outputs(model, [name]).SerializeToString()).run({"x": x}, [name]).values()
    )
    np.testing.assert_array_equal(logits, -x.transpose(0, 2, 3, 1))
    assert "logits" in {c.tensor for c in checked(tmp_path, model, x=x).comparisons}


def test_tiny_probabilities_are_measured_by_their_natural_size(tmp_path: Path) -> None:
    """D1, V10: sigmoid is exact to 1e-7 of 1; probabilities of 1e-5 are not held to 1e-7 of 1e-5."""
    model = graph("g (float[N, 3] x) => (float[N, 3] y) { y = Sigmoid(x) }")
    report = checked(tmp_path, model, x=np.full((2, 3), -11, np.float32))
    [probabilities] = [c for c in report.comparisons if c.tensor == "probabilities"][:1]
    assert probabilities.difference.scale == 1.0


def test_tiny_probabilities_are_no_faulty_optimisation(tmp_path: Path) -> None:
    """V10: a text detector that sees none: probabilities of 5e-5 are off by .002 of themselves, 1e-7 of 1, once BatchNormalization is fused."""
    text = """g (float[N, 3, 16, 16] x) => (float[N, 1, 16, 16] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w)  [bn] n = BatchNormalization(c, gamma, beta, mean, var)
        r = Relu(n)  d = Conv<pads = [1, 1, 1, 1]>(r, v, bias)  y = Sigmoid(d) }"""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (16, 3, 3, 3)).astype(np.float32),
        "v": rng.normal(0, 0.01, (1, 16, 3, 3)).astype(np.float32),
        "bias": np.float32([-10]),
        **dict(zip(BN, np.float32([[1] * 16, [0] * 16, [0] * 16, [2] * 16]), strict=True)),
    }
    report = checked(tmp_path, graph(text, weights), x=rng.normal(size=(32, 3, 16, 16)).astype(np.float32))
    assert report, str(report)
    assert "RT004" not in codes(report)
    pair = ("onnx-inference@cpu", "onnx-unoptimised@cpu", "probabilities")
    [optimised] = [c for c in report.comparisons if (c.actual, c.reference, c.tensor) == pair]
    assert optimised.difference.max_abs < 1e-6


@pytest.mark.parametrize("value", ["3", "null", '["y"]', '{"y": ["x"]}'])
def test_metadata_of_the_wrong_type_is_one_sentence(tmp_path: Path, value: str) -> None:
    """S16: bnexport.logits is a table of names, or is refused by name."""
    model = graph("g (float[N, 3] x) => (float[N, 3] y) { y = Softmax(x) }")
    model.metadata_props.add(key="bnexport.logits", value=value)
    with pytest.raises(InputError, match=r"bnexport\.logits of the ONNX file is invalid"):
        checked(tmp_path, model, x=np.eye(3, dtype="f"))


def test_a_wrong_description_of_a_tensor_does_no_harm() -> None:
    """S16: shape inference disagrees with value_info; onnxruntime runs it, and so does the check."""
    model = graph("g (float[N, 3] x) => (float[N, 3] y) { h = Relu(x)  y = Exp(h) }")
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 3, 7]))
    tensors.describe(model)
    assert {i.name: tensors.shape(i) for i in model.graph.value_info}["h"] in ((None, 3), (None, 3, 7))


def quantised_net(step: float) -> onnx.ModelProto:
    """A linear classifier whose scores are quantised with this step."""
    text = """g (float[N, 4] x) => (float[N, 3] y) {
        w = DequantizeLinear(q, wide)  h = MatMul(x, w)  z = QuantizeLinear(h, step, zero)  y = DequantizeLinear(z, step, zero) }"""
    kernel = np.random.default_rng(1).integers(-100, 100, (4, 3)).astype(np.int8)
    return graph(text, {"q": kernel, "wide": np.float32(0.01), "step": np.float32(step), "zero": np.int8(0)})


def test_a_quantised_file_alone_is_not_blamed_on_the_runtime(tmp_path: Path) -> None:
    """V3: QT001 says that it is quantised; RT004 is not raised."""
    model = quantised_net(0.05)
    assert quantisation(model) is not None
    report = checked(tmp_path, model, x=RNG.normal(size=(8, 4)).astype(np.float32))
    assert report, str(report)
    assert codes(report)["QT001"].severity == "info"
    assert "RT004" not in codes(report)


def test_few_images_say_little() -> None:
    """One answer of eight may be chance, eight of eight are not."""
    assert interval(1, 8)[0] < 0.1 < interval(4, 8)[0]


def test_memory_is_the_machines_problem() -> None:
    """R4: exit 3, not 2."""
    error = ort_session._refusal(RuntimeError("Failed to allocate memory for requested buffer of size 9"), "cpu")
    assert isinstance(error, MachineError)
    assert isinstance(ort_session._refusal(RuntimeError("Invalid rank"), "cpu"), InputError)

"""What a check tries beyond the data: other batch sizes and sizes, items of zeros and of NaN, the same input twice."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from typer.testing import CliRunner

from bnexport import check
from bnexport.checking.sweeping.inputs import other_sizes
from bnexport.cli import app
from bnexport.reporting.json import SCHEMA
from bnexport.results.sweep import SweepOutcome
from bnexport.results.verdict import CheckReport, Severity

RNG = np.random.default_rng(0)


def graph(text: str, **weights: Any) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def swept(folder: Path, model: onnx.ModelProto, deployed: onnx.ModelProto | None = None, **inputs: Any) -> CheckReport:
    """The report of a sweep over a file alone, or over a deployed file."""
    onnx.save(model, folder / "net.onnx")
    if deployed is not None:
        onnx.save(deployed, folder / "deployed.onnx")
    other = None if deployed is None else folder / "deployed.onnx"
    return check(folder / "net.onnx", inputs, deployed=other, providers=["cpu"], sweep=True)


def codes(report: CheckReport) -> dict[str, Any]:
    return {finding.code: finding for finding in report.findings}


def outcomes(report: CheckReport, kind: str) -> dict[str, str]:
    """The outcome of each case of a kind."""
    return {case.case: str(case.outcome) for case in report.sweep if case.group == kind}


CONVOLUTION = """g (float[N, 3, H, W] x) => (float[N, M] y) {
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)  r = Relu(c)
    p = GlobalAveragePool(r)  f = Flatten(p)  y = MatMul(f, k) }"""
KERNELS = {
    "w": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "k": RNG.normal(size=(4, 5)).astype(np.float32),
}
PICTURES = RNG.normal(size=(5, 3, 8, 10)).astype(np.float32)


def test_a_healthy_net_passes_everything(tmp_path: Path) -> None:
    """Open batch, height and width: each is tried, smaller and larger, alone and together."""
    report = swept(tmp_path, graph(CONVOLUTION, **KERNELS), graph(CONVOLUTION, **KERNELS), x=PICTURES)
    assert report, str(report)
    assert all(report.sweep)
    assert set(outcomes(report, "batch")) == {"batch of 1", "batch of 2", "batch of 7", "batch of 3 after one of 4"}
    assert {case.outcome for case in report.sweep if case.group in ("batch", "size", "zeros", "repeat")} == {"passed"}
    sizes = list(outcomes(report, "size"))
    assert {"H 8 -> 7", "H 8 -> 11", "W 10 -> 9", "H 8 -> 7, W 10 -> 9"} <= set(sizes), sizes
    assert not {"EX010", "RT013", "EX001", "BN006"} & codes(report).keys()


LINEAR = "g (float[N, 4, 3] x) => (float[M, L] y) { f = Flatten(x)  y = MatMul(f, k) }"
BATCH = "g (float[N, 4, 3] x) => (float[M, L] y) { [flat] f = Reshape(x, shape)  y = MatMul(f, k) }"
ROWS = RNG.normal(size=(8, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("count", [8, 1])
def test_a_batch_size_that_is_baked_in(count: int, tmp_path: Path) -> None:
    """EX010 names the Reshape whose constant has to follow the batch, also where it is 1."""
    kernel = RNG.normal(size=(12, 2)).astype(np.float32)
    report = swept(
        tmp_path, graph(LINEAR, k=kernel), graph(BATCH, k=kernel, shape=np.int64([count, -1])), x=ROWS[:count]
    )
    finding = codes(report)["EX010"]
    assert not report
    assert finding.layers == ("flat",), finding.message
    assert f"the batch size is {count}" in finding.message
    assert f"Reshape flat has {count} among its constants" in finding.message
    assert set(outcomes(report, "batch").values()) == ({"failed"} if count == 8 else {"failed", "passed"})


SEQUENCE = """g (float[N, L, 3] x) => (float[N, M, 6] y) {
    one = Constant<value_ints = [1]>()  shape = Shape(x)  length = Gather(shape, one)
    whole = Concat<axis = 0>(one, length, one)  wide = Expand(bias, whole)  s = Add(x, wide)  t = Tanh(s)
    y = Concat<axis = 2>(t, x) }"""
EXPAND = """g (float[N, L, 3] x) => (float[N, M, 6] y) {
    [wide] b = Expand(bias, shape)  s = Add(x, b)  t = Tanh(s)  y = Concat<axis = 2>(t, x) }"""
RESHAPE = """g (float[N, L, 3] x) => (float[N, M, 6] y) {
    s = Add(x, bias)  t = Tanh(s)  [flat] f = Reshape(t, rows)  [back] b = Reshape(f, shape)  y = Concat<axis = 2>(b, x) }"""
SLICE = """g (float[N, L, 3] x) => (float[N, M, 6] y) {
    s = Add(x, bias)  t = Tanh(s)  y = Concat<axis = 2>(t, x)  }"""
BIAS = np.float32([[[0.1, 0.2, 0.3]]])
TEXTS = RNG.normal(size=(4, 16, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "weights", "node"),
    [
        (EXPAND, {"shape": np.int64([1, 16, 3])}, "wide"),
        (RESHAPE, {"rows": np.int64([-1, 3]), "shape": np.int64([-1, 16, 3])}, "back"),
        (RESHAPE, {"rows": np.int64([-1, 48]), "shape": np.int64([0, -1, 3])}, "flat"),
    ],
    ids=["expand", "reshape", "product"],
)
def test_a_length_that_is_baked_in(text: str, weights: dict[str, Any], node: str, tmp_path: Path) -> None:
    """EX010 names the node on the open axis, and nothing else fails."""
    report = swept(tmp_path, graph(SEQUENCE, bias=BIAS), graph(text, bias=BIAS, **weights), x=TEXTS)
    assert not report
    finding = codes(report)["EX010"]
    assert finding.layers == (node,), finding.message
    assert "L is 16" in finding.message
    assert set(outcomes(report, "size").values()) == {"failed"}
    assert set(outcomes(report, "batch").values()) == {"passed"}


def test_a_weight_of_the_size_of_the_data(tmp_path: Path) -> None:
    """A table of positions cannot be replaced: the node in which onnxruntime stops is named."""
    table = (
        "g (float[N, L, 3] x) => (float[N, M, 6] y) { [sum] s = Add(x, bias)  t = Tanh(s)  y = Concat<axis = 2>(t, x) }"
    )
    rows = np.broadcast_to(BIAS, (1, 16, 3)).copy()
    report = swept(tmp_path, graph(SEQUENCE, bias=BIAS), graph(table, bias=rows), x=TEXTS)
    finding = codes(report)["EX010"]
    assert finding.layers == ("sum",), finding.message
    assert "stops in Add sum" in finding.message


def test_the_reference_decides_which_sizes_there_are(tmp_path: Path) -> None:
    """A size that the reference refuses is listed, and no finding."""
    model = graph(EXPAND, bias=BIAS, shape=np.int64([1, 16, 3]))
    report = swept(tmp_path, model, model, x=TEXTS)
    assert report, str(report)
    assert set(outcomes(report, "size").values()) == {"not taken by the reference"}
    assert "EX010" not in codes(report)


def test_an_axis_that_the_file_fixes_is_not_tried(tmp_path: Path) -> None:
    """It is EX004 already."""
    fixed = graph(SEQUENCE.replace("float[N, L, 3] x", "float[N, 16, 3] x"), bias=BIAS)
    report = swept(tmp_path, graph(SEQUENCE, bias=BIAS), fixed, x=TEXTS)
    assert report, str(report)
    assert outcomes(report, "size") == {"L": "not tried"}
    assert "fixed to 16" in codes(report)["EX004"].message


def test_random_numbers_are_named(tmp_path: Path) -> None:
    """RT013 without a sweep; the comparisons that it explains have no other finding."""
    model = graph("g (float[N, 3] x) => (float[N, 3] y) { [noise] r = RandomUniformLike(x)  y = Add(x, r) }")
    onnx.save(model, tmp_path / "net.onnx")
    report = check(tmp_path / "net.onnx", {"x": ROWS[:, 0]}, providers=["cpu"])
    assert not report
    findings = [finding for finding in report.findings if finding.severity == Severity.ERROR]
    assert [finding.code for finding in findings] == ["RT013"]
    assert findings[0].layers == ("RandomUniformLike noise",)
    assert "the reference varies, so no comparison with it is valid" in findings[0].message
    assert report.sweep == ()


RELU = "g (float[N, 4] x) => (float[N, 2] y) { r = Relu(x)  y = MatMul(r, k) }"
DEAF = """g (float[N, 4] x) => (float[N, 2] y) {
    b = IsNaN(x)  zero = Constant<value_float = 0.0>()  [clean] s = Where(b, zero, x)  r = Relu(s)  y = MatMul(r, k) }"""
MEAN = """g (float[N, 4] x) => (float[N, 2] y) {
    zero = Constant<value_ints = [0]>()  [average] m = ReduceMean(x, zero)  c = Mul(m, zeros)  s = Add(x, c)  y = MatMul(s, k) }"""
PLAIN = "g (float[N, 4] x) => (float[N, 2] y) { y = MatMul(x, k) }"


def test_nan_that_is_swallowed_is_a_warning(tmp_path: Path) -> None:
    """RT014 names the node; the check passes."""
    kernel = RNG.normal(size=(4, 2)).astype(np.float32)
    report = swept(tmp_path, graph(PLAIN, k=kernel), graph(DEAF.replace("Relu", "Identity"), k=kernel), x=ROWS[:, :, 0])
    assert report, str(report)
    finding = codes(report)["RT014"]
    assert finding.severity == Severity.WARNING
    assert finding.layers == ("Where clean",), finding.message
    assert outcomes(report, "nan") == {"a sample of NaN": "differs"}


def test_an_item_of_nan_that_spoils_others(tmp_path: Path) -> None:
    """RT014 names the mean over the batch, which numbers alone do not show where it is multiplied by 0."""
    kernel = RNG.normal(size=(4, 2)).astype(np.float32)
    mean = graph(MEAN, k=kernel, zeros=np.zeros(4, np.float32))
    report = swept(tmp_path, graph(PLAIN, k=kernel), mean, x=ROWS[:, :, 0])
    assert report, str(report)
    finding = codes(report)["RT014"]
    assert finding.layers == ("ReduceMean average",), finding.message
    assert "in the reference they stay the same" in finding.message
    alone = codes(swept(tmp_path, mean, x=ROWS[:, :, 0]))["RT014"]
    assert "the reference does the same" in alone.message


def test_a_norm_without_an_epsilon_fails_on_zeros(tmp_path: Path) -> None:
    """EX001: the data have no item of zeros."""
    norm = "g (float[N, 4] x) => (float[N, 4] y) {{ one = Constant<value_ints = [1]>()  n = ReduceL2(x, one)  {} }}"
    safe = norm.format("m = Max(n, least)  y = Div(x, m)")
    report = swept(tmp_path, graph(safe, least=np.float32(1e-9)), graph(norm.format("y = Div(x, n)")), x=ROWS[:, :, 0])
    assert not report
    assert "a sample of zeros" in codes(report)["EX001"].message
    assert outcomes(report, "zeros") == {"a sample of zeros": "failed"}


def test_outputs_whose_first_axis_is_longer_than_the_batch(tmp_path: Path) -> None:
    """A file that takes any batch size gives out all rows of such an output; one of two axes of one length alone is refused."""
    model = graph(
        "g (float[N, p, 3] x, float[N, q, 3] z) => (float[L, N, 3] y) { s = Add(x, z)  y = Transpose<perm = [1, 0, 2]>(s) }"
    )
    report = swept(tmp_path, model, model, x=TEXTS, z=TEXTS)
    assert {case for case, outcome in outcomes(report, "size").items() if outcome == "passed"} == {
        "p 16 -> 13, q 16 -> 13",
        "p 16 -> 21, q 16 -> 21",
    }
    assert not {"RT004", "EX001", "EX010"} & codes(report).keys()


def test_files_of_a_fixed_batch_size(tmp_path: Path) -> None:
    """Both are run on whole batches of it, and no other is tried."""
    model = graph("g (float[4, 4, L] x) => (float[4, 4, M] y) { y = Tanh(x) }")
    report = swept(tmp_path, model, model, x=ROWS[:4])
    assert report, str(report)
    assert set(outcomes(report, "batch").values()) == {"not tried"}
    assert set(outcomes(report, "size").values()) == {"passed"}


QUANTISED = """g (float[N, 4] x) => (float[N, 2] y) {
    [to] q = QuantizeLinear(x, scale, zero)  d = DequantizeLinear(q, scale, zero)  y = MatMul(d, k) }"""


def test_a_quantised_file_makes_numbers_of_nan(tmp_path: Path) -> None:
    """Every other size and an item of zeros pass within what its precision explains; RT014 names the node that quantises."""
    kernel = RNG.normal(size=(4, 2)).astype(np.float32)
    quantised = graph(QUANTISED, k=kernel, scale=np.float32(0.03), zero=np.int8(0))
    report = swept(tmp_path, graph(PLAIN, k=kernel), quantised, x=np.clip(ROWS[:, :, 0], -3, 3))
    assert report, str(report)
    assert codes(report)["RT014"].layers == ("QuantizeLinear to",)
    assert {*outcomes(report, "batch").values(), *outcomes(report, "zeros").values()} == {"passed"}


def test_recorded_outputs_show_batch_sizes(tmp_path: Path) -> None:
    """There is no model to ask about anything else."""
    kernel = RNG.normal(size=(12, 2)).astype(np.float32)
    onnx.save(graph(LINEAR.replace("N, 4, 3", "N, L, 3"), k=kernel), tmp_path / "net.onnx")
    right = ROWS.reshape(8, 12) @ kernel
    report = check(tmp_path / "net.onnx", {"x": ROWS}, reference={"y": right}, providers=["cpu"], sweep=True)
    assert report, str(report)
    assert set(outcomes(report, "batch").values()) == {"passed"}
    kinds = {case.group for case in report.sweep if case.outcome == SweepOutcome.NOT_TRIED}
    assert kinds == {"size", "zeros", "nan"}


def test_sizes_to_try_are_other_sizes_within_the_limit() -> None:
    """Each is positive, another one, in the right direction, and at most half as large again (or 1 more)."""
    for size in range(1, 300):
        for nth in (0, 1):
            assert all(size < other <= max(size + 1, 1.5 * size) for other in other_sizes(size, nth, larger=True))
            assert all(0 < other < size for other in other_sizes(size, nth, larger=False))
            assert other_sizes(size, nth, larger=True)
            assert size == 1 or other_sizes(size, nth, larger=False)


def test_reports_show_what_was_tried(tmp_path: Path) -> None:
    """The text has a table, JSON keeps to its schema, and Markdown and the page have the cases too."""
    onnx.save(graph(SEQUENCE, bias=BIAS), tmp_path / "net.onnx")
    onnx.save(graph(EXPAND, bias=BIAS, shape=np.int64([1, 16, 3])), tmp_path / "deployed.onnx")
    np.savez(tmp_path / "data.npz", x=TEXTS)
    command = ["check", "net.onnx", "--arrays", "data.npz", "--deployed", "deployed.onnx", "--sweep", "-q"]
    for suffix in ("json", "md", "html"):
        command += ["--report", f"report.{suffix}"]
    with contextlib.chdir(tmp_path):
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, result.output
    assert re.search(r"^L 16 -> 21 +onnx-inference@cpu +failed$", result.stdout, re.MULTILINE), result.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert {case["group"] for case in report["sweep"]} == {"repeat", "batch", "size", "zeros", "nan"}
    with contextlib.chdir(tmp_path):
        lines = [
            json.loads(line) for line in CliRunner().invoke(app, [*command, "--format", "ndjson"]).stdout.splitlines()
        ]
    assert [line["group"] for line in lines if line["kind"] == "case"] == [case["group"] for case in report["sweep"]]
    for suffix in ("md", "html"):
        assert "batch of 7" in (tmp_path / f"report.{suffix}").read_text()


def keras_net(kind: str) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    if kind == "pooling":
        x = inputs = keras.Input((None, None, 3), name="image")
        for filters in (4, 8):
            x = layers.Conv2D(filters, 3, strides=2, padding="same")(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        outputs = layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    else:
        inputs = keras.Input((None, 3), name="series")
        x = layers.LSTM(4, return_sequences=True)(inputs)
        outputs = layers.Dense(2)(layers.Conv1D(4, 3, padding="causal")(x))
    return keras.Model(inputs, outputs)


@pytest.mark.keras
@pytest.mark.parametrize(("kind", "shape"), [("pooling", (4, 16, 12, 3)), ("recurrent", (4, 8, 3))])
def test_healthy_keras_nets_pass_on_every_size(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Strided convolutions at odd sizes, and sequences of other lengths; both runs of the model are equal to the last bit."""
    keras_net(kind).save(tmp_path / "net.keras")
    data = RNG.normal(size=shape).astype(np.float32)
    report = check(tmp_path / "net.keras", data, providers=["cpu"], sweep=True)
    assert not {"EX001", "EX010", "RT013", "BN006"} & codes(report).keys(), str(report)
    decided = [case for case in report.sweep if case.group != "nan"]
    assert {case.outcome for case in decided} == {"passed"}, decided
    assert len(outcomes(report, "size")) == (6 if kind == "pooling" else 2)

"""Pairs of ONNX files whose inputs or outputs are exchanged, select nothing, or hide an error behind integers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnexport import check
from bnexport.errors import InputError
from bnexport.results.verdict import CheckReport

RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=(12, 4)).astype(np.float32) for _ in range(2))
WEIGHT = RNG.normal(size=(4, 3)).astype(np.float32)


def graph(text: str, **weights: object) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> g {text}')
    for name, value in ({"w": WEIGHT} | weights).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def compared(
    folder: Path, model: onnx.ModelProto, other: onnx.ModelProto, data: Mapping[str, np.ndarray], **options: float
) -> CheckReport:
    onnx.save(other, str(folder / "other.onnx"))
    return check(model, data, deployed=folder / "other.onnx", **options)  # type: ignore[arg-type]


TWO_IN = "(float[N,4] {0}, float[N,4] {1}) => (float[N,3] y) {{ d = Sub({2}, {3})  y = MatMul(d, w) }}"


@pytest.mark.parametrize("names", ["pq", "ab"])
def test_inputs_in_another_order_are_named(names: str, tmp_path: Path) -> None:
    """Other names are matched by position; where that is wrong the values show which input is which, and no layer is blamed."""
    first, second = names
    model = graph(TWO_IN.format(*"abab"))
    report = compared(tmp_path, model, graph(TWO_IN.format(first, second, second, first)), {"a": A, "b": B})
    [error] = [f for f in report.findings if f.severity == "error"]
    assert error.code == "EX004"
    assert f"its input {first} is what the model calls b" in error.message
    assert f"its input {second} is what the model calls a" in error.message
    assert compared(tmp_path, model, graph(TWO_IN.format(first, second, first, second)), {"a": A, "b": B})


TWO_OUT = "(float[N,4] x) => (float[N,3] {0}, float[N,3] {1}) {{ m = MatMul(x, w)  {2} = Relu(m)  {3} = Tanh(m) }}"


@pytest.mark.parametrize("names", ["pq", "uv"])
def test_outputs_in_another_order_are_named(names: str, tmp_path: Path) -> None:
    """The same for outputs, also where a file gives one the name of the other."""
    first, second = names
    model = graph(TWO_OUT.format(*"uvuv"))
    report = compared(tmp_path, model, graph(TWO_OUT.format(first, second, second, first)), {"x": A})
    [error] = [f for f in report.findings if f.severity == "error"]
    assert error.code == "EX004"
    assert f"its output {second} is what the model calls u" in error.message
    assert f"its output {first} is what the model calls v" in error.message


def test_an_error_beside_another_order_is_no_other_order(tmp_path: Path) -> None:
    """Outputs that are right in no order are an error of a node."""
    other = graph(TWO_OUT.format(*"uvuv"), w=WEIGHT * np.float32([1, 1, 1.1]))
    report = compared(tmp_path, graph(TWO_OUT.format(*"uvuv")), other, {"x": A})
    assert {f.code for f in report.findings} == {"EX001"}


SELECTING = "(float[N,4] x) => (int64[K,2] y) {{ {0} = MatMul(x, w)  {1} = Greater({0}, t)  i = NonZero({1})  y = Transpose<perm = [1, 0]>(i) }}"


def test_files_that_select_no_row_are_compared_by_what_they_select_from(tmp_path: Path) -> None:
    """A pass says what was compared, and so does a failure; where nothing can be, because the files select otherwise, that is no verdict."""
    model = graph(SELECTING.format("m", "g"), t=np.float32(1e9))
    report = compared(tmp_path, model, model, {"x": A})
    assert report, str(report)
    assert "m" in {c.tensor for c in report.comparisons}
    wrong = compared(tmp_path, model, graph(SELECTING.format("m", "g"), t=np.float32(1e9), w=WEIGHT * 2), {"x": A})
    assert not wrong
    assert (wrong.findings[0].code, wrong.findings[0].evidence["first_layer"]) == ("EX001", "m")
    assert "neither run selects a row, and rows are selected from this tensor" in wrong.findings[0].message
    twice = SELECTING.replace("i = NonZero", "j = NonZero({1})  i = NonZero").format("m", "g")
    with pytest.raises(InputError, match=r"nothing can be compared: neither .* selects a row"):
        compared(tmp_path, model, graph(twice, t=np.float32(1e9)), {"x": A})


@pytest.mark.parametrize("end", ["y = ArgMax<axis = 1, keepdims = 0>(m)", "y0 = Sigmoid(m)  y = Greater(y0, t)"])
def test_an_error_that_no_answer_shows_is_found(end: str, tmp_path: Path) -> None:
    """Answers alone agree, and the scores behind them do not."""
    kind = "int64[N]" if "ArgMax" in end else "bool[N,3]"
    text = f"(float[N,4] x) => ({kind} y) {{ m = MatMul(x, w)  {end} }}"
    model, other = graph(text, t=np.float32(0.5)), graph(text, t=np.float32(0.5), w=WEIGHT * np.float32(1.01))
    report = compared(tmp_path, model, other, {"x": A})
    assert not report
    [finding] = [f for f in report.findings if f.code == "EX001"]
    assert finding.layers == ("m",)
    assert compared(tmp_path, model, model, {"x": A})


STACK = """(float[N,4] x) => (float[N,16] y) {
    a = MatMul(x, w1)  b = Add(a, b1)  c = Relu(b)  d = MatMul(c, w2)  f = Add(d, b2)  e = Relu(f)  y = MatMul(e, w3) }"""


def stack_weights() -> dict[str, np.ndarray]:
    """Random weights of its three layers."""
    rng = np.random.default_rng(3)
    shapes = {"w1": (4, 16), "b1": (16,), "w2": (16, 16), "b2": (16,), "w3": (16, 16)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def stack(**changed: np.ndarray) -> onnx.ModelProto:
    """It, with other weights in place of some."""
    return graph(STACK, **stack_weights() | changed)


def equalised(how: str) -> dict[str, np.ndarray]:
    """The weights of the stack with the channels after the first layer scaled or in another order, and back in the second one."""
    rng = np.random.default_rng(4)
    held = stack_weights()
    if how == "ordered":
        order = rng.permutation(16)
        return {"w1": held["w1"][:, order], "b1": held["b1"][order], "w2": held["w2"][order]}
    scale = rng.uniform(0.25, 4, 16).astype(np.float32)
    return {"w1": held["w1"] * scale, "b1": held["b1"] * scale, "w2": held["w2"] / scale[:, np.newaxis]}


@pytest.mark.parametrize("how", ["scaled", "ordered"])
def test_what_the_next_layer_undoes_is_no_error(how: str, tmp_path: Path) -> None:
    """Cross-layer equalisation changes what is between two layers, and nothing else."""
    report = compared(tmp_path, stack(), stack(**equalised(how)), {"x": A})
    assert report, str(report)
    [finding] = [f for f in report.findings if f.code == "EX001"]
    assert finding.severity == "info"
    assert set(finding.evidence["layers_undone"]) == {"a", "b", "c"}


@pytest.mark.parametrize("how", ["scaled", "ordered"])
def test_an_error_beside_what_is_undone_is_found(how: str, tmp_path: Path) -> None:
    """Weights of a channel that the second ReLU cuts off: the outputs do not show them, and the equalisation does not explain them."""
    b2 = np.float32(-1e3) * (np.arange(16) == 5)
    wrong = stack_weights()["w3"]
    wrong[5] += 1
    sound = {**equalised(how), "b2": b2}
    assert compared(tmp_path, stack(b2=b2), stack(**sound), {"x": A})
    report = compared(tmp_path, stack(b2=b2), stack(**sound, w3=wrong), {"x": A})
    [finding] = [f for f in report.findings if f.code == "EX001"]
    assert (finding.severity, finding.evidence["weights_other"][0]["name"]) == ("error", "w3")


def test_what_nothing_undoes_stays_an_error(tmp_path: Path) -> None:
    """One layer with other weights before answers that are the same."""
    held = equalised("scaled")
    text = STACK.replace("(float[N,16] y)", "(int64[N] y)").replace(
        "y = MatMul(e, w3)", "s = MatMul(e, w3)  y = ArgMax<axis = 1, keepdims = 0>(s)"
    )
    model, whole = graph(text, **stack_weights()), graph(text, **stack_weights() | held)
    assert compared(tmp_path, model, whole, {"x": A})
    half = graph(text, **stack_weights() | {"w3": stack_weights()["w3"] * np.float32(1.5)})
    report = compared(tmp_path, model, half, {"x": A})
    assert [(f.code, f.layers) for f in report.findings if f.severity == "error"] == [("EX001", ("s",))]


SHARED = """(float[N,4] x) => (float[N,16] y) {{
    {0}  a = MatMul(x, w1)  b = MatMul(x, w2)  c = Mul(b, small)  y = Add(a, c) }}"""


@pytest.mark.parametrize("precision", ["int8", "float16"])
@pytest.mark.parametrize("wrong", [False, True])
def test_an_error_below_the_cost_of_the_precision_is_found(precision: str, tmp_path: Path, *, wrong: bool) -> None:
    """A kernel that contributes less than the precision costs: no output shows that it is another one."""
    held = {name: stack_weights()[name] for name in ("w1", "w3")}
    w1, w2 = held["w1"], held["w3"][:4]
    small = np.float32(1e-3 if precision == "int8" else 1e-5)
    model = graph(SHARED.format(""), w1=w1, w2=w2, small=small)
    stored = {"w1": w1, "w2": w2[::-1] if wrong else w2}
    if precision == "float16":
        ends = "(float16[N,4] x) => (float16[N,16] y)"
        text = SHARED.format("").replace("(float[N,4] x) => (float[N,16] y)", ends)
        other = graph(
            text,
            small=small.astype(np.float16),
            w=WEIGHT.astype(np.float16),
            **{k: v.astype(np.float16) for k, v in stored.items()},
        )
    else:
        steps = {name: np.float32(np.abs(value).max() / 127) for name, value in stored.items()}
        text = SHARED.format("v1 = DequantizeLinear(w1, s1)  v2 = DequantizeLinear(w2, s2)").replace("x, w", "x, v")
        quantised = {name: np.round(value / steps[name]).astype(np.int8) for name, value in stored.items()}
        other = graph(text, small=small, s1=steps["w1"], s2=steps["w2"], **quantised)
    report = compared(tmp_path, model, other, {"x": A})
    assert bool(report) is not wrong, str(report)
    assert [f.evidence.get("kernels_unlike", {}).keys() for f in report.findings if f.code == "EX001"] == (
        [{"w2"}] if wrong else []
    )


def test_what_no_tolerance_mends_names_none(tmp_path: Path) -> None:
    """Integers of another width, and an error beside zeros."""
    text = "(float[N,4] x) => ({1}[N] y) {{ m = MatMul(x, w)  i = ArgMax<axis = 1, keepdims = 0>(m)  y = Cast<to = {0}>(i) }}"
    report = compared(tmp_path, graph(text.format(7, "int64")), graph(text.format(6, "int32")), {"x": A})
    assert "the dtypes differ" in str(report)
    assert "tolerance" not in str(report)
    text = "(float[N,4] x) => (float[N,3] y) { m = MatMul(x, w)  a = Add(m, b)  y = Relu(a) }"
    zeros, others = graph(text, b=np.float32(-1e3)), graph(text, b=np.float32(1))
    report = compared(tmp_path, zeros, others, {"x": A})
    assert "set the tolerance with atol" in str(report)
    assert " inf" not in str(report)
    assert not compared(tmp_path, zeros, others, {"x": A}, atol=1e-3)
    largest = report.comparisons[0].difference.max_abs
    assert largest > 1
    assert compared(tmp_path, zeros, zeros, {"x": A}, atol=1e-3)


def test_the_noise_of_a_scalar_is_a_number(tmp_path: Path) -> None:
    """A weight of rank 0 keeps its rank where weights are moved."""
    text = "(float[N,4] x) => (float y) { m = MatMul(x, w)  q = ReduceMean<keepdims = 0>(m)  y = Mul(q, f) }"
    report = compared(tmp_path, graph(text, f=np.float32(1)), graph(text, f=np.float32(1.1)), {"x": A})
    assert not report
    assert "nan" not in str(report)


def test_a_float_file_beside_a_reference_in_16_bits_has_no_hidden_error(tmp_path: Path) -> None:
    """Its layers differ by the rounding of the reference; where more is wrong the outputs show it."""
    text = "(float16[N,4] x) => (float16[N,3] y) { h = Mul(x, c)  m = MatMul(h, w)  y = Relu(m) }"
    model = graph(text, w=WEIGHT.astype(np.float16), c=np.float16(1.1))
    x = {"x": A.astype(np.float16)}
    text = text.replace("float16", "float")
    assert compared(tmp_path, model, graph(text, c=np.float32(1.1)), x)
    assert not compared(tmp_path, model, graph(text, c=np.float32(1.15)), x)


CLASSIFIER = "(float[N,4] x) => (float[N,3] p) { z = MatMul(x, w)  p = Softmax(z) }"


def recorded(folder: Path, x: np.ndarray, **outputs: np.ndarray) -> CheckReport:
    np.savez(folder / "outputs.npz", **outputs)
    np.savez(folder / "data.npz", x=x)
    onnx.save(graph(CLASSIFIER), str(folder / "net.onnx"))
    return check(folder / "net.onnx", inputs=folder / "data.npz", reference=folder / "outputs.npz", batch_size=8)


def probabilities(x: np.ndarray) -> np.ndarray:
    z = np.exp(x @ WEIGHT)
    return np.asarray(z / z.sum(1, keepdims=True), np.float32)


@pytest.mark.parametrize("order", ["reversed", "shifted", "drawn"])
def test_recorded_rows_in_another_order_are_named(order: str, tmp_path: Path) -> None:
    """Also beyond the batch; the file is not blamed."""
    x = np.random.default_rng(4).normal(size=(40, 4)).astype(np.float32)
    orders = {
        "reversed": np.arange(40)[::-1],
        "shifted": np.roll(np.arange(40), 1),
        "drawn": np.random.default_rng(1).permutation(40),
    }
    p = probabilities(x)
    assert recorded(tmp_path, x, p=p)
    report = recorded(tmp_path, x, p=p[orders[order]])
    [error] = [f for f in report.findings if f.severity == "error"]
    assert error.code == "EX004"
    item, row = (
        int(word.strip(".")) - 1 for word in error.message.replace(" of the data", " ").split() if word.isdigit()
    )
    assert orders[order][row] == item
    wrong = p[orders[order]]
    wrong[:, 0] *= np.float32(1.01)
    assert {f.code for f in recorded(tmp_path, x, p=wrong).findings if f.severity == "error"} == {"EX001"}


def test_recorded_logits_and_fewer_digits_are_recognised(tmp_path: Path) -> None:
    """Logits in place of probabilities are an error by name; what was stored in 16 bits is compared by what they hold."""
    p = probabilities(A)
    [error] = [f for f in recorded(tmp_path, A, p=A @ WEIGHT).findings if f.severity == "error"]
    assert error.code == "EX004"
    assert "the array for p holds the logits" in error.message
    assert recorded(tmp_path, A, p=p.astype(np.float16))
    assert not recorded(tmp_path, A, p=(p * np.float32(1.002)).astype(np.float16))


CONVOLUTIONAL = """(float[N,3,H,W] x) => (float[N,4,1,1] y) {{
    c = Conv<auto_pad = {0}, strides = [2, 2]>(x, k)  r = Relu(c)  y = GlobalAveragePool(r) }}"""
KERNEL = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
PIXELS = RNG.normal(size=(6, 3, 16, 16)).astype(np.float32)


def test_an_error_in_the_first_node_is_not_one_of_the_last(tmp_path: Path) -> None:
    """All tensors differ then, and names say which is which where the same operators make them."""
    upper, lower = (graph(CONVOLUTIONAL.format(f'"SAME_{side}"'), k=KERNEL) for side in ("UPPER", "LOWER"))
    report = compared(tmp_path, upper, lower, {"x": PIXELS})
    [error] = [f for f in report.findings if f.severity == "error"]
    assert error.layers == ("c",)
    assert "the node that makes c (Conv): its input agrees" in error.message


def test_channels_that_come_first_are_tried_in_the_other_order(tmp_path: Path) -> None:
    """A kernel that was turned for BGR is no other checkpoint."""
    text = CONVOLUTIONAL.format('"SAME_UPPER"')
    report = compared(tmp_path, graph(text, k=KERNEL), graph(text, k=KERNEL[:, ::-1].copy()), {"x": PIXELS})
    [error] = [f for f in report.findings if f.severity == "error"]
    assert error.code == "EX004"
    assert "bgr" in error.message.lower()

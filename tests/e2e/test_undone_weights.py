"""Pairs of ONNX files whose weights are scaled or ordered otherwise between layers, and undone by the next ones, or not quite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnexport import check
from bnexport.results.verdict import CheckReport, Finding

RNG = np.random.default_rng(0)
DATA = {"x": RNG.normal(size=(12, 4)).astype(np.float32)}
STACK = """(float[N,4] x) => (float[N,16] y) {
    a = MatMul(x, w1)  b = Add(a, b1)  c = Relu(b)  d = MatMul(c, w2)  f = Add(d, b2)  e = Relu(f)  y = MatMul(e, w3) }"""
ANSWER = (
    STACK.replace("float[N,16] y", "int64[N] y")
    .replace("y = M", "s = M")
    .replace(" }", "  y = ArgMax<axis = 1, keepdims = 0>(s) }")
)
SHAPES = {"w1": (4, 16), "b1": (16,), "w2": (16, 16), "b2": (16,), "w3": (16, 16)}
WEIGHTS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
SCALE = RNG.uniform(0.25, 4, 16).astype(np.float32)
ORDER = RNG.permutation(16)
CHANGED: dict[str, dict[str, np.ndarray]] = {
    "scaled": {"w1": WEIGHTS["w1"] * SCALE, "b1": WEIGHTS["b1"] * SCALE, "w2": WEIGHTS["w2"] / SCALE[:, np.newaxis]},
    "ordered": {"w1": WEIGHTS["w1"][:, ORDER], "b1": WEIGHTS["b1"][ORDER], "w2": WEIGHTS["w2"][ORDER]},
}


def graph(text: str, weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    return model


def compared(
    folder: Path, text: str, weights: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> CheckReport:
    onnx.save(graph(text, {**weights, **other}), str(folder / "other.onnx"))
    return check(graph(text, weights), SERIES if text == ATTENTION else DATA, deployed=folder / "other.onnx")


def wrong(report: CheckReport) -> list[Finding]:
    assert not report
    return [f for f in report.findings if f.severity == "error"]


@pytest.mark.parametrize("how", CHANGED)
def test_a_channel_that_only_the_data_cut_off_is_compared(how: str, tmp_path: Path) -> None:
    """No value passes the first ReLU in one channel: it alone is not scaled back, which no layer shows."""
    channel = 5
    dead = WEIGHTS | {"b1": np.where(np.arange(16) == channel, np.float32(-100), WEIGHTS["b1"])}
    sound = dict(CHANGED[how])
    sound["b1"] = dead["b1"] * SCALE if how == "scaled" else dead["b1"][ORDER]
    assert compared(tmp_path, STACK, dead, sound)
    at = channel if how == "scaled" else int(np.flatnonzero(channel == ORDER)[0])
    bad = sound["w2"].copy()
    bad[at] *= 3
    [error] = wrong(compared(tmp_path, STACK, dead, {**sound, "w2": bad}))
    assert (error.code, error.layers) == ("EX001", ("d",))
    assert "not in general" in error.message


@pytest.mark.parametrize("how", CHANGED)
@pytest.mark.parametrize("text", [STACK, ANSWER], ids=["values", "answers"])
def test_a_wrong_kernel_behind_what_is_undone_is_named(how: str, text: str, tmp_path: Path) -> None:
    """And not the layer that is scaled or ordered otherwise, where the way of the error would begin."""
    other = {**CHANGED[how], "w3": WEIGHTS["w3"][::-1].copy()}
    [error] = wrong(compared(tmp_path, text, WEIGHTS, other))
    assert error.layers == ("y" if text == STACK else "s",)


ATTENTION = """(float[N,5,4] x) => (float[N,5,16] y) {
    q = MatMul(x, wq)  k = MatMul(x, wk)  t = Transpose<perm = [0, 2, 1]>(k)  s = MatMul(q, t)  p = Softmax(s)
    v = MatMul(x, wv)  y = MatMul(p, v) }"""
SERIES = {"x": RNG.normal(size=(12, 5, 4)).astype(np.float32)}
NORMALISED = """(float[N,4] x) => (float[N,16] y) {
    a = MatMul(x, wq)  n = BatchNormalization(a, g, b, m, v)  r = Relu(n)  y = MatMul(r, w2) }"""


def test_queries_and_keys_that_undo_each_other_are_no_error(tmp_path: Path) -> None:
    """Their scores agree, which have no weights of their own; one that nothing undoes is an error."""
    held = {name: WEIGHTS[like] for name, like in {"wq": "w1", "wk": "w1", "wv": "w1"}.items()}
    held["wk"] = held["wk"][:, ::-1].copy()
    report = compared(tmp_path, ATTENTION, held, {"wq": held["wq"] * SCALE, "wk": held["wk"] / SCALE})
    assert report, str(report)
    [finding] = [f for f in report.findings if f.code == "EX001"]
    assert set(finding.evidence["layers_undone"]) == {"q", "k", "t"}
    [error] = wrong(compared(tmp_path, ATTENTION, held, {"wq": held["wq"] * SCALE}))
    assert error.layers == ("q",)


def test_what_batch_normalization_undoes_is_no_error(tmp_path: Path) -> None:
    """Its means and variances are those of the scaled values."""
    held = {
        "wq": WEIGHTS["w1"],
        "w2": WEIGHTS["w2"],
        "g": SCALE,
        "b": WEIGHTS["b1"],
        "m": WEIGHTS["b2"],
        "v": SCALE + 1,
    }
    scale = SCALE[::-1]
    variance = (held["v"] + np.float32(1e-5)) * scale**2 - np.float32(1e-5)
    other = {"wq": held["wq"] * scale, "m": held["m"] * scale, "v": variance}
    report = compared(tmp_path, NORMALISED, held, other)
    assert report, str(report)
    assert wrong(compared(tmp_path, NORMALISED, held, {**other, "v": variance * np.float32(1.1)}))


def test_a_wrong_kernel_in_float16_is_named_and_not_its_rounding(tmp_path: Path) -> None:
    """Where answers differ and nothing measures what the precision costs."""
    text = ANSWER.replace("float[", "float16[")
    half = {name: value.astype(np.float16) for name, value in WEIGHTS.items()}
    model = graph(ANSWER, WEIGHTS)
    for name, of in (("w2", {"w2": half["w2"][:, ::-1].copy()}), ("", {})):
        onnx.save(graph(text, {**half, **of}), str(tmp_path / "half.onnx"))
        report = check(model, DATA, deployed=tmp_path / "half.onnx")
        assert bool(report) is not bool(name), str(report)
        assert [list(f.evidence.get("kernels_unlike", {})) for f in report.findings if f.code == "EX001"] == [
            [name]
        ] * bool(name)

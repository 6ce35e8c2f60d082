"""Known defects of runtimes, each on a graph of a few nodes: a check reports each that the installed version has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bnexport import check
from bnexport.errors import InputError
from bnexport.results.verdict import CheckReport
from bnexport.runtimes.isolated import IsolatedSession
from bnexport.runtimes.protocols import Artifact, Want, open_runtime

RNG = np.random.default_rng(0)
WRONG = 1e-4
"""An error, relative to the output, that no rounding explains in these graphs."""


@dataclass(frozen=True)
class Defect:
    """A graph, a batch, what is right, and which target is wrong with it."""

    target: str
    graph: str
    weights: dict[str, np.ndarray]
    x: np.ndarray
    want: Want

    @property
    def runtime(self) -> str:
        return self.target.partition(":")[0]

    def model(self) -> onnx.ModelProto:
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]>\n{self.graph}')
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.weights.items())
        return model


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def convolution(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """A convolution over 3x3 pixels with one pixel of zeros around, in float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w.astype(np.float64), optimize=True)


def installed(defect: Defect) -> str:
    """The version of the runtime."""
    about = open_runtime(defect.runtime).about()
    if about.unavailable:
        pytest.skip(about.unavailable)
    return about.version


def compute(defect: Defect) -> tuple[np.ndarray, str]:
    """What the runtime itself gives, and what it says it computes in."""
    session = IsolatedSession(defect.runtime, Artifact("onnx", defect.model().SerializeToString()), defect.want)
    with session:
        return session.run({"x": defect.x})["y"], session.computes


def off(actual: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(actual - right).max() / np.abs(right).max())


def gone(defect: Defect, version: str) -> None:
    """The runtime is right by now: so says the check, and so says this test."""
    assert check(defect.model(), defect.x, targets=[defect.target])
    pytest.skip(f"{defect.target} {version} computes this correctly: the defect is gone")


def codes(report: CheckReport, run: str) -> set[str]:
    return {finding.code for finding in report.findings if f"{run}:" in finding.message or f"{run} " in finding.message}


def test_opencv_reduces_rank_5_wrongly() -> None:
    """ReduceMean of a tensor of rank 5 over three axes: RT009, and the node is named, not the Relu before it."""
    graph = "g (float[N,4,5,6,3] x) => (float[N,3] y) { h = Relu(x) y = ReduceMean<keepdims=0>(h, axes) }"
    defect = Defect("opencv", graph, {"axes": np.array([1, 2, 3])}, normal(4, 4, 5, 6, 3) + 1, Want())
    version, right = installed(defect), np.maximum(defect.x, 0).astype(np.float64).mean(axis=(1, 2, 3))
    if off(compute(defect)[0], right) < WRONG:
        gone(defect, version)
    report = check(defect.model(), defect.x, targets=["opencv"])
    assert not report
    [finding] = [finding for finding in report.findings if finding.code == "RT009"]
    assert "the runtime is the cause" in finding.message
    assert finding.layers == ("y",)
    assert finding.evidence["first_layer"] == "y"
    assert "onnxruntime" in finding.message


def test_mnn_loses_digits_by_winograd() -> None:
    """A convolution of 64 channels: RT003 as deployed, RT009 where Winograd's algorithm was asked for, and switching it off is the action."""
    graph = "g (float[N,64,28,28] x) => (float[N,64,28,28] y) { y = Conv<pads=[1,1,1,1]>(x, w) }"
    weights = {"w": normal(64, 64, 3, 3) / 24}
    defect = Defect("mnn:WINOGRAD_MEMORY_LEVEL=3", graph, weights, normal(1, 64, 28, 28), Want(as_deployed=True))
    version, right = installed(defect), convolution(defect.x, weights["w"])
    if off(compute(defect)[0], right) < WRONG:
        gone(defect, version)
    report = check(defect.model(), defect.x, targets=["mnn", defect.target])
    assert "RT003" in codes(report, "onnx-inference@mnn-as-deployed")
    assert all(c for c in report.comparisons if c.actual == "onnx-inference@mnn")
    [finding] = [finding for finding in report.findings if finding.code == "RT009"]
    assert f"onnx-inference@{defect.target}" in finding.message
    assert "WINOGRAD_MEMORY_LEVEL=0" in finding.actions[0].reason
    [deployed] = [f for f in report.findings if f.code == "RT003" and f.evidence["side"].endswith("mnn-as-deployed")]
    assert "set_hint(3, 0)" in deployed.actions[0].reason


def test_openvino_computes_in_bfloat16_by_default() -> None:
    """Where the compiled model says bfloat16: RT017 and RT003 as deployed, while float32 passes."""
    graph = "g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }"
    defect = Defect("openvino", graph, {"w": normal(64, 64)}, normal(8, 64), Want(as_deployed=True))
    version = installed(defect)
    actual, computes = compute(defect)
    if computes != "bfloat16":
        assert off(actual, defect.x.astype(np.float64) @ defect.weights["w"]) < WRONG
        assert check(defect.model(), defect.x, targets=["openvino"])
        pytest.skip(f"openvino {version} computes in {computes} by default on this processor")
    report = check(defect.model(), defect.x, targets=["openvino"])
    assert codes(report, "onnx-inference@openvino-as-deployed") >= {"RT003", "RT017"}
    assert all(c for c in report.comparisons if c.actual == "onnx-inference@openvino")
    assert all(
        "INFERENCE_PRECISION_HINT" in finding.actions[0].reason
        for finding in report.findings
        if finding.code in ("RT003", "RT017")
    )


def test_tract_cannot_follow_an_open_batch() -> None:
    """Two convolutions: with the axes of the file left open RT016 in tract's words, and fixing them is the action; by default it runs."""
    graph = """g (float[N,8,9,9] x) => (float[N,8,5,5] y) { h = Conv(x, w) y = Conv<strides=[2,2]>(h, w) }"""
    defect = Defect(
        "tract:axes=open", graph, {"w": normal(8, 8, 1, 1)}, normal(2, 8, 9, 9), Want(options={"axes": "open"})
    )
    version = installed(defect)
    try:
        compute(defect)
    except InputError:
        pass
    else:
        gone(defect, version)
    report = check(defect.model(), defect.x, targets=["tract", defect.target])
    [finding] = [finding for finding in report.findings if finding.code.startswith("RT")]
    assert finding.code == "RT016"
    assert "Invalid axis" in finding.message
    assert "Stack backtrace" not in finding.message
    assert "axes=fixed" in finding.actions[0].reason
    assert all(c for c in report.comparisons if c.actual == "onnx-inference@tract")


def test_opencv_loses_digits_where_the_mean_is_large() -> None:
    """LayerNormalization of values around 100: RT009, and the node is named."""
    graph = "g (float[N,8,16] x) => (float[N,8,16] y) { y = LayerNormalization<axis=-1>(x, scale) }"
    defect = Defect("opencv", graph, {"scale": np.ones(16, np.float32)}, normal(4, 8, 16) + 100, Want())
    version, x = installed(defect), defect.x.astype(np.float64)
    right = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    if off(compute(defect)[0], right) < WRONG:
        gone(defect, version)
    [finding] = [f for f in check(defect.model(), defect.x, targets=["opencv"]).findings if f.code == "RT009"]
    assert finding.evidence["first_layer"] == "y"


def test_mnn_averages_the_first_item_only() -> None:
    """GlobalAveragePool of rank 5 is wrong for all items but the first, and crashes on another batch size: RT009 or RT015."""
    graph = "g (float[N,2,4,4,4] x) => (float[N,2,1,1,1] y) { h = Relu(x) y = GlobalAveragePool(h) }"
    defect = Defect("mnn", graph, {}, normal(3, 2, 4, 4, 4), Want())
    version, right = installed(defect), np.maximum(defect.x, 0).astype(np.float64).mean(axis=(2, 3, 4), keepdims=True)
    if off(compute(defect)[0], right) < WRONG:
        gone(defect, version)
    report = check(defect.model(), defect.x, targets=["mnn"])
    assert not report
    assert {finding.code for finding in report.findings} & {"RT009", "RT015"}

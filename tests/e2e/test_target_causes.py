"""Why a runtime is wrong with a file that onnxruntime runs correctly: a layer, nodes that are fused, or an option."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bnexport import check
from bnexport.errors import InputError
from bnexport.reporting.neighbourhood import neighbourhoods
from bnexport.results.verdict import CheckReport, Finding
from bnexport.runtimes.onnx_reference import OnnxReference, ReferenceSession
from bnexport.runtimes.protocols import RUNTIMES, About, Artifact, Switch, Want

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4)).astype(np.float32)


def net() -> onnx.ModelProto:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 4] x) => (float[N, 3] y) { h = Relu(x)  z = MatMul(h, w)  y = Tanh(z) }""")
    model.graph.initializer.append(numpy_helper.from_array(RNG.normal(size=(4, 3)).astype(np.float32), "w"))
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    return model


class Scaled(OnnxReference):
    """The reference evaluator with a matrix that is one percent too large, where `wrong` says so."""

    def wrong(self, model: onnx.ModelProto, want: Want) -> bool:  # noqa: ARG002
        return True

    def open(self, artifact: Artifact, want: Want) -> ReferenceSession:
        model = onnx.ModelProto.FromString(artifact.content)
        if self.wrong(model, want):
            [w] = model.graph.initializer
            w.CopyFrom(numpy_helper.from_array(np.float32(1.01) * numpy_helper.to_array(w), "w"))
        return super().open(dataclasses.replace(artifact, content=model.SerializeToString()), want)


class Fused(Scaled):
    """Wrong only where the matrix product and the Tanh are fused: where the tensor between them is no output."""

    def wrong(self, model: onnx.ModelProto, want: Want) -> bool:  # noqa: ARG002
        return "z" not in {output.name for output in model.graph.output}


class Switched(Scaled):
    """Wrong unless it is switched; the first switch does not help."""

    def about(self) -> About:
        switches = (Switch("fast", "0", "Net.fast(False)"), Switch("exact", "1", "Net.exact(True)"))
        return dataclasses.replace(super().about(), switches=switches)

    def wrong(self, model: onnx.ModelProto, want: Want) -> bool:  # noqa: ARG002
        return want.options.get("exact") != "1"


class Refusing(Switched):
    """It refuses the file unless it is switched."""

    def open(self, artifact: Artifact, want: Want) -> ReferenceSession:
        if self.wrong(onnx.ModelProto(), want):
            raise InputError("MatMul is not implemented")
        return super().open(artifact, want)


class Reduced(Scaled):
    """It rounds to fewer digits unless its option PRECISION asks for more."""

    def about(self) -> About:
        return dataclasses.replace(super().about(), reduced_by_default=True, setting="PRECISION=32")

    def wrong(self, model: onnx.ModelProto, want: Want) -> bool:  # noqa: ARG002
        return want.as_deployed and want.options.get("PRECISION") != "32"


def run(monkeypatch: pytest.MonkeyPatch, runtime: type[Scaled], target: str = "mine") -> CheckReport:
    own: Any = RUNTIMES.own
    monkeypatch.setitem(own, "mine", f"{__name__}:{runtime.__name__}")
    return check(net(), X, targets=[target])


def only(report: CheckReport, code: str) -> Finding:
    [finding] = [finding for finding in report.findings if finding.code == code]
    return finding


def test_the_first_node_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix product, not the Relu before it nor the Tanh after it; and it is drawn between them."""
    report = run(monkeypatch, Scaled)
    finding = only(report, "RT009")
    [drawing] = neighbourhoods(report).values()
    assert [(box.kind, str(box.state)) for box in drawing.boxes] == [
        ("Relu", "right"),
        ("MatMul", "differs"),
        ("Tanh", "differs"),
    ]
    assert finding.evidence["first_layer"] == "z"
    assert finding.layers == ("z",)
    assert "the error begins in the node that makes z (MatMul): its input agrees" in finding.message
    assert "right with" not in finding.message


def test_nodes_that_are_fused_wrongly_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs are right as soon as the tensor between the two nodes is an output: no layer is blamed."""
    finding = only(run(monkeypatch, Fused), "RT009")
    assert "it is right if the tensor z is an output of the graph" in finding.message
    assert finding.evidence["right_with_output"] == "z"
    assert all("node_z" in node or "node_y" in node for node in finding.layers)
    assert "first_layer" not in finding.evidence


def test_the_option_that_cures_it_is_the_action(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option is tried, and the one that helps is named first."""
    finding = only(run(monkeypatch, Switched), "RT009")
    assert finding.evidence["right_with"] == "exact=1"
    assert finding.actions[0].reason.startswith("deploy with exact=1 (Net.exact(True))")
    assert run(monkeypatch, Switched, "mine:exact=1")


def test_the_option_with_which_it_runs_is_the_action(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a file that is refused."""
    finding = only(run(monkeypatch, Refusing), "RT016")
    assert finding.evidence["runs_with"] == "exact=1"
    assert "exact=1" in finding.actions[0].reason


def test_a_target_that_asks_for_a_precision_is_run_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options strictly and as deployed, where RT003 names the setting; with the option of that setting once."""
    report = run(monkeypatch, Reduced)
    runs = {side.id for side in report.sides}
    assert runs >= {"onnx-inference@mine", "onnx-inference@mine-as-deployed"}
    assert "PRECISION=32" in only(report, "RT003").actions[0].reason
    report = run(monkeypatch, Reduced, "mine:PRECISION=16")
    assert {side.id for side in report.sides if "@mine" in side.id} == {"onnx-inference@mine:PRECISION=16-as-deployed"}

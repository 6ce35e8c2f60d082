"""What findings say and the fields of their evidence, which programs read: from numbers made here, held against what was reviewed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from syrupy.assertion import SnapshotAssertion

from bnexport.numerics.randomness import Shares
from bnexport.results.speed import Speed
from bnexport.results.verdict import Comparison, Difference, Finding
from bnexport.rules import modes, randomness, recorded, runtime, targets

RUN, TITLE = "onnx-inference@mnn", "MNN 3.1"
DIFFERENCE = Difference(4, 2.0, 0.02, 0.01, 0.01, 1.0, 40.0, 3, 0)
FAILED = Comparison("recorded-inference", "golden-inference", "y", DIFFERENCE, 0.001, None, False, "far off")
INPUTS = recorded.Inputs({"x": 0.25}, {"x": "uint8"})
FINDINGS: dict[str, Callable[[], Finding | None]] = {
    "provider": lambda: runtime.provider_not_running("cuda", "there is no driver"),
    "placement": lambda: runtime.placed_on_cpu(
        "onnx-inference@cuda", [("Conv", "a"), ("Conv", "b"), ("Gather", "c")], strict=False
    ),
    "strict placement": lambda: runtime.placed_on_cpu("onnx-inference@cuda", [("Conv", "a")], strict=True),
    "not finite as the inputs": lambda: runtime.not_finite({"onnx-inference@cpu": 2}, 4, inputs=(["a", "b"], 0)),
    "not finite": lambda: runtime.not_finite({"onnx-inference@cpu": 2, "keras-inference": 1}, 4),
    "ended": lambda: targets.runtime_ended(RUN, TITLE, "SIGSEGV", ""),
    "ended with a line": lambda: targets.runtime_ended(RUN, TITLE, "SIGABRT", "out of luck"),
    "program ended": lambda: targets.runtime_ended(RUN, "a program", "exit status 1", "one\ntwo", opaque="program"),
    "refused": lambda: targets.runtime_refuses(RUN, TITLE, "Conv is not implemented", ["Conv"], ["stem"]),
    "refused later": lambda: targets.runtime_refuses(RUN, TITLE, "too large", [], [], later=True, opaque="server"),
    "converter": lambda: targets.converter_refuses(RUN, "TFLite", "cannot convert", ["Atan"]),
    "other precision": lambda: targets.other_precision(
        RUN, TITLE, "bfloat16", as_deployed=False, setting="PRECISION=f32"
    ),
    "other precision as deployed": lambda: targets.other_precision(RUN, TITLE, "bfloat16", as_deployed=True),
    "slower": lambda: targets.slower(
        [Speed(RUN, 8, 1.0, 0.25), Speed(RUN, 1, 1.0, 0.5), Speed("a", 1, 1.0, None)], 2.0
    ),
    "random layers": lambda: randomness.random_layers(["drop"], Shares(0.3, 0.4, 0.05, 0.36, 8)),
    "by the batch": lambda: modes.batch_dependent(FAILED, by_batch=True),
    "mixes rows": lambda: modes.batch_dependent(FAILED, by_batch=False),
    "other inputs": lambda: recorded.prepared_differently("recorded", INPUTS, None, None, [FAILED], runtime_right=True),
    "other inputs that agree": lambda: recorded.prepared_differently(
        "recorded", INPUTS, None, None, [], runtime_right=None
    ),
    "other outputs": lambda: recorded.prepared_differently("recorded", None, None, None, [FAILED], runtime_right=False),
}


@pytest.mark.parametrize("case", FINDINGS)
def test_findings(case: str, snapshot: SnapshotAssertion) -> None:
    """Code, severity, sentence, evidence, layers and actions."""
    finding = FINDINGS[case]()
    assert finding is not None
    assert {
        "code": finding.code,
        "severity": str(finding.severity),
        "message": finding.message,
        "evidence": dict(finding.evidence),
        "layers": list(finding.layers),
        "actions": [action.reason for action in finding.actions],
    } == snapshot


@pytest.mark.parametrize(("most", "ratios"), [(None, [0.1]), (2.0, [0.5, None, 3.0]), (4.0, [0.25])])
def test_what_is_as_fast_as_allowed_is_no_finding(most: float | None, ratios: list[float | None]) -> None:
    """At the limit it is within it; without a limit, or without anything to compare with, nothing is too slow."""
    assert targets.slower([Speed("a", 1, 1.0, ratio) for ratio in ratios], most) is None


def test_nothing_to_say_is_no_finding() -> None:
    """No node on the CPU, no value that is not finite, no scatter of random layers."""
    assert runtime.placed_on_cpu("a", [], strict=True) is None
    assert runtime.not_finite({}, 4) is None
    assert randomness.random_layers(["drop"], None) is None

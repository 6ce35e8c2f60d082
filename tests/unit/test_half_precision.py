"""RT003 and EX009 of files in 16 bits, and the verdict on rounding, from numbers alone."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bnexport.numerics.compare import judge_rounding
from bnexport.results.rounding import EXPLAINED, LARGEST, Cost, Rounding
from bnexport.results.runs import Precision
from bnexport.results.verdict import Comparison, Difference, Finding, Severity
from bnexport.rules.half_precision import cost_of_half_precision, overflows
from bnexport.rules.measured import AnswerLimits, Right


def compared(
    agreement: float | None = 1.0, images: int = 200, nonfinite: int = 0, *, passed: bool = True
) -> Comparison:
    difference = Difference(images, 2.0, 0.02, 0.01, 0.01, 1.0, 40.0, 3, nonfinite)
    return Comparison("onnx", "keras", "logits", difference, 0.1, agreement, passed, "" if passed else "why", 0.0005)


def rounding(ratio: float = 1.0, largest: float = 1.0) -> Rounding:
    return Rounding(0.5, 2.0, 0.5 * ratio, 2.0 * largest, 8.0)


def cost(ratio: float = 1.0) -> Cost:
    return Cost({"logits": rounding(ratio)}, 8, 4)


def found(*comparisons: Comparison, explained: Cost | None = None, **more: Any) -> Finding | None:
    return cost_of_half_precision(comparisons, Precision.FLOAT16, explained, right=more.pop("right", None), **more)


def severity(*comparisons: Comparison, **more: Any) -> Severity:
    finding = found(*comparisons, **more)
    assert finding is not None
    return finding.severity


def test_the_numbers_are_in_the_evidence() -> None:
    """The deciding tensor's error, in noise floors too, and how many predictions are others."""
    finding = found(compared(0.99), right=Right(100, 90, 91, 1, 2))
    assert finding is not None
    expected = {
        "side": "onnx", "tensor": "logits", "max_rel": 0.01, "noise_floors": pytest.approx(20), "snr_db": 40.0,
        "precision": "float16", "images_differing": 2, "reduced_correct": 91, "reference_correct": 90, "labelled": 100,
    }  # fmt: skip
    assert {key: finding.evidence[key] for key in expected} == expected
    assert "the error that the precision explains was not measured" in finding.message
    assert finding.message.startswith("the file computes in float16: ")
    stored = found(compared(), computes=False)
    assert stored is not None
    assert stored.message.startswith("the file stores its weights in float16: ")


def test_fewer_than_99_percent_of_the_predictions_is_a_warning() -> None:
    """And 99 % exactly is not; each warning has an action."""
    assert severity(compared(0.99)) == Severity.INFO
    assert severity(compared(0.985)) == Severity.WARNING
    assert severity(compared(None)) == Severity.INFO
    for agreement, actions in ((0.99, 0), (0.985, 1)):
        finding = found(compared(agreement))
        assert finding is not None
        assert len(finding.actions) == actions


def test_fewer_right_or_a_limit_exceeded_is_an_error() -> None:
    """More lost than chance explains; as many gained as lost is not."""
    assert severity(compared(), right=Right(100, 90, 80, 15, 5)) == Severity.ERROR
    assert severity(compared(), right=Right(100, 80, 90, 5, 15)) == Severity.INFO
    assert severity(compared(), right=Right(100, 85, 85, 10, 10)) == Severity.INFO
    assert severity(compared(0.99), limits=AnswerLimits(min_agreement=0.99)) == Severity.INFO
    assert severity(compared(0.99), limits=AnswerLimits(min_agreement=0.995)) == Severity.ERROR


def test_what_the_precision_does_not_explain_has_no_such_finding() -> None:
    """Nothing comparable, a value that is not finite, an error beyond rounding, or, where rounding was not measured, a failure."""
    assert found() is None
    assert found(compared(images=0)) is None
    assert found(compared(), compared(images=0)) is None
    assert found(compared(), compared(nonfinite=1)) is None
    assert found(compared(passed=False)) is None
    assert found(compared(passed=False), explained=cost()) is not None
    assert found(compared(), explained=cost(ratio=EXPLAINED * 1.01)) is None


def test_tensors_beyond_float16_are_listed() -> None:
    """The first is named with its node; an error where the outputs show it, a warning otherwise; nothing where there are none."""
    tensors = [("a", ("conv",), 7e4), ("b", ("conv", "add"), 9e9), ("c", (), 1e5)]
    assert overflows([], 65504.0, shows=True) is None
    for shows, expected in ((True, Severity.ERROR), (False, Severity.WARNING)):
        finding = overflows(tensors, 65504.0, shows=shows)
        assert finding is not None
        assert finding.severity == expected
        assert "in 3 tensors: the first is a (node conv), which reaches 7e+04" in finding.message
        assert ("this run does not show it" in finding.message) is not shows
    assert finding.evidence["node_block_list"] == ["conv", "add"]
    assert finding.evidence["tensors"][1] == {"tensor": "b", "nodes": ["conv", "add"], "largest": 9e9}
    assert "node_block_list=['conv', 'add']" in str(finding.actions[0].reason)
    nameless = overflows(tensors[2:], 65504.0, shows=True)
    assert nameless is not None
    assert "the first is c, which reaches" in nameless.message


@pytest.mark.parametrize(
    ("ratio", "largest", "passed"),
    [(1, 1, True), (EXPLAINED, LARGEST, True), (EXPLAINED * 1.01, 1, False), (1, LARGEST * 1.01, False)],
)
def test_an_error_is_judged_by_what_rounding_explains(ratio: float, largest: float, passed: bool) -> None:
    """As rms and at its largest; at the limits it passes. What failed before fails with the two multiples as the reason."""
    judged = judge_rounding(compared(), rounding(ratio, largest))
    assert judged.passed is passed
    assert (judged.expected_rms, judged.error_ratio) == (0.5, ratio)
    assert judged.reason == (
        ""
        if passed
        else f"the error is {ratio:.2g} times the one that its precision explains as rms, {largest:.2g} times the largest one"
    )
    failed = judge_rounding(compared(passed=False), rounding(ratio, largest))
    assert not failed.passed
    assert "times the one that its precision explains" in failed.reason
    broken = judge_rounding(compared(passed=False, nonfinite=2), rounding(math.nan, math.nan))
    assert (broken.passed, broken.reason, broken.error_ratio) == (False, "why", math.inf)

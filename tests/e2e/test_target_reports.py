"""What reports say of several runtimes: each against each output, and how fast each is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from bnexport import check
from bnexport.cli import app
from bnexport.errors import UsageError
from bnexport.reporting import html, json as to_json, markdown, ndjson
from bnexport.reporting.matrix import State, matrix
from bnexport.rules import targets


def test_each_run_has_a_speed_at_each_size(models: Path) -> None:
    """Runs of the file in inference mode, and a ratio to onnxruntime on the CPU, which is 1 for itself; every report has them."""
    report = check(models / "tiny_residual.onnx", models / "three", targets=["onnx-reference"], speed=(1, 5))
    assert [(s.side, s.batch) for s in report.speed] == [
        (side, batch) for batch in (1, 5) for side in ("onnx-inference@cpu", "onnx-inference@onnx-reference")
    ]
    ours, other = report.speed[:2]
    assert ours.ratio == 1
    assert other.ratio == pytest.approx(ours.seconds / other.seconds)
    assert ours.per_second == pytest.approx(1 / ours.seconds)
    assert other.ratio < 1  # NumPy in float64
    assert "RT020" not in {finding.code for finding in report.findings}
    values = json.loads(to_json.dumps(to_json.check(report)))
    jsonschema.validate(values, json.loads(to_json.SCHEMA.read_text()))
    assert values["speed"][1]["ratio"] == other.ratio
    assert "| speed of |" in markdown.check(report)
    assert "<h2>Speed</h2>" in html.check(report, [None] * 3)
    assert sum('"speed"' in line for line in ndjson.check(report)) >= 4


def test_a_limit_fails_what_is_slower(models: Path) -> None:
    """RT020 names the run and how much slower it is, at batch size 1 where no size is given."""
    report = check(models / "tiny_residual.onnx", models / "three", targets=["onnx-reference"], max_slowdown=1.01)
    [finding] = [f for f in report.findings if f.code == "RT020"]
    assert not report
    assert finding.evidence["runs"][0]["side"] == "onnx-inference@onnx-reference"
    assert "at batch size 1" in finding.message


@pytest.mark.parametrize(
    "options", [["--speed", "0"], ["--speed", "1,x"], ["--max-slowdown", "0"], ["--max-slowdown", "nan"]]
)
def test_what_it_cannot_be(options: list[str], models: Path) -> None:
    """Exit code 2 and one sentence."""
    result = CliRunner().invoke(app, ["check", str(models / "tiny_residual.onnx"), str(models / "three"), *options])
    assert isinstance(result.exception, UsageError) or result.exit_code == 2


def test_every_run_is_shown_with_every_output(models: Path) -> None:
    """Three runs and more: a cell for each output, with the error; a run that ended, or was refused, says so."""
    report = check(models / "tiny_residual.onnx", models / "three", targets=["onnx-reference"])
    assert matrix(report) is None
    ended = targets.runtime_ended("onnx-inference@slow", "slow 1.0", "SIGSEGV", "")
    wrong = [replace(c, passed=False) for c in report.comparisons if c.tensor == "logits"]
    right = [c for c in report.comparisons if c.tensor != "logits"]
    failed = replace(report, findings=(ended, *report.findings), comparisons=(*wrong, *right))
    shown = matrix(failed)
    assert shown is not None
    assert shown.tensors == ("logits", "probabilities")
    assert list(shown.rows) == ["onnx-inference@cpu", "onnx-inference@onnx-reference", "onnx-inference@slow"]
    assert [cell.state for cell in shown.rows["onnx-inference@cpu"]] == [State.DIFFERS, State.RIGHT]
    assert {cell.text for cell in shown.rows["onnx-inference@slow"]} == {"ended"}
    assert "| onnx-inference\\@slow | ❌ ended | ❌ ended |" in markdown.check(failed)
    assert "<h2>Runs and outputs</h2>" in html.check(failed, [None] * 3)


def test_what_is_not_judged_agrees_with_nothing(models: Path) -> None:
    """A run that nothing fails is never called right; one of reduced precision is called by it, whatever its error, until that is unexplained."""
    report = check(models / "tiny_residual.onnx", models / "three", targets=["onnx-reference"])
    run = "onnx-inference@onnx-reference"

    def states(precision: str, **changes: object) -> set[tuple[State, str]]:
        compared = [replace(c, **changes) if c.actual == run else c for c in report.comparisons]  # type: ignore[arg-type]
        sides = [replace(side, precision=precision) if side.id == run else side for side in report.sides]
        shown = matrix(replace(report, comparisons=tuple(compared), sides=tuple(sides)), fewest=1)
        assert shown is not None
        return {(cell.state, cell.word) for cell in shown.rows[run]}

    assert states("float32") == {(State.RIGHT, "agrees")}
    assert states("float32", tolerance=float("inf")) == {(State.REDUCED, "not judged")}
    assert states("bfloat16", tolerance=float("inf")) == {(State.REDUCED, "bfloat16")}
    assert states("int8-qdq", expected_rms=0.1, error_ratio=1.5) == {(State.REDUCED, "int8-qdq")}
    assert states("int8-qdq", expected_rms=0.1, error_ratio=9.0) == {(State.BEYOND, "int8-qdq")}
    assert states("int8-qdq", expected_rms=0.1, error_ratio=9.0, passed=False) == {(State.DIFFERS, "differs")}

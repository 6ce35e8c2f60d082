"""What MLflow's own client finds in the store after a check and after a batch."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from bnexport.reporting.tracking import _metrics
from tests.e2e.test_batch import PLAN, small

mlflow = pytest.importorskip("mlflow")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own


def bnexport(place: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bnexport", *map(str, arguments)], cwd=place, capture_output=True, text=True, check=False
    )


def runs(place: Path, experiment: str = "bnexport") -> list[Any]:
    """The runs in a store, the first one first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = mlflow.tracking.MlflowClient(f"sqlite:///{place}/mlflow.db")
        found = client.get_experiment_by_name(experiment)
        return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))


def test_a_check_is_a_run_with_its_numbers_and_its_page(models: Path, tmp_path: Path) -> None:
    """The metrics are those of the JSON report, findings are tags, the page is an artifact, and stdout is the report alone."""
    done = bnexport(
        tmp_path, "check", models / "tiny_residual.onnx", models / "three", "--format", "json", "-q", "--mlflow",
        "--mlflow-experiment", "nightly",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    [run] = runs(tmp_path, "nightly")
    assert run.info.run_id in done.stderr
    assert run.info.status == "FINISHED"
    assert run.data.metrics["passed"] == 0
    assert run.data.metrics["top1/onnx-inference-cpu"] == pytest.approx(1 / 3)
    assert run.data.metrics["top1/onnx-training-cpu"] == 1
    assert len(run.data.metrics) == len(dict(_metrics(report)))
    assert run.data.params["sha256"] == report["model"]["sha256"]
    for finding in report["findings"]:
        assert finding["message"] in run.data.tags[f"bnexport.finding.{finding['code']}"]
    kept = Path(run.info.artifact_uri)
    assert json.loads((kept / "report.json").read_text()) == report
    assert (kept / "report.html").read_text().startswith("<!doctype html>")


def test_a_batch_is_a_run_with_a_run_for_each_check(models: Path, tmp_path: Path) -> None:
    """Each check that was run now is below the batch's run; one without a verdict is a failed run that says why; a batch with nothing to do logs its counts only."""
    small(models, tmp_path / "models", 1)
    (tmp_path / "models/bad.onnx").write_text("no model")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/a").symlink_to(models / "three")
    (tmp_path / "plan.toml").write_text(PLAN)
    assert bnexport(tmp_path, "batch", "plan.toml", "-q", "--mlflow").returncode == 4
    whole, *each = runs(tmp_path)
    assert whole.data.metrics == {"checks/fail": 1, "checks/error": 1}
    assert (Path(whole.info.artifact_uri) / "summary.html").exists()
    assert {run.data.tags["mlflow.parentRunId"] for run in each} == {whole.info.run_id}
    by_status = {run.info.status: run for run in each}
    assert by_status["FINISHED"].data.metrics["images"] == 3
    assert "is not a valid ONNX model" in by_status["FAILED"].data.tags["bnexport.error"]


def test_a_store_that_does_not_answer_is_said_before_anything_runs(models: Path, tmp_path: Path) -> None:
    """Exit code 3 and one sentence; a store without --mlflow is a mistake in the command."""
    command = ("check", models / "tiny_residual.onnx", models / "three", "-q", "--mlflow-uri", "postgres://nobody")
    done = bnexport(tmp_path, *command, "--mlflow")
    assert done.returncode == 3
    assert "cannot write to" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout
    assert bnexport(tmp_path, *command).returncode == 2

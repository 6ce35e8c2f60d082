"""onnxruntime's other execution providers: what runs here runs through the same code, and what does not says what brings it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnexport import check
from bnexport.errors import MachineError, UsageError
from bnexport.runtimes.ort_providers import PROVIDERS, OrtProviders


def test_a_provider_by_onnxruntimes_own_name(models: Path) -> None:
    """The CPU's, which is in every onnxruntime, in a process of its own: its row is there and right, with the speed inside."""
    target = "onnxruntime:CPUExecutionProvider"
    report = check(models / "tiny_residual.onnx", models / "three", targets=["onnxruntime:cpu", target], speed=(1,))
    mine = [c for c in report.comparisons if c.actual == f"onnx-inference@{target}"]
    assert mine
    assert all(mine)
    assert f"onnx-inference@{target}" in {speed.side for speed in report.speed}


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_does_not_run_here_says_what_brings_it(name: str, models: Path) -> None:
    """Exit code 3 and one sentence, before anything is opened."""
    about = OrtProviders().about_target(name, {})
    if not about.unavailable:
        pytest.skip(f"{name} may run here")
    with pytest.raises(MachineError) as raised:
        check(models / "tiny_residual.onnx", models / "three", targets=[f"onnxruntime:{name}"])
    assert f"onnxruntime:{name} does not run on this machine" in str(raised.value)
    assert PROVIDERS[name].brought_by in str(raised.value)


def test_a_provider_that_there_is_not(models: Path) -> None:
    """The names are listed."""
    with pytest.raises(UsageError, match="cpu or cuda or tensorrt"):
        check(models / "tiny_residual.onnx", models / "three", targets=["onnxruntime:quantum"])
    with pytest.raises(UsageError, match="takes no options"):
        check(models / "tiny_residual.onnx", models / "three", targets=["onnxruntime:cpu:threads=1"])
    with pytest.raises(MachineError, match="has no NoSuchExecutionProvider"):
        check(models / "tiny_residual.onnx", models / "three", targets=["onnxruntime:NoSuchExecutionProvider"])

"""Another backend of Keras as a target: `--target keras:jax`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.checking.check import check
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.frameworks.keras import installed as keras_installed
from bnexport.frameworks.keras.elsewhere import KerasElsewhere
from bnexport.frameworks.keras.reference import Keras, KerasModel
from bnexport.frameworks.protocols import Want
from bnexport.results.verdict import CheckReport, Severity

TARGETS = ["onnxruntime:cpu", "keras:jax"]
TINY = "tiny_residual.keras"


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    """Arrays for the small model."""
    return {"image": np.random.default_rng(0).uniform(0, 1, (8, 32, 32, 1)).astype(np.float32)}


def compared(report: CheckReport) -> dict[str, list[bool]]:
    """Whether each comparison of a run on another backend with the reference passed, by the id of the run."""
    passed: dict[str, list[bool]] = {}
    for comparison in report.comparisons:
        if comparison.actual.endswith("@jax") and comparison.reference in ("keras-inference", "keras-training"):
            passed.setdefault(comparison.actual, []).append(bool(comparison))
    return passed


@pytest.mark.slow
def test_jax_is_compared_in_both_modes(models: Path, data: dict[str, np.ndarray]) -> None:
    """A sound model passes on JAX in a process of its own, in both modes, within the floors; the report names both backends."""
    report = check(models / TINY, data, targets=TARGETS)
    passed = compared(report)
    assert set(passed) == {"keras-inference@jax", "keras-training@jax"}
    assert all(all(each) for each in passed.values())
    floors = [
        c.noise_floors
        for c in report.comparisons
        if c.actual.endswith("@jax") and c.reference in ("keras-inference", "keras-training")
    ]
    assert all(floor is not None and 0 <= floor <= 8 for floor in floors)
    sides = {side.id: side for side in report.sides}
    assert sides["keras-training@jax"].provider == "jax"
    assert sides["keras-training"].provider == "tensorflow"
    assert {"jax", "tensorflow", "keras"} <= report.environment.keys()
    assert not {finding.code for finding in report.findings} & {"RT010", "RT011"}


class Skewed:
    """The small model, whose outputs are off by a share of their scale in some types."""

    def __init__(self, inner: KerasModel, share: float, dtypes: tuple[str, ...]) -> None:
        self._inner, self._share, self._dtypes = inner, share, dtypes
        self.info, self.signature, self.modes = inner.info, inner.signature, inner.modes

    def forward(
        self, x: Mapping[str, Any], *, mode: Any, dtype: str = "float32", seed: int | None = None
    ) -> dict[str, Any]:
        outputs = self._inner.forward(x, mode=mode, dtype=dtype, seed=seed)
        if mode == "inference" or dtype not in self._dtypes:
            return outputs
        return {name: value + self._share * np.abs(value).max() for name, value in outputs.items()}


@pytest.mark.parametrize(
    ("dtypes", "code", "severity"),
    [(("float32",), "RT011", Severity.INFO), (("float32", "float64"), "RT010", Severity.ERROR)],
)
def test_rounding_there_is_told_from_other_results(
    dtypes: tuple[str, ...],
    code: str,
    severity: Severity,
    models: Path,
    data: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a backend's own float64 pass does not share is its rounding, a note; what it shares is another result, an error."""

    def load(_: KerasElsewhere, source: Path, want: Want) -> Skewed:
        return Skewed(Keras().load(source, want), 1e-3, dtypes)

    monkeypatch.setattr(KerasElsewhere, "load", load)
    report = check(models / TINY, data, targets=TARGETS)
    passed = compared(report)
    assert all(passed["keras-inference@jax"])
    assert all(passed["keras-training@jax"]) == (code == "RT011")
    [finding] = [finding for finding in report.findings if finding.code in ("RT010", "RT011")]
    assert (finding.code, finding.severity) == (code, severity)
    assert "keras-training@jax" in finding.message
    assert not [f for f in report.findings if f.code in ("EX001", "EX007")]


@pytest.mark.parametrize("target", ["keras", "keras:numpy", "keras:tensorflow"])
def test_targets_that_there_are_not(target: str, models: Path, data: dict[str, np.ndarray]) -> None:
    """A backend has to be named, one that bnexport knows, and another than the reference's."""
    with pytest.raises(UsageError, match="keras:jax"):
        check(models / TINY, data, targets=[target])


def test_an_onnx_file_has_no_backend(models: Path, data: dict[str, np.ndarray]) -> None:
    """Only Keras files run on backends of Keras."""
    with pytest.raises(UsageError, match="requires a Keras file"):
        check(models / "tiny_residual.onnx", data, targets=["keras:jax"])


def test_a_backend_that_is_missing(models: Path, data: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, with the command that installs it."""
    monkeypatch.setattr(keras_installed, "find_spec", lambda name: None if name == "torch" else sys)
    with pytest.raises(MachineError, match=r"PyTorch and Keras.*pip install 'bnexport\[keras-torch\]'") as caught:
        check(models / TINY, data, targets=["keras:torch"])
    assert caught.value.exit_code == 3


def test_a_file_that_the_child_cannot_read(tmp_path: Path) -> None:
    """What the other process says about a file is an input error here."""
    (tmp_path / "net.keras").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"Keras on JAX cannot read .*net\.keras"):
        KerasElsewhere("jax").load(tmp_path / "net.keras", Want())

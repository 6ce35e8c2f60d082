"""Each cause produced for real, by training a small net on scikit-learn's digits, and found from the file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport import check
from bnexport.numerics.verdict import CheckReport, Finding, Severity
from tests.e2e import nets

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of 8x8 pixels, grey levels 0 to 16, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.reshape(-1, 8, 8, 1).astype(np.float32), y


def trained(digits: tuple[np.ndarray, np.ndarray], updates: int) -> Any:
    """A net of three BatchNormalization layers after so many updates of 64 digits each."""
    keras = nets._keras()
    k = keras.layers
    x = h = keras.Input((8, 8, 1))
    for stage, filters in enumerate((16, 32, 32)):
        h = k.ReLU()(k.BatchNormalization(name=f"bn{stage}")(k.Conv2D(filters, 3, padding="same")(h)))
        h = k.MaxPooling2D()(h) if stage == 1 else h
    net = keras.Model(x, k.Dense(10, "softmax")(k.GlobalAveragePooling2D()(h)))
    net.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    for _ in range(updates):
        rows = rng.choice(len(digits[0]), 64)
        net.train_on_batch(digits[0][rows], digits[1][rows])
    return net


def checked(net: Any, digits: tuple[np.ndarray, np.ndarray], folder: Path) -> CheckReport:
    """The check of a saved net on 512 digits."""
    net.save(folder / "net.keras")
    np.savez(folder / "data.npz", x=digits[0][:512], labels=digits[1][:512])
    return check(folder / "net.keras", inputs=folder / "data.npz", batch_size=512)


def codes(report: CheckReport) -> dict[str, Finding]:
    return {finding.code: finding for finding in report.findings}


@pytest.mark.parametrize("updates", [5, 20, 69, 200])
def test_the_number_of_updates_is_read_off_the_statistics(
    updates: int, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """BN001 estimates it within 20 %, and the counter in the file confirms it."""
    finding = codes(checked(trained(digits, updates), digits, tmp_path))["BN001"]
    assert finding.evidence["estimated_updates"] == pytest.approx(updates, rel=0.2)
    assert finding.evidence["stored_iterations"] == updates
    assert finding.evidence["r_squared"] > 0.8
    assert finding.evidence["updates_needed"] == 459


def test_a_healthy_net_is_left_alone(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    """After 1,000 updates there is no finding about the statistics, and recalibrating would change next to nothing."""
    report = checked(trained(digits, 1000), digits, tmp_path)
    assert not {"BN001", "BN002", "BN003"} & codes(report).keys()
    side = {s.id: s for s in report.sides}
    inference, recalibrated = side["onnx-inference@cpu"].correct, side["onnx-recalibrated@cpu"].correct
    assert inference is not None
    assert recalibrated is not None
    assert inference > 0.95 * 512
    assert abs(inference - recalibrated) < 0.02 * 512


def test_statistics_that_were_reset(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    """BN002: a checkpoint whose non-trainable weights were not loaded."""
    net = trained(digits, 60)
    layer = net.get_layer("bn1")
    layer.moving_mean.assign(np.zeros(32))
    layer.moving_variance.assign(np.ones(32))
    finding = codes(checked(net, digits, tmp_path))["BN002"]
    assert finding.layers == ("bn1",)
    assert finding.severity == Severity.ERROR


def test_statistics_with_nan(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    """BN003 names the layer and the channel; the check fails and does not crash."""
    net = trained(digits, 5)
    broken = net.get_layer("bn2").moving_variance.numpy()
    broken[3] = np.nan
    net.get_layer("bn2").moving_variance.assign(broken)
    report = checked(net, digits, tmp_path)
    assert not report
    assert codes(report)["BN003"].evidence["channels"] == {"bn2": [3]}

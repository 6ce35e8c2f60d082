"""V3, V4: a float net quantised by onnxruntime's own tool, with a good calibration and with a bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)

from bnexport import check
from bnexport.exporter.export import export
from bnexport.results.verdict import CheckReport, Finding
from tests.e2e import nets

pytestmark = pytest.mark.keras

COUNT = 256


class Batch(CalibrationDataReader):
    """One batch to calibrate with."""

    def __init__(self, x: np.ndarray) -> None:
        self._batches = iter([{"image": x}])

    def get_next(self) -> Any:
        return next(self._batches, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.keras, a classifier of digits; data.npz; net.onnx, its export, and pre.onnx, prepared for quantising."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    keras = nets._keras()
    keras.utils.set_random_seed(0)
    k = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    h = k.MaxPooling2D()(k.Conv2D(16, 3, activation="relu", padding="same")(image))
    h = k.Flatten()(k.Conv2D(32, 3, activation="relu", padding="same")(h))
    net = keras.Model(image, k.Dense(10, "softmax", name="head")(h))
    net.compile(optimizer=keras.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy")
    net.fit(x, y, batch_size=64, epochs=6, verbose=0)
    folder = tmp_path_factory.mktemp("quantised")
    net.save(folder / "net.keras")
    np.savez(folder / "data.npz", image=x[:COUNT], labels=y[:COUNT])
    export(folder / "net.keras", folder / "net.onnx")
    quant_pre_process(str(folder / "net.onnx"), str(folder / "pre.onnx"), skip_symbolic_shape=True)
    return folder


def quantised(folder: Path, brightness: float, form: QuantFormat = QuantFormat.QDQ) -> Path:
    """The net quantised with images of this brightness, 1 as in deployment."""
    path = folder / f"{form}-{brightness}.onnx"
    batch = Batch(np.load(folder / "data.npz")["image"][:64] * np.float32(brightness))
    quantize_static(str(folder / "pre.onnx"), str(path), batch, quant_format=form, per_channel=form == QuantFormat.QDQ)
    return path


def against_keras(folder: Path, deployed: Path) -> tuple[CheckReport, dict[str, Finding]]:
    report = check(folder / "net.keras", inputs=folder / "data.npz", onnx=deployed, batch_size=COUNT)
    return report, {finding.code: finding for finding in report.findings}


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_well_calibrated_file_passes_with_its_cost(folder: Path, form: QuantFormat) -> None:
    """V3: nothing is said of the export or of onnxruntime's optimiser; how many answers stay is."""
    report, codes = against_keras(folder, quantised(folder, 1.0, form))
    assert report, str(report)
    assert not {"EX001", "EX005", "RT004"} & codes.keys()
    assert codes["QT001"].severity == "info"
    evidence = codes["QT001"].evidence
    assert evidence["images_differing"] <= 2
    assert evidence["snr_db"] > 20
    assert evidence["reference_correct"] > 240


def test_a_badly_calibrated_file_fails_as_quantised(folder: Path) -> None:
    """V4: calibrated on images that are twenty times too dark, the file loses its answers; quantisation is named, not a layer's export."""
    report, codes = against_keras(folder, quantised(folder, 0.05))
    assert not report
    assert not {"EX001", "RT004"} & codes.keys()
    assert codes["QT001"].severity == "error"
    assert codes["QT001"].evidence["images_differing"] > 50
    assert codes["QT001"].evidence["quantised_correct"] < codes["QT001"].evidence["reference_correct"] - 50
    assert any("calibrate again" in action.reason for action in codes["QT001"].actions)


def test_the_badly_calibrated_file_alone_says_what_it_does_not_know(folder: Path) -> None:
    """V4: without the float model the file computes what it says; QT001 names the comparison that would show its cost."""
    report = check(quantised(folder, 0.05), inputs=folder / "data.npz", batch_size=COUNT)
    [finding] = [finding for finding in report.findings if finding.code == "QT001"]
    assert "is not measured here" in finding.message
    assert any("--deployed" in action.reason for action in finding.actions)
    assert "RT004" not in {other.code for other in report.findings}


def test_dynamic_ranges_are_named(folder: Path) -> None:
    """A dynamically quantised file depends on its batch by design: neither BN006 nor an export's fault."""
    path = folder / "dynamic.onnx"
    quantize_dynamic(str(folder / "pre.onnx"), str(path), op_types_to_quantize=["MatMul", "Gemm"])
    assert "DynamicQuantizeLinear" in {node.op_type for node in onnx.load(path).graph.node}
    report, codes = against_keras(folder, path)
    assert report, str(report)
    assert "measured on each batch" in codes["QT001"].message
    assert not {"EX001", "BN006", "RT004"} & codes.keys()

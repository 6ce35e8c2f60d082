"""LiteRT as a target: what is in .tflite files, the conversion of Keras models, and files that are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnexport import check
from bnexport.comparison import artifacts
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.frameworks.keras import tflite_child
from bnexport.frameworks.keras.tflite import Conversion
from bnexport.results.verdict import Severity
from bnexport.runtimes.litert import LiteRt
from bnexport.runtimes.protocols import Artifact, Want
from bnexport.runtimes.tflite_file import read_tflite, with_outputs
from bnexport.system.cache import Cache
from tests.tflite_nets import linear_net

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3)).astype(np.float32)
X = RNG.normal(size=(5, 4)).astype(np.float32)
TINY = "tiny_residual.keras"

REFUSAL = """Could not translate MLIR to FlatBuffer.<unknown>:0: error: loc(callsite("Erfinv" at "main")): 'tf.Erfinv' op is neither a custom op nor a flex op
<unknown>:0: error: failed while converting: 'main':
Some ops in the model are custom ops, See instructions to implement custom ops: https://www.tensorflow.org/lite/guide/ops_custom
Custom ops: Erfinv, Zeta
Details:
	tf.Erfinv(tensor<?x8xf32>) -> (tensor<?x8xf32>) : {device = ""}
"""


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (8, 32, 32, 1)).astype(np.float32)


def test_every_tensor_is_read_by_its_name() -> None:
    """Tensors inside of a file are NumPy's, and asking for them leaves the outputs as they are."""
    with LiteRt().open(Artifact("tflite", linear_net(KERNEL)), Want()) as session:
        before = session.run({"x": X})["y"]
        inside = session.run({"x": X}, ["h", "z", "y"])
        np.testing.assert_array_equal(inside["h"], np.maximum(X, 0))
        np.testing.assert_allclose(inside["z"], np.maximum(X, 0) @ KERNEL, atol=1e-6)  # a sum of four products
        np.testing.assert_allclose(session.run({"x": X})["y"], before, atol=1e-7)


def test_a_tensor_more_among_the_outputs() -> None:
    """The logits are given out beside the output, which has the same bits, with XNNPACK and without."""
    content = linear_net(KERNEL)
    file = read_tflite(content, "a file")
    assert file.before_squashing() == {"y": file.positions["z"]}
    longer = with_outputs(content, [file.positions["z"]])
    for options in ({}, {"xnnpack": "off"}, {"kernels": "reference"}):
        with LiteRt().open(Artifact("tflite", content), Want(options=options)) as session:
            y = session.run({"x": X})["y"]
        with LiteRt().open(Artifact("tflite", longer), Want(options=options)) as session:
            outputs = session.run({"x": X})
        assert list(outputs) == ["y", "z"]
        np.testing.assert_array_equal(outputs["y"], y)


def test_damaged_files_are_one_sentence() -> None:
    """A file that is cut off anywhere, or has other bytes, is read or refused: nothing else happens."""
    content = linear_net(KERNEL)
    for end in range(0, len(content), 7):
        _read(content[:end])
    rng = np.random.default_rng(1)
    for _ in range(500):
        changed = bytearray(content)
        for at in rng.integers(0, len(content), 4):
            changed[at] = rng.integers(0, 256)
        _read(bytes(changed))


def _read(content: bytes) -> None:
    try:
        read_tflite(content, "a file").before_squashing()
        with_outputs(content, [0])
    except InputError as error:
        assert "a file is not a valid .tflite file" in str(error)  # noqa: PT017 - reading it is fine, too


@pytest.mark.keras
def test_a_keras_model_is_converted_and_passes(models: Path, images: np.ndarray, tmp_path: Path) -> None:
    """A sound model passes as .tflite with XNNPACK and without, logits included; it is converted once."""
    targets = ["onnxruntime:cpu", "litert", "litert:xnnpack=off"]
    report = check(models / TINY, images, targets=targets, store=Cache(tmp_path))
    assert report, str(report)
    for run in ("tflite-inference@litert", "tflite-inference@litert:xnnpack=off"):
        mine = [c for c in report.comparisons if c.actual == run and c.reference == "keras-inference"]
        assert {c.tensor for c in mine} == {"logits", "probabilities"}
        assert all(c.noise_floors is not None and c.noise_floors <= 4 for c in mine)  # half of what passes
    assert report.environment["litert"]


def test_what_the_converter_refuses_is_a_finding(
    models: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RT016 with the operators, and the other runs go on."""
    operators = tflite_child.operators_named(REFUSAL)
    assert operators == ["Erfinv", "Zeta"]
    why = tflite_child.main_sentence(RuntimeError(REFUSAL))
    assert why == "'tf.Erfinv' op is neither a custom op nor a flex op"
    refused = Conversion(b"", why, tuple(operators))
    monkeypatch.setattr(artifacts, "convert_to_tflite", lambda *_: refused)
    monkeypatch.setattr(artifacts, "converter_version", lambda: "2.21")
    report = check(models / TINY, images, targets=["onnxruntime:cpu", "litert"])
    [finding] = [f for f in report.findings if f.severity == Severity.ERROR]
    assert finding.code == "RT016"
    assert finding.evidence["side"] == "tflite-inference@litert"
    assert finding.evidence["operators"] == ["Erfinv", "Zeta"]
    assert "onnx-inference@cpu" in {side.id for side in report.sides}


def test_tensorflow_is_required(models: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what converts the model, and what else may be done."""
    monkeypatch.setattr(artifacts, "converter_version", lambda: "")
    with pytest.raises(MachineError, match=r"requires TensorFlow.*--deployed"):
        check(models / TINY, images, targets=["litert"])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("litert:delegate=gpu", "no option delegate"),
        ("litert:xnnpack=no", "expected on or off"),
        ("litert:threads=0", "a number from 1"),
        ("litert:cuda", "does not support the device"),
    ],
)
def test_targets_that_there_are_not(target: str, words: str, models: Path, images: np.ndarray) -> None:
    """Options, values and devices that LiteRT does not have are refused before anything runs."""
    with pytest.raises(UsageError, match=words):
        check(models / TINY, images, targets=[target])


@pytest.mark.parametrize("model", ["tiny_residual.onnx", TINY])
def test_onnx_files_are_not_for_litert(model: str, models: Path, images: np.ndarray) -> None:
    """An ONNX file, alone or deployed, is refused with what LiteRT executes."""
    deployed = None if model.endswith("onnx") else models / "tiny_residual.onnx"
    with pytest.raises(UsageError, match=r"the target litert executes \.tflite files"):
        check(models / model, images, deployed=deployed, targets=["litert"])

"""OpenVINO's own files, as artifacts of the runtime `openvino`."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bnexport.errors import InputError, MachineError, UsageError
from bnexport.runtimes.isolated import IsolatedSession
from bnexport.runtimes.protocols import Artifact, Want, open_runtime

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4)).astype(np.float32)
KERNEL = RNG.normal(size=(4, 3)).astype(np.float32)

CONVERT = """
import sys, openvino
openvino.save_model(openvino.Core().read_model(sys.argv[1]), sys.argv[2], compress_to_fp16=False)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 4] x) => (float[N, 3] y) { h = Relu(x)  y = MatMul(h, w) }""")
    model.graph.initializer.append(numpy_helper.from_array(KERNEL, "w"))
    path = tmp_path_factory.mktemp("ir") / "model.onnx"
    onnx.save(model, path)
    return path


def test_an_ir_is_read_with_its_weights(model: Path) -> None:
    """The .bin travels as a companion; without it OpenVINO refuses the file, and names the reason."""
    ir = model.with_suffix(".xml")
    subprocess.run([sys.executable, "-c", CONVERT, model, ir], check=True)
    weights = ir.with_suffix(".bin").read_bytes()
    with IsolatedSession(
        "openvino", Artifact("openvino-ir", ir.read_bytes(), companions={".bin": weights}), Want()
    ) as session:
        [x], [y] = session.signature.inputs, session.signature.outputs
        assert (x.name, x.shape, y.name, y.shape) == ("x", (None, 4), "y", (None, 3))
        assert session.computes == "float32"
        np.testing.assert_allclose(session.run({"x": X})["y"], np.maximum(X, 0) @ KERNEL, atol=1e-5)
    with pytest.raises(InputError, match="weights"):
        IsolatedSession("openvino", Artifact("openvino-ir", ir.read_bytes()), Want())


@pytest.mark.parametrize(
    ("want", "error", "words"),
    [
        (Want(options={"NO_SUCH_PROPERTY": "1"}), UsageError, "Unsupported property NO_SUCH_PROPERTY"),
        (Want(options={"INFERENCE_PRECISION_HINT": "f99"}), UsageError, "Supported values: bf16"),
        (Want("quantum"), MachineError, "quantum"),
    ],
    ids=["property", "value", "device"],
)
def test_what_openvino_does_not_have_is_refused_in_its_words(
    model: Path, want: Want, error: type[Exception], words: str
) -> None:
    """A property, a value or a device: what is wrong is the command or the machine, and not the model."""
    with pytest.raises(error, match=words):
        IsolatedSession("openvino", Artifact("onnx", model.read_bytes()), want)


def test_other_devices_may_be_asked_for() -> None:
    """OpenVINO is not asked what it has until a model is opened."""
    runtime = open_runtime("openvino")
    assert runtime.about().devices == ("cpu", "auto")
    assert "gpu" in getattr(runtime, "about_target")("gpu", {}).devices  # noqa: B009 - an ability of this runtime

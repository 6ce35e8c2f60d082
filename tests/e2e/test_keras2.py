"""`check --reference keras2`: an old file is compared with what it computes in Keras 2, whatever Keras 3 makes of it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from bnexport import check
from bnexport.cli import app
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.frameworks.keras import keras2
from tests.e2e import old_formats

pytestmark = [pytest.mark.keras, pytest.mark.slow]

WRITE = """
import sys
import numpy as np, tf_keras
from tf_keras import layers as k
folder = sys.argv[1]
tf_keras.utils.set_random_seed(3)
first = k.Input((6, 6, 2), name="image")
y = k.BatchNormalization(name="bn")(k.DepthwiseConv2D(3, name="depthwise", bias_initializer="random_normal")(first))
y = k.Activation("hard_sigmoid", name="gate")(y)
model = tf_keras.Model(first, k.Dense(3, "softmax", name="head")(k.Flatten(name="flat")(y)))
model.save(folder + "/old.h5")
x = np.random.default_rng(4).normal(0, 2, (4, 6, 6, 2)).astype("float32")
np.savez(folder + "/data.npz", x=x)
np.save(folder + "/keras2.npy", model(x, training=False).numpy())
gru = tf_keras.Sequential([k.GRU(3, reset_after=False, recurrent_activation="hard_sigmoid", input_shape=(4, 2))])
gru.save(folder + "/gru.h5")
dense = tf_keras.Sequential([k.Dense(2, name="dense", input_shape=(4, 2))])
dense.save(folder + "/dense.keras")
np.save(folder + "/dense.npy", dense(x[:, 0, :4], training=False).numpy())
np.save(folder + "/series.npy", x[:, 0, :4])
np.save(folder + "/gru.npy", gru(x[:, 0, :4], training=False).numpy())
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files that Keras 2 wrote, old.h5 and gru.h5, data for them, and what Keras 2 computed."""
    folder = tmp_path_factory.mktemp("keras2")
    subprocess.run([sys.executable, "-c", WRITE, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(autouse=True)
def one_process(old: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of `old` is loaded once for all tests: starting TensorFlow takes seconds."""
    made: dict[Path, keras2.Model] = request.getfixturevalue("loaded")
    real = keras2.Model

    def load(path: Path, digest: str, *, trust: bool = False) -> keras2.Model:
        if path != old / "old.h5":
            return real(path, digest, trust=trust)
        if path not in made:
            made[path] = real(path, digest, trust=trust)
        return made[path]

    monkeypatch.setattr(keras2, "Model", load)


@pytest.fixture(scope="module")
def loaded() -> dict[Path, Any]:
    """What was loaded."""
    return {}


def gate(folder: Path, alpha: float) -> Path:
    """The model of `old` as a deployed ONNX file, written here by hand: with Keras 2's hard sigmoid (slope 0.2), or Keras 3's (1/6)."""
    import h5py
    from onnx import helper, numpy_helper

    weights: dict[str, Any] = {}
    with h5py.File(folder / "old.h5") as file:
        file["model_weights"].visititems(
            lambda name, item: (
                weights.update({"/".join(name.split("/")[-2:]): item[()]}) if hasattr(item, "shape") else None
            )
        )
    weights = {name.removesuffix(":0"): value for name, value in weights.items()}
    depthwise = weights["depthwise/depthwise_kernel"]  # H W C M
    constants = {
        "kernel": depthwise.transpose(2, 3, 0, 1),
        "bias": weights["depthwise/bias"],
        "gamma": weights["bn/gamma"],
        "beta": weights["bn/beta"],
        "mean": weights["bn/moving_mean"],
        "var": weights["bn/moving_variance"],
        "head": weights["head/kernel"],
        "offset": weights["head/bias"],
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel", "bias"], ["conv"], group=2),
        helper.make_node("BatchNormalization", ["conv", "gamma", "beta", "mean", "var"], ["bn"], epsilon=1e-3),
        helper.make_node("HardSigmoid", ["bn"], ["gate"], alpha=alpha, beta=0.5),
        helper.make_node("Transpose", ["gate"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["nhwc"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "offset"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gate",
        [helper.make_tensor_value_info("image", 1, ["N", 6, 6, 2])],
        [helper.make_tensor_value_info("out", 1, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / f"gate{alpha:.2f}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_keras_2_computes_what_it_wrote(old: Path) -> None:
    """The child's outputs are those of the process that wrote the file, bit for bit, and the logits are before the softmax."""
    from bnexport.system.files import sha256

    model = keras2.Model(old / "old.h5", sha256(old / "old.h5"))
    found = model.run([np.load(old / "data.npz")["x"]])
    np.testing.assert_array_equal(found["head"], np.load(old / "keras2.npy"))
    raised = np.exp(found["head/logits"])
    np.testing.assert_allclose(raised / raised.sum(-1, keepdims=True), found["head"], rtol=1e-5)


def test_the_deployed_file_is_held_to_keras_2(old: Path) -> None:
    """A file with Keras 2's hard sigmoid passes, one with Keras 3's fails, and the finding names Keras 2; the report names tf_keras."""
    right = check(old / "old.h5", inputs=old / "data.npz", onnx=gate(old, 0.2), reference="keras2")
    assert right, right.findings
    assert right.environment["tf_keras"]
    [side] = [side for side in right.sides if side.runtime == "keras2"]
    assert side.id == "keras2-inference"
    wrong = check(old / "old.h5", inputs=old / "data.npz", onnx=gate(old, 1 / 6), reference="keras2")
    assert not wrong
    [finding] = [f for f in wrong.findings if f.code == "EX001"]
    assert "Keras 2" in finding.message
    assert finding.evidence["max_rel"] > 1e-3


def test_a_silent_misreading_by_keras_3_is_found(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras 3 alone agrees with its own export whatever it made of the file; Keras 2 does not, and the finding says whose the error is."""
    from bnexport.keras_files import repairs as keras_repairs

    def misread(*given: Any) -> Any:
        repaired = original(*given)
        old_formats.layer(repaired.config, "gate")["config"]["activation"] = "sigmoid"
        return repaired

    original = keras_repairs.repair
    monkeypatch.setattr(keras_repairs, "repair", misread)
    monkeypatch.setattr("bnexport.keras_files.read._LATEST", {})  # it is read anew
    assert check(old / "old.h5", inputs=old / "data.npz")
    report = check(old / "old.h5", inputs=old / "data.npz", reference="keras2")
    [finding] = [f for f in report.findings if f.code == "EX001"]
    assert not report
    assert "Keras 3 loads the file as another model than Keras 2" in finding.message
    assert finding.evidence["equals_keras3"] is True


def test_a_file_that_keras_3_cannot_read(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is exported and checked all the same, and so is a deployed file (a weight of that file has the output's name in Keras)."""
    from bnexport.frameworks.keras import model as keras_model

    def refuse(path: Path, **_: Any) -> Any:
        raise InputError(f"Keras cannot read {path}")

    monkeypatch.setattr(keras_model, "load", refuse)
    assert check(old / "old.h5", inputs=old / "data.npz", onnx=gate(old, 0.2), reference="keras2")
    assert not check(old / "old.h5", inputs=old / "data.npz", onnx=gate(old, 1 / 6), reference="keras2")
    assert check(old / "old.h5", inputs=old / "data.npz", reference="keras2")


def test_the_command_line(old: Path) -> None:
    """Bnexport's own export of an old file, repairs included, passes with Keras 2 as the reference."""
    arguments = [
        "check",
        str(old / "old.h5"),
        "--inputs",
        str(old / "data.npz"),
        "--reference",
        "keras2",
        "--format",
        "json",
        "-q",
    ]
    result = CliRunner().invoke(app, [*arguments, "--no-cache"])
    report = json.loads(result.stdout)
    by_keras2 = [c for c in report["comparisons"] if c["reference"] == "keras2-inference"]
    assert {c["actual"] for c in by_keras2} == {"onnx-inference@cpu"}
    assert "tf_keras" in report["environment"]
    assert all(c["passed"] for c in by_keras2)
    assert result.exit_code == 0, report["findings"]


def test_code_of_the_files_own_is_refused_before_keras_2_sees_it(tmp_path: Path) -> None:
    """A Lambda layer, which tf_keras would run from an HDF5 file without asking."""
    old_formats.lambda_layer(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=np.ones((2, 4), np.float32))
    with pytest.raises(InputError, match="contains code that would be executed: Lambda"):
        check(tmp_path / "model.keras", inputs=tmp_path / "data.npz", reference="keras2")


@pytest.mark.parametrize("prefix", ["layers\\", "_layer_checkpoint_dependencies/"])
def test_weights_under_names_that_tf_keras_does_not_look_for(old: Path, prefix: str, tmp_path: Path) -> None:
    """What Keras 2 wrote on Windows, and what Keras 2.13 and 2.14 wrote, reaches tf_keras under today's names."""
    import h5py

    from bnexport.system.files import sha256

    path, weights = tmp_path / "model.keras", io.BytesIO()
    with zipfile.ZipFile(old / "dense.keras") as source, zipfile.ZipFile(path, "w") as target:
        with h5py.File(io.BytesIO(source.read("model.weights.h5"))) as file, h5py.File(weights, "w") as renamed:
            names: list[str] = []
            file.visit(names.append)
            for name in names:
                if isinstance(file[name], h5py.Dataset):
                    renamed[name.replace("layers/", prefix)] = file[name][()]
                else:
                    renamed.require_group(name.replace("layers/", prefix))
        for item in source.namelist():
            target.writestr(item, weights.getvalue() if item == "model.weights.h5" else source.read(item))
    folder = tmp_path / "copy"
    folder.mkdir()
    copy = keras2._inspect(path, sha256(path), folder, trust=False)
    with zipfile.ZipFile(copy) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        assert set(file["layers/dense/vars"]) == {"0", "1"}
    if "\\" in prefix:  # one process is enough: both are the same copy
        [found] = keras2.Model(path, sha256(path)).run([np.load(old / "series.npy")]).values()
        np.testing.assert_array_equal(found, np.load(old / "dense.npy"))


def test_defaults_of_files_before_tensorflow_2() -> None:
    """A GRU that does not say reset_after had one bias in Keras 2.1, and has two in tf_keras; what a file says stays."""
    from bnexport.keras_files import defaults as keras_defaults

    def model(**of_gru: Any) -> dict[str, Any]:
        gru = {"class_name": "GRU", "config": {"units": 2, **of_gru}}
        return {"class_name": "Sequential", "config": [{"class_name": "Bidirectional", "config": {"layer": gru}}]}

    stated = {"reset_after": True, "recurrent_activation": "sigmoid"}
    assert keras_defaults.copy_with_defaults(model(**stated), "2.1.4", (2, 1)) == model(**stated)
    silent = {"reset_after": False, "recurrent_activation": "hard_sigmoid"}
    assert keras_defaults.copy_with_defaults(model(), "2.1.4", (2, 1)) == model(**silent)


def test_a_silent_gru_is_the_one_of_its_time(old: Path, tmp_path: Path) -> None:
    """A file by Keras 2.1 whose GRU does not say reset_after computes what it computed when it was written."""
    import h5py

    from bnexport.system.files import sha256

    path = tmp_path / "gru.h5"
    path.write_bytes((old / "gru.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        del config["config"]["layers"][-1]["config"]["reset_after"]
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config), "2.1.4"
    model = keras2.Model(path, sha256(path))
    [found] = model.run([np.load(old / "series.npy")]).values()
    np.testing.assert_array_equal(found, np.load(old / "gru.npy"))


def test_what_is_missing_is_said(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tf_keras: exit code 3 and the command; and Keras 2 reads neither ONNX files nor unknown references."""
    np.savez(tmp_path / "data.npz", x=np.ones((2, 32, 32, 1), np.float32))
    with pytest.raises(UsageError, match="requires a Keras file"):
        check(models / "tiny_residual.onnx", inputs=tmp_path / "data.npz", reference="keras2")
    with pytest.raises(UsageError, match="the reference is invalid"):
        check(models / "tiny_residual.onnx", inputs=tmp_path / "data.npz", reference="keras1")
    monkeypatch.setattr(keras2, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"pip install 'bnexport\[keras2\]'"):
        check(models / "tiny_residual.keras", inputs=tmp_path / "data.npz", reference="keras2")

"""The main job, as a newcomer runs it: the demo's ResNet50, end to end: the demo in a process of its own, what it suggests in this one."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

from bnexport import datasets
from bnexport.cli import app
from bnexport.frameworks.keras import model as keras_model
from bnexport.onnx_graph import statistics
from bnexport.onnx_graph.sites import sites
from bnexport.reporting.json import SCHEMA
from bnexport.results.preprocessing import Preprocessing

pytestmark = [pytest.mark.keras, pytest.mark.slow]


def bnexport(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bnexport", *map(str, arguments)], capture_output=True, text=True)


def run(*arguments: object) -> Result:
    """A command in this process, which imports TensorFlow once."""
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo ran."""
    folder = tmp_path_factory.mktemp("demo run") / "out"
    done = bnexport("demo", folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def right(report: dict) -> dict[str, int]:
    return {side["id"]: side["top1"]["correct"] for side in report["sides"]}


def test_the_demo_tells_the_story(demo: Path) -> None:
    """Fit says 100 %, predict and ONNX inference get 1 of 3, training mode and the ONNX twin 3 of 3; the sides of a mode agree."""
    report = json.loads((demo / "check.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    found = right(report)
    assert (found["keras-inference"], found["keras-training"]) == (1, 3)
    assert (found["onnx-inference@cpu"], found["onnx-training@cpu"]) == (1, 3)
    far = {(c["actual"], c["tensor"]): c["max_rel"] for c in report["comparisons"]}
    assert far["onnx-inference@cpu", "logits"] < 1e-6
    assert far["onnx-training@cpu", "logits"] < 1e-4
    assert report["model"]["batch_normalization"] == {"layers": 53, "frozen": 0}
    text = (demo / "stdout.txt").read_text()
    order = ["Training", "Keras, inference mode", "Keras, training mode", "ONNX, inference mode", "ONNX, training mode"]
    order += ["repaired.keras", "Cause", "Repair", "Next commands"]
    places = [text.index(title) for title in order]
    assert places == sorted(places)
    assert "accuracy 100%" in text[: places[1]]
    assert len(text.splitlines()) <= 30


def test_checking_what_the_demo_left_fails(demo: Path) -> None:
    """`check` on the model and on the ONNX file, as the demo suggests, exits with 1."""
    for name in ("model.h5", "model.onnx"):
        done = run("check", demo / name, demo / "images", "-q", "--format", "json")
        assert done.exit_code == 1, done.stderr
        assert right(json.loads(done.stdout))["onnx-training@cpu"] == 3


def test_the_demo_ends_with_the_repair(demo: Path) -> None:
    """The repaired model gets 3 of 3 in Keras and in ONNX, recalibrated and folded; the check of what it left passes."""
    text = (demo / "stdout.txt").read_text()
    for name in ("repaired.keras", "repaired.onnx", "folded.onnx"):
        assert any("3/3" in line and line.startswith(name) for line in text.splitlines())
    for name in ("repaired.keras", "repaired.onnx"):
        done = run("check", demo / name, demo / "images", "-q", "--format", "json")
        assert done.exit_code == 0, done.stdout
        assert set(right(json.loads(done.stdout)).values()) == {3}
    assert sites(onnx.load(demo / "folded.onnx")) == []


Statistics = dict[str, tuple[np.ndarray, np.ndarray]]


def apart(actual: Statistics, reference: Statistics) -> tuple[float, float]:
    """How far means are apart in standard deviations, and variances relative to themselves, at most."""
    means = (np.abs(actual[n][0] - mean) / np.sqrt(var) for n, (mean, var) in reference.items())
    variances = (np.abs(actual[n][1] - var) / var for n, (_, var) in reference.items())
    return max(float(m.max()) for m in means), max(float(v.max()) for v in variances)


@pytest.fixture(scope="module")
def keras_statistics(demo: Path) -> tuple[Statistics, Statistics]:
    """What one Keras training pass over all three pictures leaves in the moving statistics at momentum 0, in float64 and in float32."""
    loaded = keras_model.load(demo / "model.h5")
    import keras

    def in_float64(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float64"})

    wide = keras.models.clone_model(loaded.keras, clone_function=in_float64)
    wide.set_weights([w.astype("float64") for w in loaded.keras.get_weights()])
    x = next(iter(datasets.Reader(datasets.find(demo / "images"), Preprocessing((197, 197))))).x
    found = []
    for net, dtype in ((wide, "float64"), (loaded.keras, "float32")):
        norms = [layer for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)]
        for layer in norms:
            layer.momentum = 0.0
        net(x.astype(dtype), training=True)
        found.append(
            {
                layer.name: (layer.moving_mean.numpy().astype(float), layer.moving_variance.numpy().astype(float))
                for layer in norms
            }
        )
    return found[0], found[1]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_seed_model_is_repaired_at_any_batch_size(
    demo: Path, keras_statistics: tuple[Statistics, Statistics], tmp_path: Path, batch: int
) -> None:
    """Recalibrated at batch size 1, 2 and 3: 3 of 3, residual below 1e-4, and the statistics of Keras' training pass over the full batch.

    "The statistics of" is 1e-4, or what float32 does to Keras itself where that is more: on this net up to 4e-4 of a variance.
    """
    output = tmp_path / "out.onnx"
    done = run(
        "recalibrate",
        demo / "model.onnx",
        demo / "images",
        "-o",
        output,
        "--batch-size",
        batch,
        "-q",
        "--format",
        "json",
    )
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["after"]["top1"] == {"correct": 3, "of": 3}
    assert told["residual"] < 1e-4
    wide, narrow = keras_statistics
    ours = {name: (mean, var) for name, (_, mean, var) in statistics.current(onnx.load(output)).items()}
    for distance, floor in zip(apart(ours, wide), apart(narrow, wide), strict=True):
        assert distance < max(1e-4, 2 * floor)


def test_the_exported_resnet50_is_whole(demo: Path) -> None:
    """53 BatchNormalization nodes named after their layers; valid under the full check; the same logits at batch 1, 3 and 7."""
    model = onnx.load(demo / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    names = [site.name for site in sites(model)]
    assert len(names) == 53
    assert names[0] == "conv1_bn"
    assert all(
        name == "conv1_bn" or (name.startswith("conv") and name.endswith("_bn") and "_block" in name) for name in names
    )
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("predictions/logits", onnx.TensorProto.FLOAT, ["N", 3])
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).uniform(0, 255, (7, 197, 197, 1)).astype(np.float32)

    def logits(part: np.ndarray) -> np.ndarray:
        return session.run(["predictions/logits"], {session.get_inputs()[0].name: part})[0]

    whole = logits(x)
    for size in (1, 3):
        parts = np.concatenate([logits(x[i : i + size]) for i in range(0, 7, size)])
        np.testing.assert_allclose(
            parts, whole, rtol=0, atol=1e-6 * np.abs(whole).max()
        )  # float32 rounding of another blocking


def test_low_momentum_is_the_other_way_out(demo: Path, tmp_path: Path) -> None:
    """Trained with --momentum 0.01 --epochs 20, inference mode gets 3 of 3 and the check passes; a smaller net, for time.

    The file beside the model has preprocessing, classes and which image is which.
    """
    done = run(
        "train",
        demo / "images",
        "-o",
        tmp_path / "net.keras",
        "--momentum",
        "0.01",
        "--epochs",
        "20",
        "--arch",
        "MobileNet",
        "--size",
        "64",
        "--seed",
        "5",
        "-q",
    )
    assert done.exit_code == 0, done.stderr
    beside = tomllib.loads((tmp_path / "net.keras.toml").read_text())
    assert beside["preprocessing"]["size"] == [64, 64]
    assert beside["classes"]["names"] == ["cross", "disc", "stripes"]
    assert beside["labels"] == {"cross.png": "cross", "disc.png": "disc", "stripes.png": "stripes"}
    assert beside["training"]["momentum"] == 0.01
    done = run("check", tmp_path / "net.keras", demo / "images", "-q", "--format", "json")
    report = json.loads(done.stdout)
    assert report["preprocessing"]["origin"] == "sidecar"
    assert set(right(report).values()) == {3}
    assert done.exit_code == 0, done.stdout


def test_the_demo_says_where_it_cannot_write(tmp_path: Path) -> None:
    """A demo whose folder is a file exits with 3 in one sentence."""
    (tmp_path / "file").touch()
    done = bnexport("demo", tmp_path / "file" / "demo", "-q")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


def mutated(demo: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(demo / "model.onnx")
    change(model)
    onnx.save(model, demo / "mutated.onnx")
    return demo / "mutated.onnx"


def one_channel(model: onnx.ModelProto) -> None:
    """One output channel of one kernel in the middle, scaled by 1 %."""
    [kernel] = [tensor for tensor in model.graph.initializer if tensor.name == "conv4_block3_2_conv/kernel"]
    values = numpy_helper.to_array(kernel).copy()
    values[5] *= np.float32(1.01)
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))


def test_a_wrong_graph_of_the_demos_model_is_found(demo: Path) -> None:
    """Scaled by 1 % in one channel, which these logits hardly show: it fails, and the layer is named."""
    file = mutated(demo, one_channel)
    done = run("check", demo / "model.h5", demo / "images", "--onnx", file, "-q", "--format", "json")
    assert done.exit_code == 1, done.stderr
    [finding] = [f for f in json.loads(done.stdout)["findings"] if f["code"] == "EX001"]
    assert finding["layers"] == ["conv4_block3_2_conv"]


def test_large_logits_pass_by_the_floors(demo: Path) -> None:
    """Logits of some hundred and more, off by more than any usual absolute tolerance: a fraction of a noise floor, and that is what counts."""
    report = json.loads((demo / "check.json").read_text())
    [logits] = [
        c
        for c in report["comparisons"]
        if c["actual"] == "onnx-inference@cpu" and c["reference"] == "keras-inference" and c["tensor"] == "logits"
    ]
    assert logits["passed"]
    assert logits["scale"] > 100
    assert logits["max_abs"] > 1e-5
    assert logits["noise_floors"] < 2

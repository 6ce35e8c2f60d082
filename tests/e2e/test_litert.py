"""LiteRT as a target: what is in .tflite files, the conversion of Keras models, and files that are damaged."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from bnexport import check
from bnexport.comparison import artifacts
from bnexport.comparison.targets import OpenTarget, Target
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.frameworks.keras import tflite_child
from bnexport.frameworks.keras.tflite import Conversion
from bnexport.recalibration.recalibrate import recalibrate
from bnexport.results.verdict import Severity
from bnexport.runtimes.litert import LiteRt
from bnexport.runtimes.protocols import Artifact, Want
from bnexport.runtimes.tflite_file import read_tflite, with_outputs
from bnexport.system.cache import Cache
from tests.e2e.test_runtimes import KERNEL, X, net
from tests.tflite_nets import linear_net, with_another_input, with_scaled_weights

TINY = "tiny_residual.keras"

REFUSAL = """Could not translate MLIR to FlatBuffer.<unknown>:0: error: loc(callsite("Erfinv" at "main")): 'tf.Erfinv' op is neither a custom op nor a flex op
<unknown>:0: error: failed while converting: 'main':
Some ops in the model are custom ops, See instructions to implement custom ops: https://www.tensorflow.org/lite/guide/ops_custom
Custom ops: Erfinv, Zeta
Details:
	tf.Erfinv(tensor<?x8xf32>) -> (tensor<?x8xf32>) : {device = ""}
"""


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """The linear net as an ONNX file."""
    path = tmp_path / "linear.onnx"
    path.write_bytes(net())
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (8, 32, 32, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def sound(models: Path, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny net with the moving statistics of these images."""
    folder = tmp_path_factory.mktemp("sound")
    np.save(folder / "data.npy", images)
    recalibrate(models / TINY, None, folder / "sound.keras", inputs=folder / "data.npy", force=True)
    return folder / "sound.keras"


def test_every_tensor_is_read_by_its_name() -> None:
    """Tensors inside of a file are NumPy's, and asking for them leaves the outputs as they are."""
    with LiteRt().open(Artifact("tflite", linear_net(KERNEL)), Want()) as session:
        before = session.run({"x": X})["y"]
        inside = session.run({"x": X}, ["h", "z", "y"])
        np.testing.assert_array_equal(inside["h"], np.maximum(X, 0))
        np.testing.assert_allclose(inside["z"], np.maximum(X, 0) @ KERNEL, atol=1e-6)  # a sum of four products
        np.testing.assert_allclose(session.run({"x": X})["y"], before, atol=1e-7)


@pytest.mark.parametrize(
    ("first", "second", "order"),
    [
        ("inputs", "inputs_1", ["inputs", "inputs_1"]),
        ("args_0_1", "args_0", ["args_0", "args_0_1"]),
        ("x", "another", ["another", "x"]),
    ],
)
def test_numbered_inputs_are_in_the_order_of_their_numbers(first: str, second: str, order: list[str]) -> None:
    """TensorFlow numbers inputs without names, and its converter writes them in any order; names that say something stay."""
    content = with_another_input(linear_net(KERNEL), {first: 0, second: 5})
    assert list(read_tflite(content, "net.tflite").inputs) == order


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
def test_a_keras_model_is_converted_and_passes(sound: Path, images: np.ndarray, tmp_path: Path) -> None:
    """A sound model passes as .tflite with XNNPACK and without, logits included; it is converted once."""
    targets = ["onnxruntime:cpu", "litert", "litert:xnnpack=off"]
    report = check(sound, images, targets=targets, store=Cache(tmp_path))
    assert report, str(report)
    for run in ("tflite-inference@litert", "tflite-inference@litert:xnnpack=off"):
        mine = [c for c in report.comparisons if c.actual == run and c.reference == "keras-inference"]
        assert {c.tensor for c in mine} == {"logits", "probabilities"}
        assert all(c.noise_floors is not None and c.noise_floors <= 4 for c in mine)  # half of what passes
    assert report.environment["litert"]


def test_what_the_converter_refuses_is_a_finding(
    sound: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RT016 with the operators, and the other runs go on."""
    operators = tflite_child.operators_named(REFUSAL)
    assert operators == ["Erfinv", "Zeta"]
    why = tflite_child.main_sentence(RuntimeError(REFUSAL))
    assert why == "'tf.Erfinv' op is neither a custom op nor a flex op"
    refused = Conversion(b"", why, tuple(operators))
    monkeypatch.setattr(artifacts, "convert_to_tflite", lambda *_: refused)
    monkeypatch.setattr(artifacts, "converter_version", lambda: "2.21")
    report = check(sound, images, targets=["onnxruntime:cpu", "litert"])
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


def test_a_deployed_file_is_held_against_an_onnx_file(linear: Path, tmp_path: Path) -> None:
    """The target is implied; the same weights pass, logits included, and other weights are EX001."""
    right, wrong = tmp_path / "right.tflite", tmp_path / "wrong.tflite"
    right.write_bytes(linear_net(KERNEL))
    wrong.write_bytes(linear_net(KERNEL * np.float32(1.01)))
    report = check(linear, X, deployed=right)
    assert report, str(report)
    mine = [c for c in report.comparisons if c.actual == "tflite-inference@litert" and "one by one" not in c.reference]
    assert {c.tensor for c in mine} == {"logits", "probabilities"}
    report = check(linear, X, deployed=wrong)
    assert not report
    assert [f.code for f in report.findings if f.severity == Severity.ERROR] == ["EX001"]


def test_a_fixed_batch_is_allowed_for(linear: Path, tmp_path: Path) -> None:
    """Five items pass through a file for batches of two, and EX004 says so."""
    path = tmp_path / "two.tflite"
    path.write_bytes(linear_net(KERNEL, batch=2))
    report = check(linear, X, deployed=path)
    assert report, str(report)
    [finding] = [f for f in report.findings if f.code == "EX004"]
    assert "the batch size is fixed to 2" in finding.message


@pytest.mark.parametrize("damage", ["empty", "random", "truncated", "magic"])
def test_a_hostile_file_is_refused(damage: str, linear: Path, tmp_path: Path) -> None:
    """One sentence, and exit code 2."""
    whole, path = linear_net(KERNEL), tmp_path / "hostile.tflite"
    random = np.random.default_rng(2).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    contents = {"empty": b"", "random": random, "truncated": whole[: len(whole) // 2], "magic": whole[:8] + random}
    path.write_bytes(contents[damage])
    with pytest.raises(InputError, match=r"is not a valid \.tflite file") as caught:
        check(linear, X, deployed=path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["net.tflite", "net.xml"])
def test_a_file_for_runtimes_is_no_model(name: str, tmp_path: Path) -> None:
    """Alone it is refused, with what to pass."""
    path = tmp_path / name
    path.write_bytes(linear_net(KERNEL) if name.endswith("tflite") else b'<?xml version="1.0"?><net name="a"></net>')
    with pytest.raises(InputError, match=rf"--deployed \S*{name}"):
        check(path, X)


@pytest.mark.parametrize("target", ["onnxruntime:cpu", "onnx-reference"])
def test_runtimes_of_onnx_files_do_not_take_it(target: str, linear: Path, tmp_path: Path) -> None:
    """A target that is named and cannot execute the deployed file is refused."""
    path = tmp_path / "net.tflite"
    path.write_bytes(linear_net(KERNEL))
    with pytest.raises(UsageError, match=rf"the target {target.partition(':')[0]} executes"):
        check(linear, X, deployed=path, targets=[target])


def test_the_weights_of_an_openvino_ir_lie_beside_it(linear: Path, tmp_path: Path) -> None:
    """Without the .bin file one sentence says what is missing."""
    path = tmp_path / "net.xml"
    path.write_bytes(b'<?xml version="1.0"?><net name="a" version="11"></net>')
    with pytest.raises(InputError, match=r"net\.bin does not exist"):
        check(linear, X, deployed=path)


@pytest.mark.parametrize("half", [False, True])
def test_an_openvino_ir_is_held_against_an_onnx_file(half: bool, linear: Path, tmp_path: Path) -> None:
    """The target openvino is implied; weights in float16, the default of `save_model`, are RT003 for the file, whatever OpenVINO computes in."""
    openvino = pytest.importorskip("openvino")
    path = tmp_path / "net.xml"
    openvino.save_model(openvino.Core().read_model(linear), path, compress_to_fp16=half)
    report = check(linear, X, deployed=path)
    assert report, str(report)
    strict = next(side for side in report.sides if side.id == "openvino-ir-inference@openvino")
    assert strict.precision == ("float16" if half else "float32")
    stored = [f for f in report.findings if f.code == "RT003" and "stores its weights in float16" in f.message]
    assert len(stored) == half


class Converted(NamedTuple):
    """A small Keras model, its inputs, and what TFLiteConverter makes of it."""

    model: Path
    x: np.ndarray
    files: Path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """The model as .tflite in float32, in float16, with dynamic ranges, and in integers throughout."""
    keras, tf = pytest.importorskip("keras"), pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("tflite")
    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((8, 8, 4), name="image")
    y = layers.Conv2D(32, 3, padding="same", name="stem")(
        image
    )  # 1024 weights are the least that dynamic ranges quantise
    y = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(y))
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(y)
    model = keras.Model(
        image, layers.Dense(5, "softmax", name="classes")(layers.GlobalAveragePooling2D(name="pool")(y))
    )
    x = np.random.default_rng(4).normal(size=(16, 8, 8, 4)).astype(np.float32)
    norm = model.get_layer("norm")
    norm.momentum = 0.0
    model(x, training=True)  # the statistics are those of the data
    norm.momentum = 0.99
    model.save(folder / "model.keras")
    for name in ("float32", "float16", "dynamic", "integers"):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if name != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if name == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if name == "integers":
            converter.representative_dataset = lambda: ([x[n : n + 1]] for n in range(len(x)))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (folder / f"{name}.tflite").write_bytes(converter.convert())
    return Converted(folder / "model.keras", x, folder)


@pytest.mark.keras
@pytest.mark.parametrize(
    ("name", "precision", "code"),
    [
        ("float32", "float32", ""),
        ("float16", "float16", "RT003"),
        ("dynamic", "int8-dynamic", "QT001"),
        ("integers", "int8-qoperator", "QT001"),
    ],
)
def test_reduced_precision_is_judged_by_its_cost(name: str, precision: str, code: str, converted: Converted) -> None:
    """Healthy files pass: in float32 within the floors, otherwise by agreement and noise, with XNNPACK and without."""
    path = converted.files / f"{name}.tflite"
    report = check(converted.model, converted.x, deployed=path, targets=["litert", "litert:xnnpack=off"])
    assert report, str(report)
    runs = {side.id: side.precision for side in report.sides if side.id.startswith("tflite")}
    assert runs == dict.fromkeys(["tflite-inference@litert", "tflite-inference@litert:xnnpack=off"], precision)
    costs = [f for f in report.findings if f.code in ("RT003", "QT001")]
    assert [f.code for f in costs] == [code] * len(costs)
    assert len(costs) == (2 if code else 0)
    for finding in costs:
        assert finding.severity == Severity.INFO
        assert "16 of 16 samples get the same class" in finding.message
        assert "was not measured" in finding.message
    mine = [c for c in report.comparisons if c.actual in runs and c.reference == "keras-inference"]
    assert {c.tensor for c in mine} == {"logits", "probabilities"}
    if not code:
        assert all(c.noise_floors is not None and c.noise_floors <= 4 for c in mine)
    if name == "integers":
        [interface] = [f for f in report.findings if f.code == "EX004"]
        assert "the input image is int8 (scale " in interface.message


@pytest.mark.keras
@pytest.mark.slow
def test_quantised_files_have_limits(converted: Converted) -> None:
    """What the user allows decides: no file that is quantised agrees on more items than there are, and noise has its limit."""
    report = check(converted.model, converted.x, deployed=converted.files / "integers.tflite", min_agreement=1.0)
    assert report, str(report)
    wrong = converted.files / "wrong.keras"
    import keras

    keras.utils.set_random_seed(5)
    model = keras.models.load_model(converted.model)
    model.set_weights([w + 0.5 * np.random.default_rng(6).normal(size=w.shape) ** 2 for w in model.get_weights()])
    model.save(wrong)
    for name in ("float32", "float16", "dynamic", "integers"):
        report = check(wrong, converted.x, deployed=converted.files / f"{name}.tflite")
        assert not report, f"{name}: {report}"


@pytest.mark.keras
def test_the_layer_where_the_error_begins_is_named(converted: Converted, tmp_path: Path) -> None:
    """EX001 names the layer whose kernel was changed by 2 %; what the converter fused into one operator is named together."""
    content = (converted.files / "float32.tflite").read_bytes()
    file = read_tflite(content, "a file")
    for layer, fused in (("second", ""), ("relu", "fused with norm and stem")):
        maker = next(o for o in file.operators if f"/{layer}" in file.tensors[o.outputs[0]].name.partition(";")[0])
        path = tmp_path / f"{layer}.tflite"
        path.write_bytes(with_scaled_weights(content, maker.inputs[1], 1.02))
        report = check(converted.model, converted.x, deployed=path)
        [finding] = [f for f in report.findings if f.severity == Severity.ERROR]
        assert finding.code == "EX001"
        assert finding.layers == (layer,)
        assert fused in finding.message
        assert "the deployed file differs from Keras" in finding.message


def test_xnnpack_is_the_cause_where_the_file_is_right_without(
    linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RT009 names the option, and what it is called in LiteRT."""
    opens = Target.open

    def open_wrongly(target: Target, artifact: Artifact, *, as_deployed: bool = False) -> OpenTarget:
        opened = opens(target, artifact, as_deployed=as_deployed)
        factor = 1.0 if target.options.get("xnnpack") == "off" else 1.01
        return replace(opened, run=lambda feeds, names: {n: x * factor for n, x in opened.run(feeds, names).items()})

    monkeypatch.setattr(Target, "open", open_wrongly)
    path = tmp_path / "right.tflite"
    path.write_bytes(linear_net(KERNEL))
    report = check(linear, X, deployed=path)
    [finding] = [f for f in report.findings if f.severity == Severity.ERROR]
    assert (finding.code, finding.evidence["right_with"]) == ("RT009", "xnnpack=off")
    assert "BUILTIN_WITHOUT_DEFAULT_DELEGATES" in finding.actions[0].reason


@pytest.mark.keras
@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_recurrent_models_are_converted_for_one_item(tmp_path: Path, layer: str) -> None:
    """TFLiteConverter refuses them with an open batch axis; the file is called once for each item, and the report says so."""
    import keras

    keras.utils.set_random_seed(0)
    sequences = keras.Input((6, 4), name="sequences")
    hidden = keras.layers.Bidirectional(getattr(keras.layers, layer)(5))(sequences)
    keras.Model(sequences, keras.layers.Dense(3)(hidden)).save(tmp_path / "net.keras")
    x = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)
    report = check(tmp_path / "net.keras", x, targets=["litert"], batch_size=4)
    assert report, str(report)
    errors = [c.difference.max_rel for c in report.comparisons if c.actual == "tflite-inference@litert"]
    assert errors
    assert 0 < max(errors) < 1e-5
    [interface] = [f for f in report.findings if f.code == "EX004"]
    assert "the file takes 1 at a time" in interface.message


@pytest.mark.keras
@pytest.mark.slow
def test_what_is_wrong_with_a_quantised_file_is_named(converted: Converted, tmp_path: Path) -> None:
    """Another checkpoint is EX005 in every precision, and columns that are reversed in the model are another order of its classes."""
    import keras

    rng = np.random.default_rng(6)
    other, turned = (keras.models.load_model(converted.model) for _ in range(2))
    for layer in other.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    other.save(tmp_path / "other.keras")
    last = turned.layers[-1]
    last.set_weights([w[..., ::-1] for w in last.get_weights()])
    turned.save(tmp_path / "turned.keras")
    for name in ("float32", "float16", "dynamic", "integers"):
        for model, code in (("other", "EX005"), ("turned", "EX004")):
            report = check(tmp_path / f"{model}.keras", converted.x, deployed=converted.files / f"{name}.tflite")
            codes = [f.code for f in report.findings if f.severity == Severity.ERROR]
            assert code in codes, f"{model} {name}: {report}"

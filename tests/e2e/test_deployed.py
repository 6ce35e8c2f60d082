"""The deployed file against the Keras model, whoever exported it: what is wrong is named, and what is right passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bnexport import Overrides, Scaling, check, fold, pack, verify
from bnexport.comparison.opening import Request
from bnexport.errors import InputError
from bnexport.exporter.export import export
from bnexport.results.verdict import CheckReport, Finding
from bnexport.system.cache import Cache
from tests.e2e import nets

pytestmark = pytest.mark.keras

Graph = onnx.ModelProto


def small(*, baked: bool = False) -> Any:
    """A net with something for every mutation; `baked`: its first BatchNormalization is called with training=True."""
    keras = nets._keras()
    k = keras.layers
    x = keras.Input((24, 24, 3), name="image")
    h = k.Conv2D(8, 3, padding="same", name="conv1")(x)
    h = k.BatchNormalization(name="bn1")(h, training=True) if baked else k.BatchNormalization(name="bn1")(h)
    h = k.ReLU(name="relu1")(h)
    h = k.BatchNormalization(name="bn2")(k.Conv2D(8, 3, padding="same", name="conv2")(h))
    h = k.MaxPooling2D(name="pool")(k.ReLU(name="relu2")(h))
    h = k.BatchNormalization(name="bn3")(k.Conv2D(12, 3, padding="same", name="conv3")(h))
    h = k.GlobalAveragePooling2D(name="mean")(k.ReLU(name="relu3")(h))
    net = nets.randomise(keras.Model(x, k.Dense(4, "softmax", name="head")(h)))
    rng = np.random.default_rng(1)
    for layer in net.layers:
        if isinstance(layer, k.Conv2D | k.Dense):
            layer.bias.assign(rng.normal(0, 0.5, layer.bias.shape))
    net.get_layer("bn2").gamma.assign(rng.uniform(4, 12, 8))  # values above 6, for the ReLU6
    return net


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net, bnexport's own export of it, and eight images."""
    folder = tmp_path_factory.mktemp("deployed")
    small().save(folder / "net.keras")
    export(folder / "net.keras", folder / "net.onnx")
    np.savez(folder / "data.npz", image=np.random.default_rng(0).uniform(-1, 1, (8, 24, 24, 3)).astype("float32"))
    return folder


def held(workdir: Path, file: Path, **options: Any) -> CheckReport:
    """The check of a file against the net."""
    return check(
        workdir / "net.keras", inputs=workdir / "data.npz", onnx=file, store=Cache(workdir / "cache"), **options
    )


def codes(report: CheckReport) -> dict[str, Finding]:
    return {finding.code: finding for finding in report.findings}


def changed(workdir: Path, change: Callable[[Graph], object]) -> Path:
    model = onnx.load(workdir / "net.onnx")
    change(model)
    del model.graph.value_info[:]
    onnx.save(model, workdir / "changed.onnx")
    return workdir / "changed.onnx"


def weights(model: Graph, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    [tensor] = [t for t in model.graph.initializer if t.name == name]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(tensor))), name))


def node(model: Graph, name: str) -> onnx.NodeProto:
    """The node of a layer that computes: the last one of that scope."""
    return [n for n in model.graph.node if n.name == name or n.name.startswith((f"{name}/", f"{name}_1/"))][-1]


def swap_statistics(model: Graph) -> None:
    one, other = node(model, "bn1"), node(model, "bn2")
    for place in (3, 4):
        one.input[place], other.input[place] = other.input[place], one.input[place]


def relu6(model: Graph) -> None:
    relu = node(model, "relu2")
    for name, value in (("low", 0.0), ("high", 6.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    relu.op_type = "Clip"
    relu.input.extend(["low", "high"])


def valid_padding(model: Graph) -> None:
    conv = next(n for n in model.graph.node if n.op_type == "Conv" and "conv3" in n.name)
    for attribute in list(conv.attribute):
        if attribute.name in ("pads", "auto_pad"):
            conv.attribute.remove(attribute)


def half(model: Graph) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def epsilon(model: Graph) -> None:
    [attribute] = [a for a in node(model, "bn3").attribute if a.name == "epsilon"]
    attribute.f = 1e-2


def permuted(w: np.ndarray) -> np.ndarray:
    return w[[1, 0, *range(2, len(w))]]


# What is changed, and the layer where it is.
MUTATIONS: dict[str, tuple[Callable[[Graph], object], str]] = {
    "one channel permuted": (lambda m: weights(m, "conv2/kernel", permuted), "conv2"),
    "bias dropped": (lambda m: weights(m, "conv3/bias", np.zeros_like), "conv3"),
    "one channel scaled by 1 %": (
        lambda m: weights(m, "conv1/kernel", lambda w: w * np.float32([1.01] + [1] * 7)[:, None, None, None]),
        "conv1",
    ),
    "statistics of two layers swapped": (swap_statistics, "bn1"),
    "another epsilon": (epsilon, "bn3"),
    "ReLU6 for ReLU": (relu6, "relu2"),
    "padding valid for same": (valid_padding, "conv3"),
    "float16 weights": (half, "conv1"),
    "kernel transposed": (lambda m: weights(m, "conv2/kernel", lambda w: w.swapaxes(2, 3)), "conv2"),
    "offset of a normalisation lost": (lambda m: weights(m, "bn2/beta", np.zeros_like), "bn2"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutation_fails_and_is_found(mutation: str, workdir: Path) -> None:
    """Each moves the output by more than 20 noise floors, fails the check, and the layer that is named is the one that was changed."""
    change, layer = MUTATIONS[mutation]
    report = held(workdir, changed(workdir, change))
    assert not report
    [logits] = [
        c
        for c in report.comparisons
        if c.actual == "onnx-inference@cpu" and c.reference == "keras-inference" and c.tensor == "logits"
    ]
    assert logits.noise_floors is not None
    assert logits.noise_floors > 20
    finding = codes(report)["EX001"]
    assert finding.layers == (layer,), finding.message
    assert next(entry for entry in report.layers if entry.name == layer).off
    assert report.findings[0] is finding


def test_our_own_file_passes(workdir: Path) -> None:
    """What the mutations are mutations of."""
    report = held(workdir, workdir / "net.onnx")
    assert report, report.findings
    assert not report.layers  # nothing to show
    assert held(workdir, workdir / "net.onnx", layers=True).layers


def test_an_error_that_does_not_reach_the_outputs_is_found(workdir: Path) -> None:
    """The outputs agree on these images within noise, and the layers say that the file is another: here, behind a unit that the next layer ignores."""

    def hide(model: Graph) -> None:
        weights(model, "conv2/kernel", lambda w: w * np.float32([1] * 7 + [0])[None, :, None, None])
        weights(model, "conv1/kernel", lambda w: w * np.float32([1] * 7 + [1.5])[:, None, None, None])

    net = small()
    kernel = np.array(net.get_layer("conv2").kernel)
    kernel[:, :, 7] = 0
    net.get_layer("conv2").kernel.assign(kernel)
    net.save(workdir / "deaf.keras")
    report = check(workdir / "deaf.keras", inputs=workdir / "data.npz", onnx=changed(workdir, hide))
    [logits] = [
        c
        for c in report.comparisons
        if c.actual == "onnx-inference@cpu" and c.reference == "keras-inference" and c.tensor == "logits"
    ]
    assert logits
    assert not report
    assert codes(report)["EX001"].layers == ("conv1",)


@pytest.mark.parametrize(("name", "layer"), [("conv/bias", "conv"), ("conv/kernel", "conv"), ("fused/bias", "fused")])
def test_weights_of_units_that_never_fire_are_found(name: str, layer: str, tmp_path: Path) -> None:
    """Other values of a unit that is negative for all of these images change nothing behind its ReLU, and may for others."""
    keras = nets._keras()
    k = keras.layers
    x = keras.Input((8, 8, 3), name="x")
    h = k.ReLU(name="relu")(k.Conv2D(4, 3, name="conv")(x))
    h = k.GlobalAveragePooling2D(name="mean")(k.Conv2D(4, 3, activation="relu", name="fused")(h))
    net = keras.Model(x, k.Dense(3, name="head")(h))
    for part in ("conv", "fused"):
        net.get_layer(part).bias.assign([0, 0, -60, 0])
    net.save(tmp_path / "net.keras")
    export(tmp_path / "net.keras", tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32))
    assert held(tmp_path, tmp_path / "net.onnx")
    file = changed(
        tmp_path, lambda m: weights(m, name, lambda w: w * np.float32([1, 1, 0.5, 1]).reshape(-1, *[1] * (w.ndim - 1)))
    )
    report = held(tmp_path, file)
    assert not report
    assert codes(report)["EX001"].layers == (layer,)
    assert "the outputs for these samples do not show it" in report.findings[0].message


@pytest.fixture(scope="module")
def other_export(workdir: Path) -> Path:
    """Plain tf2onnx: normalisation folded, other names, NHWC input, ends renamed."""
    import tensorflow as tf
    import tf2onnx

    path = workdir / "other_export.onnx"
    keras = nets._keras()
    spec = [tf.TensorSpec((None, 24, 24, 3), tf.float32, name="pixels")]
    tf2onnx.convert.from_keras(keras.models.load_model(workdir / "net.keras"), spec, opset=17, output_path=str(path))
    return path


def test_a_good_export_by_tf2onnx_passes(workdir: Path, other_export: Path) -> None:
    """Its normalisation is folded and its names are others; what it computes is right, and what differs is said."""
    report = held(workdir, other_export)
    assert report, report.findings
    assert any("called pixels" in text for text in codes(report)["EX004"].evidence["differences"])


@pytest.mark.parametrize(("weight", "layer"), [("lstm/lstm_cell/bias", "lstm"), ("gru/gru_cell/bias", "gru")])
def test_the_wrong_one_of_two_recurrent_layers_is_named(weight: str, layer: str, tmp_path: Path) -> None:
    """The first one gives its steps first to the second, in the order of the operators of ONNX."""
    keras = nets._keras()
    k = keras.layers
    x = keras.Input((7, 5), name="x")
    h = k.GRU(5, name="gru")(k.LSTM(6, return_sequences=True, name="lstm")(x))
    net = keras.Model(x, k.Dense(3, name="head")(h))
    for name in ("lstm", "gru"):
        bias = net.get_layer(name).cell.bias
        bias.assign(np.random.default_rng(0).normal(size=bias.shape))
    net.save(tmp_path / "net.keras")
    export(tmp_path / "net.keras", tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(4, 7, 5)).astype(np.float32))
    finding = codes(held(tmp_path, changed(tmp_path, lambda m: weights(m, weight, np.zeros_like))))["EX001"]
    assert finding.layers == (layer,), finding.message
    assert "its input agrees" in finding.message


def lower_ceiling(model: Graph) -> None:
    """ReLU2 for ReLU6."""
    clip = next(n for n in model.graph.node if n.op_type == "Clip")
    weights(model, clip.input[2], lambda x: x / 3)


def no_bias(model: Graph) -> None:
    """A convolution that adds nothing."""
    conv = next(n for n in model.graph.node if n.op_type == "Conv" and n.name.startswith("conv"))
    weights(model, conv.input[2], np.zeros_like)


@pytest.mark.parametrize(
    ("change", "layer", "words"),
    [
        (lower_ceiling, "relu6", "the layer relu6 (ReLU): its input agrees"),
        (no_bias, "conv", "the layer conv (Conv2D) or in bn, which may be folded into it: its input agrees"),
    ],
)
def test_folded_normalisations_are_not_blamed(
    change: Callable[[Graph], object], layer: str, words: str, tmp_path: Path
) -> None:
    """The convolution of a folded file holds what the normalisation behind it does: it is right where that is, and both are named where it is not."""
    keras = nets._keras()
    k = keras.layers
    x = keras.Input((8, 8, 3), name="x")
    h = k.BatchNormalization(name="bn")(k.Conv2D(4, 3, name="conv")(x))
    h = k.GlobalAveragePooling2D(name="mean")(k.ReLU(6.0, name="relu6")(h))
    net = nets.randomise(keras.Model(x, k.Dense(3, name="head")(h)))
    net.get_layer("bn").gamma.assign([8, 9, 10, 11])
    net.get_layer("conv").bias.assign([1, 2, 3, 4])
    net.save(tmp_path / "net.keras")
    export(tmp_path / "net.keras", tmp_path / "unfolded.onnx")
    fold(tmp_path / "unfolded.onnx", tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32))
    assert "EX001" not in codes(held(tmp_path, tmp_path / "net.onnx"))
    finding = codes(held(tmp_path, changed(tmp_path, change)))["EX001"]
    assert finding.layers == (layer,), finding.message
    assert words in finding.message


@pytest.mark.filterwarnings("ignore::FutureWarning")  # numpy's, met by Keras' exporter
def test_training_mode_baked_in(workdir: Path) -> None:
    """The same weights with training=True in a call, by Keras' own exporter: the training pass, and it depends on the batch."""
    baked = small(baked=True)
    keras = nets._keras()
    k = keras.layers
    x = keras.Input((24, 24, 3))
    h = x
    for layer in baked.layers[1:]:  # every normalisation in training mode
        h = layer(h, training=True) if isinstance(layer, k.BatchNormalization) else layer(h)
    net = keras.Model(x, h)
    net(np.zeros((2, 24, 24, 3), "float32"))
    net.export(workdir / "baked.onnx", format="onnx", verbose=False)
    report = held(workdir, workdir / "baked.onnx")
    assert not report
    assert {"EX003", "BN006"} <= set(codes(report))
    assert "EX001" not in codes(report)


def test_another_checkpoint(workdir: Path) -> None:
    """The same structure with other weights is named as such."""
    keras = nets._keras()
    other = small()
    keras.utils.set_random_seed(5)
    for layer in other.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(np.random.default_rng(9).normal(0, 0.2, layer.kernel.shape))
    other.save(workdir / "other.keras")
    export(workdir / "other.keras", workdir / "other.onnx")
    finding = codes(held(workdir, workdir / "other.onnx"))["EX005"]
    assert finding.evidence["kernels_other"] == finding.evidence["kernels_compared"] == 4


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            ("head/kernel", "head/bias"),
            "on axis 1 it holds the same values in another order: 0 holds 2, 1 holds 0, 2 holds 1",
        ),
        (("head/kernel",), "the file has head/kernel, of shape (6, 4), with its axis 1 in another order: 0 holds 2"),
    ],
)
def test_permuted_classes_of_one_kernel_are_no_other_checkpoint(
    parts: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """A single Dense layer whose columns are permuted holds the weights of the model, and the order is said."""
    keras = nets._keras()
    rng = np.random.default_rng(0)
    x = keras.Input((6,), name="x")
    net = keras.Model(x, keras.layers.Dense(4, "softmax", name="head")(x))
    net.get_layer("head").set_weights([rng.normal(size=(6, 4)), rng.normal(size=4)])
    net.save(tmp_path / "net.keras")
    export(tmp_path / "net.keras", tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(20, 6)).astype(np.float32))
    file = changed(tmp_path, lambda m: [weights(m, name, lambda w: w[..., [2, 0, 1, 3]]) for name in parts])
    first = held(tmp_path, file).findings[0]
    assert (first.code, first.layers) == ("EX001", ("head",)), first.message
    assert words in first.message
    assert tuple(first.evidence["kernel_permuted"]["order"]) == (2, 0, 1, 3)


def channels_first(model: Graph) -> None:
    """The input with its channels first."""
    [image] = model.graph.input
    old = image.name
    for reader in model.graph.node:
        reader.input[:] = ["moved" if name == old else name for name in reader.input]
    model.graph.node.insert(0, helper.make_node("Transpose", [old], ["moved"], perm=[0, 2, 3, 1]))
    image.CopyFrom(helper.make_tensor_value_info(old, TensorProto.FLOAT, ["N", 3, 24, 24]))


def fixed_batch(model: Graph) -> None:
    for info in [*model.graph.input, *model.graph.output]:
        info.type.tensor_type.shape.dim[0].dim_value = 3


def doubles(model: Graph) -> None:
    [image] = model.graph.input
    old = image.name
    for reader in model.graph.node:
        reader.input[:] = ["cast" if name == old else name for name in reader.input]
    model.graph.node.insert(0, helper.make_node("Cast", [old], ["cast"], to=TensorProto.FLOAT))
    image.type.tensor_type.elem_type = TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("change", "words"),
    [(channels_first, "channels first"), (fixed_batch, "batch size is fixed to 3"), (doubles, "is float64")],
)
def test_another_interface_is_allowed_for(change: Callable[[Graph], object], words: str, workdir: Path) -> None:
    """Layout, a fixed batch size that does not divide eight images, and dtype: the file passes, and the report says what differs."""
    report = held(workdir, changed(workdir, change))
    assert report, report.findings
    assert any(words in text for text in codes(report)["EX004"].evidence["differences"])


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_a_file_of_pixels_gets_them(workdir: Path, tmp_path: Path, kind: str) -> None:
    """V8: the file scales pixels itself: with images it passes, and EX004 says what it was fed; floats cannot be given to it."""

    def take_pixels(model: Graph) -> None:
        doubles(model)
        model.graph.input[0].type.tensor_type.elem_type = getattr(TensorProto, kind.upper())
        cast = model.graph.node[0]
        cast.output[0] = "grey"
        cast.attribute[0].i = TensorProto.FLOAT
        for name, value in (("half", 127.5), ("one", 1 if kind == "uint8" else -0.5 / 127.5)):
            model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
        model.graph.node.insert(1, helper.make_node("Div", ["grey", "half"], ["scaled"]))
        model.graph.node.insert(2, helper.make_node("Sub", ["scaled", "one"], ["cast"]))

    (tmp_path / "images").mkdir()
    for nth, image in enumerate(np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)):
        Image.fromarray(image).save(tmp_path / "images" / f"{nth}.png")
    file = changed(workdir, take_pixels)
    overrides = Overrides(scaling=Scaling.MINUS_ONE_ONE)
    request = Request(
        workdir / "net.keras", tmp_path / "images", onnx=file, overrides=overrides, store=Cache(workdir / "cache")
    )
    packing = pack(request, tmp_path / "bundle")
    assert packing, packing.refused
    [said] = [text for text in codes(packing.report)["EX004"].evidence["differences"] if f"is {kind}" in text]
    assert f"is fed the pixels before scaling{' minus 128' if kind == 'int8' else ''}, rounded" in said
    assert "IN006" not in codes(verify(tmp_path / "bundle", providers=["cpu"]))  # whose pictures become pixels, too
    with pytest.raises(InputError, match="the input image of the file takes integers"):
        held(workdir, file)


def rescaled_inside(model: Graph) -> None:
    [image] = model.graph.input
    for reader in model.graph.node:
        reader.input[:] = ["unit" if name == image.name else name for name in reader.input]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(255), "largest"))
    model.graph.node.insert(0, helper.make_node("Div", [image.name, "largest"], ["unit"]))


def reversed_channels(model: Graph) -> None:
    weights(model, "conv1/kernel", lambda w: w[:, ::-1])


def logits_only(model: Graph) -> None:
    softmax = model.graph.node[-1]
    assert softmax.op_type == "Softmax"
    softmax.op_type = "Identity"
    del softmax.attribute[:]


@pytest.mark.parametrize(
    ("change", "words"),
    [(rescaled_inside, "scaling none"), (reversed_channels, "order bgr"), (logits_only, "gives out the logits")],
)
def test_a_file_that_is_called_otherwise_is_told_how(
    change: Callable[[Graph], object], words: str, workdir: Path
) -> None:
    """Scaling baked in, channels reversed, softmax left out: a failure that says what would make it right."""
    report = held(workdir, changed(workdir, change))
    assert not report
    assert words in codes(report)["EX004"].message


@pytest.mark.parametrize("what", ["missing", "extra"])
def test_outputs_that_are_not_the_models(what: str, workdir: Path) -> None:
    """A file without an output, or with one more, fails."""

    def change(model: Graph) -> None:
        if what == "extra":
            model.graph.output.append(helper.make_tensor_value_info("head/logits", TensorProto.FLOAT, ["N", 4]))
        else:
            model.graph.output[0].name = "another"
            model.graph.node[-1].output[0] = "another"
            model.graph.output.append(helper.make_tensor_value_info("head/logits", TensorProto.FLOAT, ["N", 4]))

    report = held(workdir, changed(workdir, change))
    assert not report
    assert "no such output" in codes(report)["EX001"].message


def test_tolerances_by_hand(workdir: Path) -> None:
    """--rtol for one tensor or for all; what the failure suggests makes it pass; a tensor that is not there is refused."""
    from bnexport import UsageError

    file = changed(workdir, lambda m: weights(m, "head/bias", lambda b: b + np.float32([1.0, 0, 0, 0])))
    failed = [c for c in held(workdir, file).comparisons if not c and c.reference == "keras-inference"]
    suggested = {c.tensor: float(c.reason.rsplit(" ", 1)[1]) for c in failed}
    assert set(suggested) == {"logits", "probabilities"}
    passed = [c for c in held(workdir, file, rtol=suggested).comparisons if c.reference == "keras-inference"]
    assert all(c for c in passed if c.actual.startswith("onnx"))
    only = held(workdir, file, rtol={"logits": suggested["logits"]})
    assert {c.tensor for c in only.comparisons if not c and c.actual.startswith("onnx")} == {"probabilities"}
    with pytest.raises(UsageError, match="the tensor nonsense, which is not compared"):
        held(workdir, file, rtol={"nonsense": 1.0})


def test_a_model_that_only_others_can_export(tmp_path: Path) -> None:
    """A recurrent net, which bnexport cannot export: the file that plain tf2onnx wrote is held against Keras all the same, right and wrong."""
    import tensorflow as tf
    import tf2onnx

    keras = nets._keras()
    k = keras.layers
    x = keras.Input((6, 3), name="series")
    net = keras.Model(x, k.Dense(2, "softmax", name="head")(k.LSTM(4, name="lstm")(x)))
    net.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", series=nets.inputs_for(net, 5)[0])
    spec = [tf.TensorSpec((None, 6, 3), tf.float32, name="x")]
    model, _ = tf2onnx.convert.from_keras(net, spec, opset=17)
    onnx.save(model, tmp_path / "other_export.onnx")
    report = check(tmp_path / "net.keras", inputs=tmp_path / "data.npz", onnx=tmp_path / "other_export.onnx")
    assert report, report.findings
    head = next(t for t in model.graph.initializer if tuple(t.dims) == (4, 2))
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) + np.float32([0.01, 0]), head.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    wrong = check(tmp_path / "net.keras", inputs=tmp_path / "data.npz", onnx=tmp_path / "wrong.onnx")
    assert "EX001" in codes(wrong)


def test_a_saturated_unet_is_compared_before_its_sigmoid(tmp_path: Path) -> None:
    """D3: every pixel of the mask is 1, also with a last bias that is off by 1: the logits, laid out as each output is, show it."""
    keras = nets._keras()
    k = keras.layers
    x = keras.Input((8, 8, 1), name="x")
    skip = k.Conv2D(2, 3, padding="same", activation="relu")(x)
    low = k.Conv2D(4, 3, padding="same", activation="relu")(k.MaxPooling2D()(skip))
    h = k.Concatenate()([k.Conv2DTranspose(2, 2, strides=2)(low), skip])
    mask = k.Conv2D(1, 1, activation="sigmoid", bias_initializer=keras.initializers.Constant(60), name="mask")(h)
    laid_out = [k.Reshape((8, 8), name="squeezed"), k.Flatten(name="flat"), k.Permute((3, 1, 2), name="first")]
    keras.Model(x, [mask, *(layer(mask) for layer in laid_out)]).save(tmp_path / "net.keras")
    export(tmp_path / "net.keras", tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 1)).astype("float32"))
    right = check(tmp_path / "net.keras", inputs=tmp_path / "data.npz", onnx=tmp_path / "net.onnx")
    assert right, right.findings
    file = changed(tmp_path, lambda m: weights(m, "mask/bias", lambda b: b + 1))
    wrong = check(tmp_path / "net.keras", inputs=tmp_path / "data.npz", onnx=file)
    assert not wrong
    pairs = [c for c in wrong.comparisons if (c.actual, c.reference) == ("onnx-inference@cpu", "keras-inference")]
    differences = {c.tensor: c.difference.max_abs for c in pairs}
    for name in ("mask", "squeezed", "flat", "first"):
        assert differences[name] == 0
        assert differences[f"{name}/logits"] == pytest.approx(1, abs=1e-4)  # of 60, in float32


def test_weights_that_are_rounded_once_more_are_no_fault(tmp_path: Path) -> None:
    """Where large weights cancel, one unit in the last place of them is far more than the noise of the float32 pass.

    A file that rounds them passes, one that changes them fails.
    """
    keras = nets._keras()
    x = keras.Input((2,), name="x")
    net = keras.Model(x, keras.layers.Dense(4, use_bias=False, name="dense")(x))
    net.get_layer("dense").kernel.assign(np.repeat(np.float32([[1.01], [-1.0]]), 4, axis=1))
    net.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x=np.float32([[1, 1], [2, 2], [4, 4], [8, 8]]))  # exact in float32
    export(tmp_path / "net.keras", tmp_path / "net.onnx")
    for units, passes in ((1, True), (1000, False)):

        def move(kernel: np.ndarray, units: int = units) -> np.ndarray:
            moved = np.ascontiguousarray(kernel).view(np.int32).copy()
            moved.flat[0] += units
            return moved.view(np.float32)

        report = held(tmp_path, changed(tmp_path, lambda m, move=move: weights(m, "dense/kernel", move)))
        assert bool(report) == passes, str(report)
        assert "if a quarter of the weights move by one unit in the last place" in report.tolerance or not passes

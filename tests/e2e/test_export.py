"""Whatever Keras can build, the export computes, under onnxruntime's default optimisations, with every BatchNormalization kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bnexport.comparison import sides
from bnexport.exporter import native
from bnexport.exporter.conversion import graph_of
from bnexport.frameworks.keras import model as keras_model, passes as keras_passes
from bnexport.frameworks.keras.paths import layer_paths
from bnexport.keras_files.read import read_file
from bnexport.onnx_graph import metadata
from bnexport.onnx_graph.sites import sites
from bnexport.system.files import Format
from tests.e2e import nets

pytestmark = pytest.mark.keras

# Measured: the worst of all nets below is 2.8e-6 (EfficientNetB0) in inference and 2.5e-5 (InceptionV3) in training mode.
GREY_LEVELS = {
    "low": 0.0,
    "high": 255.0,
}  # some nets scale their input themselves: x / 128 - 1 leaves nothing of numbers around 0
INFERENCE, TRAINING, HALF = 2e-5, 1e-3, 2e-2


def exported_from_file(net: Any, folder: Path) -> tuple[keras_model.LoadedModel, onnx.ModelProto]:
    """A saved copy of a net as Keras loads it, and what is exported from the file alone."""
    nets.randomise(net).save(folder / "net.keras")
    model = native.graph_of(read_file(folder / "net.keras"), None)
    onnx.checker.check_model(model, full_check=True)
    return keras_model.load(folder / "net.keras", trust=True), model


def exported(net: Any) -> tuple[keras_model.LoadedModel, onnx.ModelProto]:
    loaded = keras_model.describe(nets.randomise(net), Path("net.keras"), Format.KERAS, "0" * 64)
    model = graph_of(loaded, None)
    onnx.checker.check_model(model, full_check=True)
    return loaded, model


def distances(loaded: keras_model.LoadedModel, model: onnx.ModelProto, count: int, **span: float) -> dict[str, float]:
    """The largest error of each mode relative to the tensor's scale, over all logits, and outputs that have none.

    Probabilities follow from logits: softmax and sigmoid may differ by half of what the logits do.
    """
    feeds = dict(zip([t.name for t in loaded.inputs], nets.inputs_for(loaded.keras, count, **span), strict=True))
    keras = {runner.mode: runner.compute(feeds) for runner in nets.runs_of(keras_passes.Passes(loaded).run)}
    found = {}
    for runner in sides.onnx_sides(model, ["cpu"]):
        ours = runner.compute(feeds)
        assert ours.keys() == keras[runner.mode].keys()
        errors = {n: (float(np.abs(ours[n] - r).max()), float(np.abs(r).max())) for n, r in keras[runner.mode].items()}
        for name, (error, _) in errors.items():
            if f"{name}/logits" in errors:
                assert error <= errors[f"{name}/logits"][0] / 2 + 1e-6
        found[runner.mode] = max(e / scale for n, (e, scale) in errors.items() if f"{n}/logits" not in errors)
    return found


@pytest.mark.parametrize("route", ["file", "trace"])
@pytest.mark.parametrize("name", nets.BUILDERS)
def test_special_nets_match(name: str, route: str, tmp_path: Path) -> None:
    """Every way of using BatchNormalization exports to nodes of that name, and both modes compute what Keras computes, by either route.

    The graph that is made of the file has no more nodes than the traced one.
    """
    net = nets.BUILDERS[name]()
    loaded, model = exported(net)
    if route == "file":
        traced, (loaded, model) = model, exported_from_file(net, tmp_path)
        assert len(model.graph.node) <= len(traced.graph.node)
    found = distances(loaded, model, 5)
    half = name == "mixed-float16"
    assert found["inference"] < (HALF if half else INFERENCE)
    assert found["training"] < (HALF if half else TRAINING)
    keras_names = {
        layer_paths(loaded.keras)[id(layer)]
        for layer in loaded.keras._flatten_layers()
        if type(layer).__name__ == "BatchNormalization"
    }
    assert {site.name.split("#")[0] for site in sites(model)} == keras_names
    assert len(sites(model)) == {"shared": 2, "grouped": 3}.get(name, loaded.layers)


USUALLY = int(os.environ.get("BNEXPORT_SEEDS", "1")) == 1
"""Whether it is the usual run; with BNEXPORT_SEEDS=3 every net has its turn."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ConvNeXtTiny"] if USUALLY else ["ConvNeXtTiny", "InceptionResNetV2"])
def test_families_match(name: str, tmp_path: Path) -> None:
    """These families of keras.applications, too; the others in test_floors.py."""
    assert_family_matches(*exported_from_file(nets.FAMILIES[name](), tmp_path))


def assert_family_matches(loaded: keras_model.LoadedModel, model: onnx.ModelProto) -> None:
    """A small variant of a family that was exported from its file matches in both modes."""
    found = distances(loaded, model, 6, **GREY_LEVELS)
    assert found["inference"] < INFERENCE
    assert found.get("training", 0.0) < TRAINING
    assert len(sites(model)) == loaded.layers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNet"] if USUALLY else nets.FULL_SIZE)
def test_full_size_nets_match(name: str, tmp_path: Path) -> None:
    """The same at the size people use."""
    keras = nets._keras()
    loaded, model = exported_from_file(getattr(keras.applications, name)(weights=None), tmp_path)
    assert distances(loaded, model, 2, **GREY_LEVELS)["inference"] < INFERENCE
    keras.backend.clear_session()


def test_any_batch_size_gives_the_same_logits() -> None:
    """The exported graph does not depend on how many images share a batch."""
    loaded, model = exported(nets.sequential())
    [x] = nets.inputs_for(loaded.keras, 7)
    [inference] = [r for r in sides.onnx_sides(model, ["cpu"]) if r.mode == "inference"]
    name = loaded.inputs[0].name
    whole = inference.compute({name: x})[f"{loaded.outputs[0]}/logits"]
    for size in (1, 3):
        parts = [inference.compute({name: x[i : i + size]})[f"{loaded.outputs[0]}/logits"] for i in range(0, 7, size)]
        np.testing.assert_allclose(
            np.concatenate(parts), whole, rtol=0, atol=1e-6 * np.abs(whole).max()
        )  # float32 rounding of another blocking


def test_nodes_say_what_they_are() -> None:
    """A BatchNormalization node carries its layer's momentum, axis and whether it is frozen; its weights their Keras paths."""
    loaded, model = exported(nets.frozen())
    [site] = sites(model)
    assert site.frozen
    assert site.momentum == 0.99
    assert (site.gamma, site.mean) == (f"{site.name}/gamma", f"{site.name}/moving_mean")
    [node] = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    assert metadata.read(node, "axis") == 3
    stored = {t.name for t in model.graph.initializer}
    assert {f"{layer.name}/kernel" for layer in loaded.keras.layers if hasattr(layer, "kernel")} <= stored
    assert metadata.read(model, "source")["sha256"] == "0" * 64
    assert set(metadata.read(model, "versions")) == {"bnexport", "keras", "tensorflow", "tf2onnx"}


def test_frozen_layers_run_on_moving_statistics_in_training_mode() -> None:
    """Where every layer is frozen, the training pass equals the inference pass, in Keras and in the twin."""
    loaded, model = exported(nets.frozen())
    feeds = {loaded.inputs[0].name: nets.inputs_for(loaded.keras, 4)[0]}
    for runners in (nets.runs_of(keras_passes.Passes(loaded).run), sides.onnx_sides(model, ["cpu"])):
        inference, training = (runner.compute(feeds) for runner in runners)
        for name, value in inference.items():
            np.testing.assert_array_equal(training[name], value)


def test_passes_change_nothing() -> None:
    """Neither pass moves a statistic, counts a seed, or turns dropout on."""
    loaded, _ = exported(nets.random_layers())
    before = [v.numpy() for v in loaded.keras.variables]
    feeds = {loaded.inputs[0].name: nets.inputs_for(loaded.keras, 4)[0]}
    runners = nets.runs_of(keras_passes.Passes(loaded).run)
    first, second = ([runner.compute(feeds) for runner in runners] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])
    for was, variable in zip(before, loaded.keras.variables, strict=True):
        np.testing.assert_array_equal(was, variable.numpy())


def test_inference_pass_is_predict() -> None:
    """The inference pass computes what `predict` computes, also where a layer was called with training=True."""
    keras = nets._keras()
    x = keras.Input((4,))
    net = nets.randomise(keras.Model(x, keras.layers.BatchNormalization()(x, training=True)))
    loaded = keras_model.describe(net, Path("net.keras"), Format.KERAS, "0" * 64)
    data = nets.inputs_for(net, 6)[0]
    ours = keras_passes.Passes(loaded).run("inference", {loaded.inputs[0].name: data})
    np.testing.assert_allclose(ours[loaded.outputs[0]], net.predict(data, verbose=0), rtol=1e-6)


def test_training_pass_is_keras_training_mode() -> None:
    """Without random layers, the training pass is what `fit` computes."""
    net = nets.randomise(nets.sequential())
    loaded = keras_model.describe(net, Path("net.keras"), Format.KERAS, "0" * 64)
    data = nets.inputs_for(net, 6)[0]
    ours = keras_passes.Passes(loaded).run("training", {loaded.inputs[0].name: data})
    theirs = net(data, training=True).numpy()
    np.testing.assert_allclose(ours[loaded.outputs[0]], theirs, rtol=1e-5)


def test_an_operator_that_cannot_be_exported_is_named() -> None:
    """EX002 names the operator; no half-converted graph comes out."""
    from bnexport.errors import ExportError

    keras = nets._keras()
    import tensorflow as tf

    class Determinant(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return tf.linalg.eigh(x)[0]

    x = keras.Input((3, 3))
    net = keras.Model(x, Determinant(name="eigen")(x))
    loaded = keras_model.describe(net, Path("net.keras"), Format.KERAS, "0" * 64)
    with pytest.raises(ExportError, match=r"EX002.*SelfAdjointEigV2 in the layer eigen"):
        graph_of(loaded, None)

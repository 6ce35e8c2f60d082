"""A model file in the other container of Keras, written without Keras: Keras reads the same model from both."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bnexport.errors import InputError
from bnexport.keras_files import conversion
from bnexport.keras_files.graph import network
from bnexport.keras_files.layers import UnclearFile
from bnexport.keras_files.portable import layer_order
from bnexport.keras_files.read import read_file
from bnexport.keras_files.statistics import write_statistics
from bnexport.types import Array
from tests.e2e import nets
from tests.e2e.test_keras_files import LAYERS, _model
from tests.exported import feeds_for, randomise

pytestmark = pytest.mark.keras

WITHOUT_WEIGHTS = ("Dropout", "Normalization, given")
CASES = [case for case in LAYERS if "bfloat16" not in case and case not in WITHOUT_WEIGHTS]  # bfloat16 is not in HDF5

SAY_LESS = {
    **{name: "which function" for name in nets.BUILDERS if name.startswith("rank")},
    "negative-pool": "which function",
    "dict-inputs": "which function",
    "MobileNetV3Small": "which function",
    "ConvNeXtTiny": "which function",
    "InceptionResNetV2": "in which module",
}
"""Nets whose .h5 files do not say all that a model is made of: Keras itself cannot load them."""


def _outputs(model: Any) -> list[Array]:
    import keras

    feeds = feeds_for(model, 2, sides=(64, 64, 5))
    structure = getattr(model, "_inputs_struct", None)
    arrays = [feeds[tensor.name] for tensor in model.inputs]
    packed = keras.tree.pack_sequence_as(structure, arrays) if structure is not None else arrays[0]
    return [np.asarray(output) for output in keras.tree.flatten(model(packed, training=False))]


def _answers(path: Path) -> list[Array]:
    """What Keras answers with the model in a file."""
    import keras

    return _outputs(keras.models.load_model(path, compile=False))


def _same_bits(actual: list[Array], expected: list[Array]) -> None:
    assert len(actual) == len(expected)
    for made, wanted in zip(actual, expected, strict=True):
        assert (made.shape, made.dtype) == (wanted.shape, wanted.dtype)
        assert made.tobytes() == wanted.tobytes()


def _new_statistics(path: Path) -> dict[str, Array]:
    """Other moving statistics for every BatchNormalization layer of a file."""
    rng = np.random.default_rng(3)
    return {
        f"{layer.path}/{name}": rng.uniform(0.5, 2, weight.shape).astype(np.float32)
        for layer in read_file(path).model.walk()
        for name, weight in layer.weights.items()
        if layer.kind == "BatchNormalization" and name in ("moving_mean", "moving_variance")
    }


def _converted(source: Path) -> Path:
    """The other container with the same model, but for new moving statistics, which `source` gets, too."""
    values = _new_statistics(source)
    target = source.with_suffix(".keras" if source.suffix == ".h5" else ".h5")
    conversion.convert(read_file(source), values, target)
    same = source.with_name(f"same{source.suffix}")
    write_statistics(read_file(source), values, same)
    same.replace(source)
    return target


def _layout(path: Path) -> dict[str, tuple[str, bytes]]:
    """Every dataset in an archive's weights."""
    datasets: dict[str, tuple[str, bytes]] = {}
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as stream, h5py.File(stream) as file:

        def note(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                datasets[name] = (str(node.dtype), node[()].tobytes())

        file.visititems(note)
    return datasets


ADDED = {"build_config", "compile_config", "shared_object_id"}


def _essence(value: Any) -> Any:
    """A configuration without what Keras adds to it and does not need.

    That are the shapes for which layers were built (their graph has them), an empty compile_config, which initializers are the same
    object, and a list around a single axis.
    """
    if isinstance(value, dict):
        kept = {key: _essence(part) for key, part in value.items() if key not in ADDED}
        axis = kept.get("axis")
        return kept | ({"axis": axis[0]} if isinstance(axis, list) and len(axis) == 1 else {})
    return [_essence(part) for part in value] if isinstance(value, list) else value


def _to_archive(source: Path) -> Path:
    """A HDF5 file as an archive, which is held against the one that Keras writes of the model in the HDF5 file."""
    import keras

    made, expected = _converted(source), source.with_name("expected.keras")
    loaded = keras.models.load_model(source, compile=False)
    loaded.save(expected)
    assert _layout(made) == _layout(expected)
    configs = [_essence(json.loads(zipfile.ZipFile(path).read("config.json"))) for path in (made, expected)]
    assert configs[0] == configs[1]
    answers = _answers(made)
    _same_bits(answers, _answers(expected))
    inside = [layer for layer in read_file(made).model.walk() if layer.kind == "Normalization" and "/" in layer.path]
    if not inside:  # Keras leaves their statistics at 0 and 1 when it loads them from HDF5
        _same_bits(answers, _outputs(loaded))
    return made


@pytest.mark.parametrize("case", CASES)
def test_every_layer(case: str, tmp_path: Path) -> None:
    """A layer three times, trained, frozen and in a nested model, into an archive and back: Keras answers the same to the last bit."""
    model = _model(*LAYERS[case])
    randomise(model)
    source = tmp_path / "model.h5"
    model.save(source)
    made = _to_archive(source)
    if case == "SpectralNormalization":  # an archive has one of its weights twice
        with pytest.raises(UnclearFile, match="more than the weights"):
            conversion.convert(read_file(made), {}, tmp_path / "back.h5")
        return
    if case in ("Normalization", "Pipeline"):  # as above
        with pytest.raises(InputError, match=r"inside of other layers, .*: write a \.keras file"):
            conversion.convert(read_file(made), {}, tmp_path / "back.h5")
        return
    back = _converted(made)
    _same_bits(_answers(back), _answers(made))


@pytest.mark.parametrize("form", ["h5", "keras"])
def test_axes_that_keras_ignores_in_hdf5_files_are_kept(form: str, tmp_path: Path) -> None:
    """Keras answers from what is written as the model does, in both directions."""
    import keras

    k = keras.layers
    model = keras.Sequential(
        [keras.Input((5, 4)), k.Dense(4), k.LayerNormalization(axis=[1, 2]), k.Softmax(axis=[1, 2])]
    )
    randomise(model)
    model.save(tmp_path / f"model.{form}")
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    written = keras.models.load_model(_converted(tmp_path / f"model.{form}"), compile=False)
    np.testing.assert_allclose(np.asarray(written(x)), np.asarray(model(x)), rtol=1e-5)


def _round(net: Any, name: str, tmp_path: Path) -> None:
    source = tmp_path / "model.h5"
    net.save(source)
    if name in SAY_LESS:
        with pytest.raises(UnclearFile, match=SAY_LESS[name]):
            conversion.convert(read_file(source), {}, tmp_path / "made.keras")
        with pytest.raises((ValueError, TypeError)):
            _answers(source)
        assert not (tmp_path / "made.keras").exists()
    else:
        _to_archive(source)
    archive = tmp_path / "saved.keras"
    net.save(archive)
    if name != "InceptionResNetV2":  # its class is not registered where it is looked up by name
        _same_bits(_answers(_converted(archive)), _answers(archive))


@pytest.mark.parametrize("name", nets.BUILDERS)
def test_nets(name: str, tmp_path: Path) -> None:
    """Nested and shared layers, several inputs and outputs, frozen and random layers, operations, mixed precision; both ways."""
    _round(nets.randomise(nets.BUILDERS[name]()), name, tmp_path)


ALL = int(os.environ.get("BNEXPORT_SEEDS", "1")) > 1
"""Whether there is time for every family."""

USUALLY = ("DenseNet121", "EfficientNetB0", "MobileNetV3Small", "ResNet50V2")


@pytest.mark.slow
@pytest.mark.parametrize("name", nets.FAMILIES if ALL else USUALLY)
def test_families(name: str, tmp_path: Path) -> None:
    """One network of each family of keras.applications, both ways; a few, or all (BNEXPORT_SEEDS=3)."""
    _round(nets.randomise(nets.FAMILIES[name]()), name, tmp_path)


@pytest.mark.parametrize("name", nets.BUILDERS)
def test_the_order_of_layers_is_that_of_keras(name: str, tmp_path: Path) -> None:
    """The numbers in an archive rest on it."""
    model = nets.BUILDERS[name]()
    if type(model).__name__ == "Sequential":
        pytest.skip("a Sequential model has the order of its list")
    model.save(tmp_path / "model.keras")
    names = [operation.name for operation in model.operations if type(operation).__name__ != "InputLayer"]
    assert layer_order(network(read_file(tmp_path / "model.keras").model)) == names


def test_how_it_was_compiled_is_left_out(tmp_path: Path) -> None:
    """As Keras leaves it out of a model that it has loaded without compiling it; the state of the optimizer, too."""
    import keras

    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.BatchNormalization()(keras.layers.Dense(3)(x)))
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.zeros((2, 4)), np.zeros((2, 3)), verbose=0)
    model.save(tmp_path / "model.h5")
    model.save(tmp_path / "compiled.keras")
    assert any(name.startswith("optimizer") for name in _layout(tmp_path / "compiled.keras"))
    assert keras.models.load_model(_converted(tmp_path / "compiled.keras")).compiled is False
    made = _to_archive(tmp_path / "model.h5")
    assert not any(name.startswith("optimizer") for name in _layout(made))
    assert keras.models.load_model(_converted(made)).compiled is False

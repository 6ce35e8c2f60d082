"""Keras files that say one thing and hold another: read as Keras reads them, or refused; never read as something else."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bnexport.errors import InputError
from bnexport.exporter.native import graph_of
from bnexport.exporter.protocols import NotConverted
from bnexport.keras_files import architecture
from bnexport.keras_files.read import read_file
from tests.exported import randomise

pytestmark = pytest.mark.keras

X = np.random.default_rng(3).normal(size=(3, 6)).astype(np.float32)
ROOT = "model_weights"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A model of layers of one size as b.h5, b.keras and b.json, and its answers."""
    import keras

    x = keras.Input((6,), name="x")
    y = keras.layers.Dense(6, activation="relu", name="a")(x)
    y = keras.layers.BatchNormalization(name="bn")(keras.layers.Dense(6, name="b")(y))
    model = keras.Model(x, keras.layers.Dense(6, name="c")(y))
    randomise(model)
    folder = tmp_path_factory.mktemp("hostile")
    model.save(folder / "b.h5")
    model.save(folder / "b.keras")
    model.save_weights(folder / "b.weights.h5")
    (folder / "b.json").write_text(model.to_json())
    return folder, np.asarray(model(X))


def answers(path: Path) -> Any:
    """What the exported graph computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph_of(read_file(path), None).SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: X})[0]


Change = Callable[[h5py.File], None]


def changed_h5(folder: Path, target: Path, change: Change) -> Path:
    """A copy of b.h5 with other content."""
    shutil.copy(folder / "b.h5", target / "m.h5")
    with h5py.File(target / "m.h5", "r+") as file:
        change(file)
    return target / "m.h5"


def changed_keras(folder: Path, target: Path, change: Change | Callable[[Any], None], *, config: bool = False) -> Path:
    """A copy of b.keras with other weights, or another configuration."""
    with zipfile.ZipFile(folder / "b.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if config:
        layers = json.loads(parts["config.json"])
        change(layers)
        parts["config.json"] = json.dumps(layers).encode()
    else:
        stream = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(stream, "r+") as file:
            change(file)
        parts["model.weights.h5"] = stream.getvalue()
    with zipfile.ZipFile(target / "m.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target / "m.keras"


def listed(attribute: str, names: list[str], group: str = "") -> Change:
    """Other names in an attribute of the weights."""
    return lambda file: file[f"{ROOT}/{group}"].attrs.__setitem__(attribute, [name.encode() for name in names])


def stored(path: str, make: Callable[[Any], Any], **options: Any) -> Change:
    """A dataset with other values, of another type, or stored in another way."""

    def change(file: h5py.File) -> None:
        values = file[path][()]
        del file[path]
        file.create_dataset(path, data=make(values), **options)

    return change


def linked(path: str, link: Callable[[h5py.File], Any]) -> Change:
    """A link in the place of a dataset or a group."""

    def change(file: h5py.File) -> None:
        del file[path]
        file[path] = link(file)

    return change


def moved(*pairs: tuple[str, str]) -> Change:
    """Datasets or groups under other names."""

    def change(file: h5py.File) -> None:
        for old, new in pairs:
            file.move(old, new)

    return change


KERNEL, BIAS, SCALE = f"{ROOT}/a/a/kernel", f"{ROOT}/a/a/bias", f"{ROOT}/bn/bn/gamma"
STATISTICS = [f"bn/{name}" for name in ("gamma", "beta", "moving_variance", "moving_mean")]
REFUSED_H5: dict[str, tuple[Change, str]] = {
    "a layer less": (listed("layer_names", ["x", "b", "bn", "c"]), "weights of other layers"),
    "a layer twice": (listed("layer_names", ["x", "a", "a", "bn", "c"]), "weights of other layers"),
    "an unknown layer": (listed("layer_names", ["x", "a", "z", "bn", "c"]), "lists the layer z"),
    "weights in another order": (listed("weight_names", ["a/bias", "a/kernel"], "a"), "in an order"),
    "statistics in another order": (listed("weight_names", STATISTICS, "bn"), "in an order"),
    "another layer's weight": (listed("weight_names", ["../b/b/kernel", "a/bias"], "a"), "lists the weight"),
    "a missing weight": (listed("weight_names", ["a/kernel", "a/z"], "a"), "lists the weight a/z"),
    "a soft link": (linked(KERNEL, lambda _: h5py.SoftLink(f"/{ROOT}/b/b/kernel")), "lists the weight a/kernel"),
    "an external link": (linked(KERNEL, lambda _: h5py.ExternalLink("o.h5", "/x")), "refers to another file"),
    "a flat kernel": (stored(KERNEL, np.ravel), "kernel of another size"),
    "a narrow kernel": (stored(KERNEL, lambda v: v[:, :5]), "kernel of another size"),
    "a deep kernel": (stored(KERNEL, lambda v: v[..., None]), "kernel of another size"),
    "one bias for all": (stored(BIAS, lambda v: v[:1]), "bias of another size"),
    "a bias without axes": (stored(BIAS, lambda v: v[0]), "bias of another size"),
    "a matrix of biases": (stored(BIAS, lambda v: np.tile(v, (6, 1))), "bias of another size"),
    "one scale for all": (stored(SCALE, lambda v: v[:1]), "weights of different sizes"),
    "no values": (lambda f: (f.__delitem__(KERNEL), f.create_dataset(KERNEL, data=h5py.Empty("f4")))[0], "without values"),
    "words": (stored(KERNEL, lambda v: np.full(v.shape, b"ab", object), dtype=h5py.string_dtype()), "not numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_H5)
def test_weights_that_are_not_where_a_file_says_are_refused(case: str, files: tuple[Path, Any], tmp_path: Path) -> None:
    """Keras refuses these, or reads other weights than their names say: the sentence says what does not fit."""
    change, reason = REFUSED_H5[case]
    with pytest.raises((InputError, NotConverted), match=reason):
        answers(changed_h5(files[0], tmp_path, change))


FIRST, SECOND = "layers/dense/vars", "layers/dense_1/vars"
REFUSED_KERAS: dict[str, tuple[Change, str]] = {
    "numbers from 1 on": (moved((f"{FIRST}/1", f"{FIRST}/2"), (f"{FIRST}/0", f"{FIRST}/1")), "not numbered from 0"),
    "names for numbers": (moved((f"{FIRST}/0", f"{FIRST}/kernel")), "not numbered from 0"),
    "a weight more": (lambda file: file.__setitem__(f"{FIRST}/2", np.ones(3)), "other weights in the file"),
    "a weight less": (lambda file: file.__delitem__(f"{FIRST}/1"), "other weights in the file"),
    "swapped": (moved((f"{FIRST}/0", f"{FIRST}/t"), (f"{FIRST}/1", f"{FIRST}/0"), (f"{FIRST}/t", f"{FIRST}/1")), "kernel of another size"),
    "a soft link": (linked("layers/dense", lambda _: h5py.SoftLink("/layers/dense_1")), "other weights in the file"),
    "a false bfloat16": (lambda file: file[f"{FIRST}/0"].attrs.__setitem__("dtype", "bfloat16"), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_KERAS)
def test_archives_with_other_weights_than_their_layers_are_refused(
    case: str, files: tuple[Path, Any], tmp_path: Path
) -> None:
    """Only what Keras finds by number is read; a dtype that is no bfloat16 stays what it is."""
    change, reason = REFUSED_KERAS[case]
    path = changed_keras(files[0], tmp_path, change)
    if not reason:
        np.testing.assert_allclose(answers(path), files[1], atol=1e-5)
        return
    with pytest.raises((InputError, NotConverted), match=reason):
        answers(path)


SAME: dict[str, Change] = {
    "float64": stored(KERNEL, lambda v: v.astype("f8")),
    "big-endian": stored(KERNEL, lambda v: v.astype(">f4")),
    "compressed": stored(KERNEL, lambda v: v, chunks=True, compression="gzip", shuffle=True, fletcher32=True),
    "compressed and big-endian": stored(KERNEL, lambda v: v.astype(">f8"), chunks=(2, 3), compression="lzf"),
    "a hard link": linked(KERNEL, lambda file: file.create_dataset("own", data=file[f"{ROOT}/c/c/kernel"][()] * 0 + 1)),
}


@pytest.mark.parametrize("case", SAME)
def test_values_are_read_however_they_are_stored(case: str, files: tuple[Path, Any], tmp_path: Path) -> None:
    """Other types, byte orders and filters, and links inside of the file."""
    path = changed_h5(files[0], tmp_path, SAME[case])
    with h5py.File(path) as file:
        whole = file[KERNEL][()].astype("f4")
    read = {layer.path: layer for layer in read_file(path).model.walk()}
    np.testing.assert_array_equal(read["a"].array("kernel").astype("f4"), whole)
    if "link" not in case:
        np.testing.assert_allclose(answers(path), files[1], atol=1e-5)


def of_layer(name: str, key: str, value: Any) -> Callable[[Any], None]:
    """Another entry in the configuration of a layer."""

    def change(config: Any) -> None:
        [layer] = [entry for entry in config["config"]["layers"] if entry["config"]["name"] == name]
        layer["config"][key] = value

    return change


CONFIGURATIONS: dict[str, tuple[Callable[[Any], None], str]] = {
    "no layers": (lambda c: c["config"].__setitem__("layers", None), "has no list of layers"),
    "a number for layers": (lambda c: c["config"].__setitem__("layers", float("nan")), "has no list of layers: found nan"),
    "layers backwards": (lambda c: c["config"]["layers"].reverse(), "not in the order"),
    "a layer too early": (lambda c: c["config"]["layers"].insert(1, c["config"]["layers"].pop(2)), "not in the order"),
    "fewer units": (of_layer("b", "units", 5), "kernel of another size"),
    "no bias": (of_layer("b", "use_bias", False), "other weights in the file"),
    "an axis that is none": (of_layer("bn", "axis", 5), "axis 5 of a value with 2 axes"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_configurations_that_do_not_fit_the_weights_are_refused(
    case: str, files: tuple[Path, Any], tmp_path: Path
) -> None:
    """Layers in another order have other weights in Keras; sizes and axes must be those of the weights."""
    change, reason = CONFIGURATIONS[case]
    with pytest.raises((InputError, NotConverted), match=reason):
        answers(changed_keras(files[0], tmp_path, change, config=True))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (of_layer("c", "units", 7), "kernel of another size"),
        (of_layer("b", "use_bias", False), "other weights"),
        (lambda config: config["config"]["layers"].reverse(), "not in the order"),
    ],
)
def test_an_architecture_that_nearly_fits_is_refused(
    change: Callable[[Any], None], reason: str, files: tuple[Path, Any], tmp_path: Path
) -> None:
    """It must have the sizes of the weights, all of them, in the order of its layers."""
    config = json.loads((files[0] / "b.json").read_text())
    change(config)
    (tmp_path / "other.json").write_text(json.dumps(config))
    with pytest.raises((InputError, NotConverted), match=reason):
        graph_of(read_file(files[0] / "b.weights.h5", architecture.read(tmp_path / "other.json")), None)

"""Files written by Keras 2 itself (the tf_keras package): each loads, and computes what Keras 2 computed."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest

from bnexport import check, export
from bnexport.datasets.npz import only_input
from bnexport.errors import InputError, UsageError
from bnexport.frameworks.keras import model as keras_model
from bnexport.frameworks.keras.file import rewrite
from bnexport.frameworks.keras.passes import Passes
from bnexport.keras_files import container as keras_container
from bnexport.runtimes import ort_session
from bnexport.system.files import Format
from tests.e2e import keras2_files, old_formats

pytestmark = [pytest.mark.keras, pytest.mark.slow]

NETS = ["convlstm", "lstm", "gru", "nested", "transfer", "wrapped", "groups", "dense"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files, from one process of Keras 2."""
    if find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not installed")
    folder = tmp_path_factory.mktemp("keras2")
    subprocess.run([sys.executable, keras2_files.__file__, str(folder)], check=True, capture_output=True)
    return folder


def agrees(path: Path, files: Path, name: str) -> keras_model.LoadedModel:
    """Loads a file and holds it against Keras 2: 1e-5 of the scale of the output, float32 in another order."""
    loaded = keras_model.load(path)
    with np.load(files / f"{name}.npz") as data:
        actual = Passes(loaded).run("inference", {loaded.inputs[0].name: data["x"]})[loaded.outputs[0]]
        assert np.abs(actual - data["y"]).max() <= 1e-5 * np.abs(data["y"]).max()
    return loaded


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", NETS)
def test_what_keras_2_wrote_computes_what_keras_2_computed(name: str, suffix: str, files: Path) -> None:
    """In both formats: the old hard_sigmoid, nested models, wrapped layers, arguments that are gone, modules that moved."""
    loaded = agrees(files / f"{name}{suffix}", files, name)
    old = [note for note in loaded.repairs if "hard_sigmoid" in note]
    assert bool(old) == (name in ("convlstm", "lstm", "gru"))
    if name == "dense":
        assert loaded.iterations == 2


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", NETS)
def test_the_other_container_is_written_without_keras(name: str, suffix: str, files: Path, tmp_path: Path) -> None:
    """It needs no repairs any more, and Keras answers from both files the same to the last bit; an old hard_sigmoid goes through Keras."""
    target = tmp_path / f"made{'.keras' if suffix == '.h5' else '.h5'}"
    source = files / f"{name}{suffix}"
    if name in ("convlstm", "lstm", "gru"):
        assert not rewrite(source, None, {}, target)
        assert not target.exists()
        return
    assert rewrite(source, None, {}, target)
    made, loaded = agrees(target, files, name), agrees(source, files, name)
    assert made.repairs == ()
    with np.load(files / f"{name}.npz") as data:
        actual, expected = (Passes(each).run("inference", {each.inputs[0].name: data["x"]}) for each in (made, loaded))
    for one, other in zip(actual.values(), expected.values(), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_an_old_hard_sigmoid_is_saved_as_one(suffix: str, files: Path, tmp_path: Path) -> None:
    """A saved copy loads with the same numbers, a format that cannot say it is refused, and float64 works."""
    loaded = agrees(files / f"convlstm{suffix}", files, "convlstm")
    keras_model.save_with(loaded, {}, tmp_path / f"again{suffix}")
    agrees(tmp_path / f"again{suffix}", files, "convlstm")
    with np.load(files / "convlstm.npz") as data:
        wide = Passes(loaded).run_in_float64("inference", {loaded.inputs[0].name: data["x"]})[loaded.outputs[0]]
        assert wide.dtype == np.float64
        assert np.abs(wide - data["y"]).max() <= 1e-5
    with pytest.raises(InputError, match="hard_sigmoid"):
        keras_model.save_with(loaded, {}, tmp_path / ("other.keras" if suffix == ".h5" else "other.h5"))


def old_hard_sigmoid(x: np.ndarray) -> np.ndarray:
    """What Keras 1 and 2 called hard_sigmoid."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def test_an_old_hard_sigmoid_is_exported_as_one(files: Path, tmp_path: Path) -> None:
    """L4: the exported graph, in the gates of an LSTM and as the last activation, computes NumPy's clip(0.2 x + 0.5, 0, 1), and EX006 says so."""
    path = files / "lstm.h5"
    with np.load(files / "lstm.npz") as data, h5py.File(path) as file:
        x = data["x"]
        layers = [file["model_weights"][name] for name in ("lstm", "dense_1")]
        kernel, recurrent, bias, head, shift = (
            layer[name][()].astype(np.float64) for layer in layers for name in layer.attrs["weight_names"]
        )
    h = cell = np.zeros((len(x), 4))
    for step in range(x.shape[1]):
        i, f, c, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        cell = old_hard_sigmoid(f) * cell + old_hard_sigmoid(i) * np.tanh(c)
        h = old_hard_sigmoid(o) * np.tanh(cell)
    export(path, tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    session = ort_session.Session(tmp_path / "net.onnx")
    [actual] = session.run({graph.input[0].name: x}, [graph.output[0].name]).values()
    np.testing.assert_allclose(actual, old_hard_sigmoid(h @ head + shift), rtol=0, atol=1e-6)  # float32, of 1
    np.savez(tmp_path / "data.npz", **{graph.input[0].name: x})
    report = check(path, inputs=tmp_path / "data.npz", providers=["cpu"])
    assert report, str(report)
    [finding] = [finding for finding in report.findings if finding.code == "EX006"]
    assert "hard_sigmoid is computed as before Keras 3, clip(0.2 x + 0.5, 0, 1)" in finding.message


def without(path: Path, *keys: str, version: str) -> None:
    """Drops arguments from every layer of an HDF5 file, as a Keras that did not know them."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(part) for part in value]
        return {k: plain(v) for k, v in value.items() if k not in keys} if isinstance(value, dict) else value

    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(plain(json.loads(file.attrs["model_config"])))
        file.attrs["keras_version"] = version


@pytest.mark.parametrize("name", ["gru", "lstm", "convlstm"])
def test_defaults_of_their_time(name: str, files: Path, tmp_path: Path) -> None:
    """Where a file by Keras 2.1 says nothing, the defaults of Keras 2.1 count."""
    path = tmp_path / "old.h5"
    path.write_bytes((files / f"{name}.h5").read_bytes())
    without(path, "recurrent_activation", "reset_after", version="2.1.6")
    agrees(path, files, name)
    if name == "lstm":
        without(path, "recurrent_activation", version="2.2.4-tf")  # TensorFlow 1 and 2 both wrote this
        with pytest.raises(InputError, match="has no recurrent_activation"):
            keras_model.load(path)


def windows(name: str) -> str:
    return name.replace("/", "\\", 1)


def dependencies(name: str) -> str:
    """Keras 2.13 listed a layer with weights twice, so that the second of a kind was number 2."""
    return (
        name.replace("layers/", "_layer_checkpoint_dependencies/")
        .replace("dense_2", "dense_4")
        .replace("dense_1", "dense_2")
    )


@pytest.mark.parametrize("rename", [windows, dependencies])
def test_weights_under_other_names(rename: Callable[[str], str], files: Path, tmp_path: Path) -> None:
    """The layouts of Windows and of Keras 2.13 hold the same weights."""
    path = tmp_path / "model.keras"
    weights = io.BytesIO()
    with zipfile.ZipFile(files / "dense.keras") as old, zipfile.ZipFile(path, "w") as new:
        with h5py.File(io.BytesIO(old.read("model.weights.h5"))) as source, h5py.File(weights, "w") as target:
            datasets: dict[str, Any] = {}
            source.visititems(
                lambda n, node: datasets.__setitem__(n, node[()]) if isinstance(node, h5py.Dataset) else None
            )
            for name, value in datasets.items():
                target[rename(name)] = value
        for name in old.namelist():
            new.writestr(name, weights.getvalue() if name == "model.weights.h5" else old.read(name))
    assert any("weights" in note for note in agrees(path, files, "dense").repairs)


COUNTERS: dict[str, tuple[Callable[[Any], object], int | None]] = {
    "at the top": (lambda group: group.create_dataset("iteration", data=7), 7),
    "with a number": (lambda group: group.create_dataset("iteration:0", data=7), 7),
    "in a group": (lambda group: group.create_dataset("Adam/iter:0", data=7), 7),
    "an array": (lambda group: group.create_dataset("iteration", data=[7, 8]), None),
    "words": (lambda group: group.create_dataset("iteration", data="seven"), None),
    "a group of that name": (lambda group: group.create_group("iteration"), None),
    "nothing": (lambda _: None, None),
}


@pytest.mark.parametrize("case", COUNTERS)
def test_counters_never_end_a_check(case: str, tmp_path: Path) -> None:
    """Whatever stands where an optimizer counts is a number or none."""
    make, expected = COUNTERS[case]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        make(file.create_group("optimizer_weights"))
    kind = Format.HDF5
    with keras_container.open_file(tmp_path / "m.h5", kind) as file:
        assert file is not None
        contents = keras_container.contents_of(file, tmp_path / "m.h5", kind)
        assert keras_container.iterations(file, contents, kind) == expected


def changed(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(config: dict[str, Any]) -> dict[str, Any]:
        config["config"]["layers"][1] |= values
        return config

    return change


REFUSED = {
    "a built-in": (changed(module="builtins", class_name="eval"), "requires builtins.eval"),
    "a function that loads": (
        changed(module="keras.models", class_name="load_model"),
        "requires keras.models.load_model",
    ),
    "a marker that names a class": (changed(module="os", class_name="__typespec__"), "requires os.__typespec__"),
    "another file": (
        changed(class_name="StringLookup", config={"name": "words", "vocabulary": "/etc/hostname"}),
        "reads the vocabulary in the layer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_layer_is_refused(case: str, tmp_path: Path) -> None:
    """Without asking Keras, and without advice to trust what Keras itself does not have."""
    change, words = REFUSED[case]
    old_formats.with_config(tmp_path / "m.keras", change)
    with pytest.raises(InputError, match=words):
        keras_model.load(tmp_path / "m.keras")


def test_how_it_was_compiled_is_ignored(tmp_path: Path) -> None:
    """A loss of one's own does not refuse a model: it is never compiled."""
    loss = {"class_name": "function", "module": "builtins", "config": "my_loss", "registered_name": "function"}
    old_formats.with_config(tmp_path / "m.keras", lambda config: {**config, "compile_config": {"loss": loss}})
    assert keras_model.load(tmp_path / "m.keras").repairs == ()


def test_a_file_keras_cannot_read_names_its_keras(tmp_path: Path) -> None:
    """The version that wrote it, and what to do there; weights that are no HDF5 are refused by name."""

    def unreadable(config: dict[str, Any]) -> dict[str, Any]:
        config["config"]["layers"][1]["config"]["colour"] = "red"
        return config

    path = tmp_path / "m.keras"
    old_formats.with_config(path, unreadable)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["metadata.json"] = json.dumps({"keras_version": "2.14.0"}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match=r"found a file written by Keras 2\.14\.0; load it in Keras 2\.14\.0"):
        keras_model.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", parts["config.json"])
        archive.writestr("model.weights.npz", b"")
    with pytest.raises(InputError, match=r"model\.weights\.npz"):
        keras_model.load(path)


def test_another_backend_is_set_aside() -> None:
    """With KERAS_BACKEND=numpy TensorFlow is used, and one line says so."""
    code = "from bnexport.frameworks.keras.model import load_framework as f; f(); f(); import keras; print(keras.backend.backend())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "KERAS_BACKEND": "numpy"},
    )
    assert done.stdout.strip() == "tensorflow"
    assert done.stderr.count("KERAS_BACKEND says numpy") == 1


def test_several_inputs_come_with_a_command(tmp_path: Path) -> None:
    """The message names shapes and dtypes, and its command, pasted as it is, writes a file of them."""
    shapes = {"image": (None, 8, 8, 3), "ids": (None, None)}
    with pytest.raises(UsageError, match="image float32 Nx8x8x3") as refused:
        only_input(shapes, {"image": "float32", "ids": "int64"})
    command = shlex.split(str(refused.value).split("an example of such a file: ")[1])
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path)
    with np.load(tmp_path / "data.npz") as data:
        assert data["image"].shape == (8, 8, 8, 3)

"""What makes it uncertain whether Keras reads the same model from the other container: such a file goes through Keras, and nothing is written here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bnexport.errors import BnexportError, InputError
from bnexport.frameworks.keras.file import rewrite
from bnexport.keras_files import conversion
from bnexport.keras_files.layers import UnclearFile
from bnexport.keras_files.read import read_file
from bnexport.recalibration.recalibrate import recalibrate
from bnexport.types import Array

pytestmark = pytest.mark.keras


def _saved(tmp_path: Path, layers: Callable[[Any], list[Any]], suffix: str = ".h5") -> Path:
    import keras

    path = tmp_path / f"model{len(list(tmp_path.iterdir()))}{suffix}"
    keras.Sequential([keras.Input((4,), name="x"), *layers(keras.layers)]).save(path)
    return path


def _with_config(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def _custom(config: dict[str, Any]) -> None:
    function = {"module": "mine", "class_name": "function", "config": "act", "registered_name": "mine>act"}
    config["config"]["layers"][1]["config"]["activation"] = function


def _of_numpy(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["config"]["kernel_initializer"]["module"] = "numpy"


def _uncertain(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Files that go through Keras, and why."""
    yield "keeps", _saved(tmp_path, lambda k: [k.Dense(3), k.Discretization([0.0, 1.0])])
    yield "not Keras' own", _with_config(_saved(tmp_path, lambda k: [k.Dense(3, "relu")]), _custom)
    yield "another package", _with_config(_saved(tmp_path, lambda k: [k.Dense(3)]), _of_numpy)
    more = _saved(tmp_path, lambda k: [k.Dense(3)])
    with h5py.File(more, "r+") as file:
        file["model_weights/stray"] = np.zeros(3, np.int32)
    yield "more than the weights", more


def test_what_is_uncertain_is_refused(tmp_path: Path) -> None:
    """Classes and functions that are not Keras' own, what keeps more than weights, and files with more in them."""
    for reason, path in _uncertain(tmp_path):
        with pytest.raises(UnclearFile, match=reason):
            conversion.convert(read_file(path), {}, tmp_path / "made.keras")
        assert not rewrite(path, None, {}, tmp_path / "made.keras")
        assert not list(tmp_path.glob("made*"))


def test_another_order_of_layers_is_refused(tmp_path: Path) -> None:
    """Two branches of equal layers in the order in which Keras would not sort them: numbers would name the wrong ones."""
    import keras

    x = keras.Input((4,), name="x")
    left, right = keras.layers.Dense(4, name="left")(x), keras.layers.Dense(4, name="right")(x)
    path = tmp_path / "model.h5"
    keras.Model(x, keras.layers.Add(name="add")([left, right])).save(path)

    def swap(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        layers[1], layers[2] = layers[2], layers[1]

    _with_config(path, swap)
    with h5py.File(path, "r+") as file:
        names = [name.encode() for name in ("x", "right", "left", "add")]
        file["model_weights"].attrs["layer_names"] = names
    with pytest.raises(UnclearFile, match="order"):
        conversion.convert(read_file(path), {}, tmp_path / "made.keras")


def _with_kernel(path: Path, shape: tuple[int, ...]) -> Path:
    """A file in which the first layer's kernel has another shape."""
    with h5py.File(path, "r+") as file:
        group = file["model_weights/dense"]
        [kernel] = [name for name in group.attrs["weight_names"] if "kernel" in str(name)]
        del group[kernel]
        group[kernel] = np.zeros(shape, np.float32)
    return path


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    """Neither a weight that its layer cannot have, nor one that does not fit what the layer is given, nor other statistics are written."""

    def layers(k: Any) -> list[Any]:
        return [k.Dense(3, name="dense"), k.BatchNormalization(name="bn")]

    target = tmp_path / "made.keras"
    with pytest.raises(InputError, match="bn/moving_mean cannot be written"):
        conversion.convert(read_file(_saved(tmp_path, layers)), {"bn/moving_mean": np.zeros(4, np.float32)}, target)
    assert not rewrite(_with_kernel(_saved(tmp_path, layers), (4, 5)), None, {}, target)

    path = _with_kernel(_saved(tmp_path, layers), (6, 3))  # the inputs have 4 features
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    with pytest.raises(BnexportError):  # the graph of the file has to run before anything is written
        recalibrate(path, None, target, inputs=tmp_path / "data.npz", force=True)
    assert not list(tmp_path.glob("made*"))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_weight_in_the_wrong_place_is_noticed(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is read again before anybody gets it: two layers of one size that are exchanged show."""
    path = _saved(tmp_path, lambda k: [k.Dense(4, name="first"), k.Dense(4, name="second")], suffix)

    class Exchanged(conversion._Values):
        def __init__(self, weights: Mapping[str, Any], changes: Mapping[str, Array]) -> None:
            super().__init__(weights, changes)
            self.reads = 0

        def __getitem__(self, name: str) -> Array:
            self.reads += 1
            return super().__getitem__(name.replace("second", "first") if self.reads <= 4 else name)

    monkeypatch.setattr(conversion, "_Values", Exchanged)
    with pytest.raises(UnclearFile, match=r"second/\w+ is not read again"):
        conversion.convert(read_file(path), {}, tmp_path / f"made{'.keras' if suffix == '.h5' else '.h5'}")
    assert not list(tmp_path.glob("made*"))


WITHOUT_KERAS = """
import sys
sys.modules.update(dict.fromkeys(["tensorflow", "keras", "tf2onnx", "jax", "torch"]))
from bnexport.cli import main
main()
"""


def test_an_uncertain_file_without_keras_is_one_sentence(models: Path, tmp_path: Path) -> None:
    """Exit code 3, and nothing is written."""
    import keras

    x = keras.Input((32, 32, 3), name="x")
    y = keras.layers.BatchNormalization()(x * 2.0)  # a HDF5 file does not say which function that is
    keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(y))).save(tmp_path / "model.h5")
    arguments = ["recalibrate", tmp_path / "model.h5", models / "three", "-o", tmp_path / "made.keras", "-q", "--force"]
    completed = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERAS, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert completed.returncode == 3, completed.stderr
    assert len(completed.stderr.strip().splitlines()) == 1
    assert "are required" in completed.stderr
    assert not list(tmp_path.glob("made*"))

"""Recalibrated Keras files: copies in which only the moving statistics differ, and which answer as the recalibrated ONNX file does."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bnexport import InputError, recalibrate
from bnexport.keras_files.read import read_file
from bnexport.keras_files.statistics import write_statistics
from tests.e2e import nets

pytestmark = pytest.mark.keras
STATISTICS = ("moving_mean", "moving_variance")


def contents(file: h5py.File) -> dict[str, tuple[bytes, dict[str, bytes]]]:
    """Every dataset and group with its values and attributes, as bytes."""
    found = {}

    def visit(name: str, node: Any) -> None:
        values = np.asarray(node[()]).tobytes() if isinstance(node, h5py.Dataset) else b""
        found[name] = values, {key: repr(np.asarray(value).tolist()).encode() for key, value in node.attrs.items()}

    file.visititems(visit)
    found["/"] = b"", {key: repr(np.asarray(value).tolist()).encode() for key, value in file.attrs.items()}
    return found


def opened(path: Path) -> h5py.File:
    if path.suffix == ".h5":
        return h5py.File(path)
    with zipfile.ZipFile(path) as archive:
        return h5py.File(io.BytesIO(archive.read("model.weights.h5")))


def answers(path: Path, x: Any) -> Any:
    keras = nets._keras()
    return np.asarray(keras.models.load_model(path, compile=False)(x, training=False))


@pytest.mark.parametrize("form", ["h5", "keras"])
def test_only_the_statistics_change(form: str, models: Path, tmp_path: Path) -> None:
    """Every other dataset, attribute and member of the archive is the same to the last byte; Keras and onnxruntime agree on the result."""
    import onnxruntime

    model, out = models / f"tiny_residual.{form}", tmp_path / f"repaired.{form}"
    assert recalibrate(model, models / "three", out, force=True)
    recalibrate(model, models / "three", tmp_path / "repaired.onnx", force=True)
    with opened(model) as old, opened(out) as new:
        before, after = contents(old), contents(new)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    stored = read_file(model).model
    expected = {w.dataset for layer in stored.walk() for name, w in layer.weights.items() if name in STATISTICS}
    assert changed
    assert changed <= expected
    if form == "keras":
        with zipfile.ZipFile(model) as old_zip, zipfile.ZipFile(out) as new_zip:
            assert old_zip.namelist() == new_zip.namelist()
            for name in set(old_zip.namelist()) - {"model.weights.h5"}:
                assert old_zip.read(name) == new_zip.read(name), name
    x = np.random.default_rng(0).uniform(
        0, 255, (4, *nets._keras().models.load_model(model, compile=False).input_shape[1:])
    )
    session = onnxruntime.InferenceSession(tmp_path / "repaired.onnx", providers=["CPUExecutionProvider"])
    made = session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0]
    np.testing.assert_allclose(made, answers(out, x.astype(np.float32)), atol=2e-5)


def test_compressed_datasets_are_written_too(models: Path, tmp_path: Path) -> None:
    """Values that are stored in pieces go through HDF5."""
    with h5py.File(models / "tiny_residual.h5") as old, h5py.File(tmp_path / "packed.h5", "w") as new:
        for name in old:
            old.copy(name, new)
        for key, value in old.attrs.items():
            new.attrs[key] = value
        file = read_file(models / "tiny_residual.h5")
        [weight, *_] = [layer.weights["moving_mean"] for layer in file.model.walk() if "moving_mean" in layer.weights]
        values = new[weight.dataset][()]
        del new[weight.dataset]
        new.create_dataset(weight.dataset, data=values, compression="gzip", chunks=True)
    packed = read_file(tmp_path / "packed.h5")
    [name, *_] = [f"{layer.path}/moving_mean" for layer in packed.model.walk() if "moving_mean" in layer.weights]
    write_statistics(packed, {name: values + 1}, tmp_path / "changed.h5")
    with h5py.File(tmp_path / "changed.h5") as changed:
        np.testing.assert_array_equal(changed[weight.dataset][()], values + 1)


def test_a_weight_of_another_shape_is_refused(models: Path, tmp_path: Path) -> None:
    """Nothing is written where a value does not fit."""
    file = read_file(models / "tiny_residual.keras")
    with pytest.raises(InputError, match="nowhere/moving_mean cannot be written"):
        write_statistics(file, {"nowhere/moving_mean": np.zeros(3)}, tmp_path / "out.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["keras"])
def test_damaged_weights_are_refused(form: str, models: Path, tmp_path: Path) -> None:
    """A flipped bit in the weights of an archive fails its checksum, before anything is exported from it."""
    from bnexport import export

    content = bytearray((models / f"tiny_residual.{form}").read_bytes())
    with zipfile.ZipFile(models / f"tiny_residual.{form}") as archive:
        item = archive.getinfo("model.weights.h5")
    weight = read_file(models / f"tiny_residual.{form}").model
    [kernel, *_] = [layer.array("kernel") for layer in weight.walk() if "kernel" in layer.weights]
    position = bytes(content).index(kernel.tobytes()[:64])
    assert item.header_offset < position < item.header_offset + item.compress_size
    content[position] ^= 1
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        export(tmp_path / "m.keras", tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()

"""Keras files with weights only: their architecture is named, lies beside them, or is suggested and never assumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bnexport import check, export, recalibrate
from bnexport.errors import InputError, UsageError
from bnexport.exporter.native import graph_of
from bnexport.frameworks.keras import model as keras_model
from bnexport.keras_files import architecture
from bnexport.keras_files.read import read_file
from bnexport.onnx_graph.weights import initializers
from tests.golden.test_cli import run

pytestmark = pytest.mark.keras

LAYOUTS = ("by layer", "by class")
"""How Keras 1 and 2 write weights, and how Keras 3 does."""


@pytest.fixture(scope="module")
def folder(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a small model in both layouts, and its architecture."""
    made = tmp_path_factory.mktemp("weights")
    (made / "architectures").mkdir()
    model = keras_model.load(models / "tiny_residual.keras").keras
    model.save_weights(made / "by class.weights.h5")
    (made / "architectures" / "net.json").write_text(model.to_json())
    with h5py.File(models / "tiny_residual.h5") as whole, h5py.File(made / "by layer.weights.h5", "w") as weights:
        for name, group in whole["model_weights"].items():
            whole.copy(group, weights, name)
        for name, value in whole["model_weights"].attrs.items():
            weights.attrs[name] = value
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_and_architecture_are_a_model(layout: str, folder: Path, models: Path) -> None:
    """What is exported is what the whole file gives; a check of it passes against that, and says what was combined."""
    whole = graph_of(read_file(models / "tiny_residual.keras"), None)
    path, named = folder / f"{layout}.weights.h5", folder / "architectures" / "net.json"
    combined = graph_of(read_file(path, architecture.read(named)), None)
    assert [node.op_type for node in combined.graph.node] == [node.op_type for node in whole.graph.node]
    for name, value in initializers(whole).items():
        np.testing.assert_array_equal(initializers(combined)[name], value)
    report = check(path, models / "three", architecture=named, onnx=models / "tiny_residual.onnx")
    assert not [f for f in report.findings if f.code.startswith("EX00") and f.code != "EX006"]
    [note] = [f for f in report.findings if f.code == "EX006"]
    assert "combined with the architecture of net.json" in note.message
    assert any(f"--architecture {named}" in (action.command or "") for action in note.actions)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_recalibrated_weights_stay_weights(layout: str, folder: Path, models: Path, tmp_path: Path) -> None:
    """Only the statistics are others."""
    path, out = folder / f"{layout}.weights.h5", tmp_path / "out.h5"
    recalibrate(path, models / "three", out, architecture=folder / "architectures" / "net.json")
    changed = []
    with h5py.File(path) as old, h5py.File(out) as new:
        names: list[str] = []
        old.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
        changed = [name for name in names if not np.array_equal(old[name][()], new[name][()])]
    statistics = ("vars/2", "vars/3") if layout == "by class" else ("moving_mean", "moving_variance")
    assert len(changed) == 12
    assert all(name.removesuffix(":0").endswith(statistics) for name in changed)


def test_what_lies_beside_is_taken(folder: Path, tmp_path: Path) -> None:
    """model.json, or config.json where that is an architecture of Keras; another config.json is passed over."""
    path = Path(shutil.copy(folder / "by class.weights.h5", tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="weights only"):
        export(path, tmp_path / "m.onnx")
    shutil.copy(folder / "architectures" / "net.json", tmp_path / "model.json")
    assert export(path, tmp_path / "m.onnx").batch_normalization == 6


def test_what_does_not_fit_is_refused(folder: Path, models: Path, tmp_path: Path) -> None:
    """Another number of filters or layers, an architecture for a file that has one, and what is no architecture."""
    config = json.loads((folder / "architectures" / "net.json").read_text())
    layers = config["config"]["layers"]
    kernel = next(layer for layer in layers if layer["class_name"] == "Conv2D")
    kernel["config"]["filters"] += 1
    (tmp_path / "filters.json").write_text(json.dumps(config))
    kernel["config"]["filters"] -= 1
    dense = next(layer for layer in layers if layer["class_name"] == "Dense")
    dense["class_name"], dense["config"] = "Activation", {"name": dense["config"]["name"], "activation": "relu"}
    (tmp_path / "fewer.json").write_text(json.dumps(config))
    for layout in LAYOUTS:
        for name in ("filters", "fewer"):
            with pytest.raises(InputError, match=f"do not fit the architecture of {name}.json"):
                export(folder / f"{layout}.weights.h5", tmp_path / "m.onnx", architecture=tmp_path / f"{name}.json")
    with pytest.raises(UsageError, match="has an architecture of its own"):
        export(models / "tiny_residual.h5", tmp_path / "m.onnx", architecture="ResNet50")
    with pytest.raises(UsageError, match="requires a Keras file with weights only"):
        check(models / "tiny_residual.onnx", models / "three", architecture="ResNet50")
    with pytest.raises(UsageError, match="did you mean ResNet50"):
        export(folder / "by class.weights.h5", tmp_path / "m.onnx", architecture="Resnet50")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="not the architecture of a Keras model"):
        export(folder / "by class.weights.h5", tmp_path / "m.onnx", architecture=tmp_path / "list.json")
    assert not (tmp_path / "m.onnx").exists()


def test_a_network_is_suggested_and_built_where_it_is_named(tmp_path: Path) -> None:
    """Its classes and channels are those of the weights; the table knows each network by weights of any classes."""
    import keras

    net = keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 1), classes=7)
    path = tmp_path / "net.weights.h5"
    net.save_weights(path)
    refused = run("export", path, "-o", tmp_path / "net.onnx", "-q")
    assert refused.exit_code == 2
    assert "in the shapes of MobileNetV3Small" in refused.stderr
    assert "--architecture MobileNetV3Small" in refused.stderr
    result = export(path, tmp_path / "net.onnx", architecture="MobileNetV3Small")
    assert list(result.inputs.values()) == [(None, 224, 224, 1)]
    with pytest.raises(InputError, match="not those of MobileNet, whatever its classes"):
        export(path, tmp_path / "other.onnx", architecture="MobileNet")
    for top in ({"classes": 3}, {"include_top": False}):
        shapes = [tuple(v.shape) for v in keras.applications.DenseNet121(weights=None, **top).weights]
        assert [net.name for net in architecture._nets()[architecture.fingerprint(shapes)]] == ["DenseNet121"]

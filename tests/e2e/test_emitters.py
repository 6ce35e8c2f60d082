"""Layers of one's own: exported by a function that is registered for their class, and refused with the ways out where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnexport import UsageError, register_emitter

LAYER = """
import keras


@keras.saving.register_keras_serializable(package="vae")
class Sampling(keras.layers.Layer):
    '''Draws from a normal distribution in training, and gives its mean in inference.'''

    def build(self, shapes):
        self.scale = self.add_weight(shape=(shapes[0][-1],), name="scale", initializer="ones")

    def call(self, inputs, training=False):
        mean, log_variance = inputs
        if training:
            mean = mean + keras.ops.exp(0.5 * log_variance) * keras.random.normal(keras.ops.shape(mean))
        return mean * self.scale
"""
EMITTER = """
import bnexport
from bnexport.exporter import arithmetic


def sampling(g, layer, inputs):
    '''What the layer computes in inference: its mean, scaled.'''
    scale = next(iter(layer.weights))  # its only weight
    return arithmetic.elementwise(g, "Mul", inputs[0], g.weight("scale", layer.array(scale)))
"""
REGISTERED = EMITTER + '\n\nbnexport.register_emitter("Sampling", sampling)\n'
SAVE = """
import sys
sys.path.insert(0, "")
import keras, numpy as np
from keras import layers as L
from vae_layers import Sampling
x = keras.Input((12, 12, 1), name="x")
h = L.Flatten()(L.Conv2D(4, 3, strides=2, activation="relu")(x))
z = Sampling(name="z")([L.Dense(3, name="mean")(h), L.Dense(3, name="log_variance")(h)])
y = L.Reshape((12, 12, 1))(L.Dense(144, activation="sigmoid")(L.Dense(16, activation="relu")(z)))
model = keras.Model(x, y)
model.get_layer("z").scale.assign([2.0, 0.5, -1.0])
model.save("vae.keras")
model.save("vae.h5")
np.savez("vae.npz", x=np.random.default_rng(0).random((6, 12, 12, 1), dtype=np.float32))
"""


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a variational autoencoder whose sampling is a layer of its own, in both formats."""
    folder = tmp_path_factory.mktemp("vae")
    (folder / "vae_layers.py").write_text(LAYER + REGISTERED)
    (folder / "vae_emitters.py").write_text(REGISTERED)
    saved = run(sys.executable, "-c", SAVE, folder=folder)
    assert saved.returncode == 0, saved.stderr
    return folder


@pytest.mark.slow
def test_a_registered_layer_is_checked(vae: Path) -> None:
    """`--import` runs the module that registers it, and the check passes."""
    trusting = ("--allow-custom-code", "--import", "vae_layers")
    check = run(
        *(sys.executable, "-m", "bnexport", "check", "vae.keras", "--arrays", "vae.npz", *trusting, "--no-cache"),
        folder=vae,
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert "tf2onnx" not in check.stderr


@pytest.mark.slow
def test_a_registered_layer_is_exported(vae: Path) -> None:
    """Both files, and it needs neither tf2onnx nor Keras."""
    code = """
import sys, vae_emitters, bnexport
for name in ("vae.keras", "vae.h5"):
    bnexport.export(name, name + ".onnx")
assert not {"keras", "tensorflow", "tf2onnx"} & set(sys.modules)
"""
    assert run(sys.executable, "-c", code, folder=vae).returncode == 0


@pytest.mark.slow
def test_an_entry_point_registers_it_too(vae: Path, tmp_path: Path) -> None:
    """An installed package has a function for the class."""
    (tmp_path / "vae_exports.py").write_text(EMITTER)
    info = tmp_path / "vae_exports-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vae-exports\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bnexport.export]\nSampling = vae_exports:sampling\n")
    output = tmp_path / "out.onnx"
    done = run(sys.executable, "-m", "bnexport", "export", vae / "vae.h5", "-o", output, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not covered by" not in done.stderr


@pytest.mark.slow
def test_a_broken_entry_point_is_a_sentence(vae: Path, tmp_path: Path) -> None:
    """What cannot be imported is named, exit code 3."""
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bnexport.export]\nSampling = nowhere:sampling\n")
    output = tmp_path / "out.onnx"
    done = run(sys.executable, "-m", "bnexport", "export", vae / "vae.keras", "-o", output, folder=tmp_path)
    assert done.returncode == 3
    assert "the exporter of Sampling layers cannot be loaded (nowhere:sampling" in done.stderr


def test_layers_of_keras_cannot_be_replaced() -> None:
    """A function for Dense would change what other models are exported as."""
    with pytest.raises(UsageError, match="Dense is a layer of Keras"):
        register_emitter("Dense", lambda *_: None)

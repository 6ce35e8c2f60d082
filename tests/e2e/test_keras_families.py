"""Recurrent, attentive, nested, quantised and mixed models: TensorFlow, JAX and PyTorch compute the same passes in float64."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.checking.check import check
from bnexport.frameworks.keras.reference import Keras
from bnexport.frameworks.protocols import Want
from bnexport.results.tolerance import FLOORS, SMALLEST_FLOOR
from tests.e2e.keras_families import FAMILIES, ITEMS, run_on, write

pytestmark = pytest.mark.keras

OTHERS = [
    "jax",
    pytest.param("torch", marks=pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")),
]
EXACT = 1e-12
"""Float64 passes of small nets differ by a few float64 eps; one float32 step in them is 1e-8 and more."""

RANDOM = {"attentive": 2}
"""So many layers draw at random: dropout in an attention layer, and noise."""

PASSES = """if True:
    import json, sys
    from pathlib import Path
    import numpy as np
    from bnexport.frameworks.keras.reference import Keras
    from bnexport.frameworks.protocols import Want
    folder, out = map(Path, sys.argv[1:3])
    arrays, layers, random = {}, {}, {}
    for name in sys.argv[3:]:
        model = Keras().load(folder / f"{name}.keras", Want())
        x = dict(np.load(folder / f"{name}.npz"))
        for mode in ("inference", "training"):
            for dtype in ("float32", "float64"):
                for output, value in model.forward(x, mode=mode, dtype=dtype).items():
                    arrays[f"{name} {mode} {dtype} {output}"] = value
        layers[name] = []
        for layer, value in model.layers(x, mode="training", dtype="float64"):
            arrays[f"{name} layer {layer.name}"] = value
            layers[name].append(layer.name)
        random[name] = list(model.info.random_layers)
    np.savez(out, **arrays)
    print(json.dumps({"layers": layers, "random": random}))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and data of every family."""
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    folder = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        write(name, folder)
    return folder


@pytest.fixture(scope="module", params=OTHERS)
def passes(request: pytest.FixtureRequest, models: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a process that runs on a backend says about the models, and what it computes."""
    out = models / f"{request.param}.npz"
    printed = run_on(request.param, PASSES, str(models), str(out), *FAMILIES)
    return printed, dict(np.load(out))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_backends_agree(name: str, passes: tuple[dict[str, Any], dict[str, np.ndarray]], models: Path) -> None:
    """The float64 passes and the layers in them are those of TensorFlow, and the float32 passes lie within its noise floors."""
    about, arrays = passes
    model, x = Keras().load(models / f"{name}.keras", Want()), dict(np.load(models / f"{name}.npz"))
    for mode in model.modes:
        narrow, wide = model.forward(x, mode=mode), model.forward(x, mode=mode, dtype="float64")
        for output, exact in wide.items():
            scale = np.abs(exact).max()
            np.testing.assert_allclose(
                arrays[f"{name} {mode} float64 {output}"], exact, rtol=0, atol=EXACT * scale, err_msg=output
            )
            floor = max(np.abs(narrow[output] - exact).max() / scale, SMALLEST_FLOOR)
            actual = arrays[f"{name} {mode} float32 {output}"]
            assert np.abs(actual - narrow[output]).max() / scale <= max(FLOORS * floor, 16 * 2.0**-23)
    expected = dict(model.layers(x, mode="training", dtype="float64"))
    assert len(about["layers"][name]) == len(expected)
    assert len(about["random"][name]) == len(model.info.random_layers) == RANDOM.get(name, 0)
    for layer, there in zip(expected, about["layers"][name], strict=True):
        assert re.sub(r"_\d+$", "", there) == re.sub(r"_\d+$", "", layer.name)  # Keras numbers some as they are made
        value = expected[layer]
        atol = EXACT * np.abs(value).max()
        np.testing.assert_allclose(arrays[f"{name} layer {there}"], value, rtol=0, atol=atol, err_msg=there)


def test_quantised_weights_stay_quantised(models: Path) -> None:
    """The float64 pass of a model with int8 weights differs from its float32 pass by rounding, not by the scale of the weights."""
    model, x = Keras().load(models / "quantised.keras", Want()), dict(np.load(models / "quantised.npz"))
    narrow = model.forward(x, mode="inference")["p/logits"]
    exact = model.forward(x, mode="inference", dtype="float64")["p/logits"]
    assert exact.dtype == np.float64
    assert 0 < np.abs(narrow - exact).max() / np.abs(exact).max() < 1e-6


def test_operations_on_inputs_are_in_float64(models: Path) -> None:
    """What keras.ops computes of an input before any layer is exact to float64, too."""
    import keras

    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(8, 3)).astype(np.float32)
    x = keras.Input((7, 8), name="x")
    gram = keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))) / 7
    y = keras.layers.Dense(3, use_bias=False, name="y")(keras.ops.matmul(gram, x))
    model = keras.Model(x, y)
    model.layers[-1].set_weights([kernel])
    model.save(models / "operations.keras")
    data = rng.normal(size=(ITEMS, 7, 8)).astype(np.float32)
    actual = Keras().load(models / "operations.keras", Want()).forward({"x": data}, mode="inference", dtype="float64")
    wide = data.astype(np.float64)
    exact = wide @ wide.transpose(0, 2, 1) / 7 @ wide @ kernel.astype(np.float64)
    np.testing.assert_allclose(actual["y"], exact, rtol=0, atol=EXACT * np.abs(exact).max())


def test_steps_are_those_of_the_input(models: Path) -> None:
    """TimeDistributed computes each step of an axis of open length, also where there are fewer items; `predict` does so, too."""
    model, x = Keras().load(models / "several.keras", Want()), dict(np.load(models / "several.npz"))
    for length in (7, 5):
        given = {**x, "b": x["b"][:, :length]}
        for _ in range(3):  # traced from some call on
            steps = model.forward(given, mode="inference")["steps"]
            assert steps.shape == (ITEMS, length, 2)
        outputs = model.loaded.keras(given, training=False)
        np.testing.assert_allclose(steps, np.asarray(outputs["steps"]), rtol=0, atol=1e-5)


def test_cells_are_no_layers_of_their_own(models: Path) -> None:
    """The steps of a loop are left out of the layers, and layers without dropout are not random."""
    model, x = Keras().load(models / "recurrent.keras", Want()), dict(np.load(models / "recurrent.npz"))
    names = [layer.name for layer, _ in model.layers(x, mode="inference")]
    assert {"embedding", "lstm", "cells", "each", "simple", "gru", "p"} <= set(names)
    assert not [name for name in names if "cell" in name.rpartition("/")[2] and name != "cells"]
    assert model.info.random_layers == ()


@pytest.mark.slow
def test_a_check_of_quantised_weights_has_a_tight_tolerance(models: Path) -> None:
    """The export of a model with int8 weights passes within noise floors that rounding explains."""
    report = check(models / "quantised.keras", dict(np.load(models / "quantised.npz")), targets=["onnxruntime:cpu"])
    equal = [c for c in report.comparisons if c.actual == "onnx-inference@cpu" and c.reference == "keras-inference"]
    assert equal
    assert all(equal)
    assert all(c.tolerance < 1e-4 for c in equal)

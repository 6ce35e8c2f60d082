"""Keras on JAX, and on PyTorch where it is installed: the same passes as on TensorFlow, within rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.errors import MachineError
from bnexport.frameworks.keras import installed as keras_installed
from bnexport.frameworks.keras.installed import backend_name, refuse_absence
from bnexport.frameworks.keras.reference import Keras
from bnexport.frameworks.protocols import Want
from bnexport.results.tolerance import FLOORS, SMALLEST_FLOOR
from tests.e2e.keras_families import run_on

OTHERS = [
    "jax",
    pytest.param("torch", marks=pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")),
]
EXACT = 1e-12
"""Float64 passes of small nets differ by a few float64 eps."""

PASSES = """if True:
    import json, sys
    from pathlib import Path
    import numpy as np
    from bnexport.frameworks.keras.reference import Keras
    from bnexport.frameworks.protocols import Want
    path, data, out = sys.argv[1:]
    model = Keras().load(Path(path), Want())
    x = dict(np.load(data))
    before = [np.array(value) for value in model.loaded.keras.get_weights()]
    arrays = {}
    for mode in ("inference", "training"):
        for dtype in ("float32", "float64"):
            for name, value in model.forward(x, mode=mode, dtype=dtype).items():
                arrays[f"{mode} {dtype} {name}"] = value
    layers = []
    for layer, value in model.layers(x, mode="training", dtype="float64"):
        arrays[f"layer {layer.name}"] = value
        layers.append([layer.name, layer.kind, list(layer.shape), sorted(layer.inputs)])
    for nth, seed in enumerate((1, 1, 2)):
        arrays[f"drawn {nth}"] = model.forward(x, mode="training", seed=seed)["p"]
    after = model.loaded.keras.get_weights()
    np.savez(out, **arrays)
    unchanged = all(map(np.array_equal, before, after))
    about = Keras().about()
    print(json.dumps({"layers": layers, "unchanged": unchanged, "versions": dict(model.info.versions), "device": about.device,
                      "random": model.info.random_layers, "others": "tensorflow" in sys.modules}))
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a net that has what matters: normalisation, a branch, a nested model, dropout, logits behind a Reshape."""
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    inner_x = keras.Input((6, 6, 4))
    inner = keras.Model(inner_x, layers.BatchNormalization(name="norm")(inner_x), name="inner")
    x = keras.Input((6, 6, 3), name="x")
    stem = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x)
    added = layers.Add(name="add")([inner(stem), stem])
    pooled = layers.Dropout(0.3, name="drop")(layers.GlobalAveragePooling2D(name="pool")(added))
    p = layers.Reshape((3, 1), name="p")(layers.Dense(3, activation="softmax", name="dense")(pooled))
    model = keras.Model(x, p)
    rng = np.random.default_rng(0)
    norm = inner.get_layer("norm")
    norm.set_weights([rng.normal(size=4), rng.normal(size=4), rng.normal(size=4), rng.uniform(0.5, 2, 4)])
    folder = tmp_path_factory.mktemp("net")
    model.save(folder / "net.keras")
    np.savez(folder / "data.npz", x=rng.normal(3, 1, (8, 6, 6, 3)).astype(np.float32))
    return folder


@pytest.fixture(scope="module", params=OTHERS)
def passes(request: pytest.FixtureRequest, net: Path) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """A backend, what a process that runs on it says about the net, and what it computes."""
    out = net / f"{request.param}.npz"
    printed = run_on(request.param, PASSES, str(net / "net.keras"), str(net / "data.npz"), str(out))
    return request.param, printed, dict(np.load(out))


@pytest.mark.slow
def test_both_modes_agree_with_tensorflow(passes: tuple[str, Any, dict[str, np.ndarray]], net: Path) -> None:
    """Inference and training mode lie within the floors that TensorFlow's float64 pass measures; the float64 passes are equal."""
    model = Keras().load(net / "net.keras", Want())
    x = dict(np.load(net / "data.npz"))
    for mode in model.modes:
        narrow, wide = model.forward(x, mode=mode), model.forward(x, mode=mode, dtype="float64")
        assert set(narrow) == {"p", "p/logits"}
        for name, exact in wide.items():
            scale = np.abs(exact).max()
            floor = max(np.abs(narrow[name] - exact).max() / scale, SMALLEST_FLOOR)
            actual = passes[2][f"{mode} float32 {name}"]
            assert actual.dtype == np.float32
            assert np.abs(actual - narrow[name]).max() / scale <= max(FLOORS * floor, 16 * 2.0**-23)
            np.testing.assert_allclose(passes[2][f"{mode} float64 {name}"], exact, rtol=0, atol=EXACT * scale)


@pytest.mark.slow
def test_layers_are_those_of_tensorflow(passes: tuple[str, Any, dict[str, np.ndarray]], net: Path) -> None:
    """The same layers in the same order, with the same inputs and outputs, those of the nested model included."""
    model = Keras().load(net / "net.keras", Want())
    x = dict(np.load(net / "data.npz"))
    expected = list(model.layers(x, mode="training", dtype="float64"))
    shown = [[layer.name, layer.kind, list(layer.shape), sorted(layer.inputs)] for layer, _ in expected]
    assert passes[1]["layers"] == shown
    assert ["inner/norm", "BatchNormalization", [None, 6, 6, 4], ["stem"]] in shown
    for layer, value in expected:
        np.testing.assert_allclose(passes[2][f"layer {layer.name}"], value, rtol=0, atol=EXACT * np.abs(value).max())


@pytest.mark.slow
def test_the_model_is_not_changed(passes: tuple[str, Any, dict[str, np.ndarray]]) -> None:
    """Weights stay, random layers follow the seed, TensorFlow is not imported, and the versions name the backend."""
    backend, about, arrays = passes
    assert about["unchanged"]
    assert about["device"] == backend
    assert set(about["versions"]) == {backend, "keras"}
    assert about["random"] == ["drop"]
    assert not about["others"]
    assert np.array_equal(arrays["drawn 0"], arrays["drawn 1"])
    assert not np.array_equal(arrays["drawn 0"], arrays["drawn 2"])


@pytest.mark.slow
def test_check_without_tensorflow_uses_jax(net: Path, tmp_path: Path) -> None:
    """Where only JAX is installed, the reference runs on it; the ids, the device and the versions in the report say so."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'tf2onnx'])); from bnexport.cli import main; main()"
    command = ["check", "net.keras", "--arrays", "data.npz", "--format", "json", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", blocked, *command],
        cwd=net,
        env={**os.environ, "BNEXPORT_CACHE_DIR": str(tmp_path), "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # the modes of an untrained net may differ
    report = json.loads(done.stdout)
    sides = {side["id"]: side for side in report["sides"]}
    assert {"keras-inference@jax", "keras-training@jax", "onnx-inference@cpu"} <= set(sides)
    assert sides["keras-inference@jax"]["provider"] == "jax"
    equal = [c for c in report["comparisons"] if not c["actual"].startswith("keras")]
    assert equal
    assert all(comparison["passed"] for comparison in equal)
    assert "jax" in report["environment"]
    assert "tensorflow" not in report["environment"]


@pytest.mark.parametrize(
    ("installed", "stated", "file", "expected"),
    [
        ("tensorflow jax", "", "", "tensorflow"),
        ("jax", "", "", "jax"),
        ("torch", "", "tensorflow", "torch"),  # Keras writes keras.json itself
        ("tensorflow jax", "jax", "", "jax"),
        ("tensorflow jax", "", "jax", "jax"),
        ("tensorflow jax", "tensorflow", "jax", "tensorflow"),
        ("jax", "tensorflow", "", "tensorflow"),
        ("tensorflow", "numpy", "", "tensorflow"),
        ("", "", "", "tensorflow"),
    ],
)
def test_which_backend(
    installed: str, stated: str, file: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KERAS_BACKEND counts most, then keras.json, then what is installed; what is missing comes with the command that installs it."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(keras_installed, "find_spec", lambda name: name if name in f"{installed} keras h5py" else None)
    monkeypatch.setenv("KERAS_BACKEND", stated)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if file:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": file}))
    assert backend_name() == expected
    if expected in installed:
        refuse_absence()
    else:
        with pytest.raises(MachineError, match=r"pip install 'bnexport\[keras\]'.*keras-jax.*keras-torch"):
            refuse_absence()


def test_a_stated_backend_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """KERAS_BACKEND=torch without PyTorch is refused with the command that installs it."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(keras_installed, "find_spec", lambda name: None if name == "torch" else name)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(MachineError, match=r"PyTorch and Keras are required.*pip install 'bnexport\[keras-torch\]'"):
        refuse_absence()

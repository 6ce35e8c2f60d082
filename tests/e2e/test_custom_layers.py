"""Models with classes of a user's own: the module that registers them is imported on request, and only then."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnexport import check
from bnexport.errors import InputError, UsageError
from bnexport.frameworks.keras import custom_modules, keras2
from bnexport.frameworks.keras.elsewhere import KerasElsewhere
from bnexport.frameworks.keras.tflite import convert_to_tflite
from bnexport.frameworks.protocols import Want
from bnexport.system.cache import Cache
from bnexport.system.files import sha256
from tests.golden.test_cli import run

pytestmark = pytest.mark.keras

MODULE = """
import keras


@keras.saving.register_keras_serializable(package="mine")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and the module of its layer, which nobody has imported."""
    import keras

    (tmp_path / "my_layers_of_today.py").write_text(MODULE, encoding="utf-8")
    scope: dict[str, type] = {}
    exec(MODULE, scope)  # noqa: S102 - the module's own text, so that the model can be written
    x = keras.Input((3,), name="x")
    keras.Model(x, keras.layers.Dense(2, name="head")(scope["Doubled"](name="doubled")(x))).save(tmp_path / "m.keras")
    keras.saving.get_custom_objects().clear()
    np.savez(tmp_path / "x.npz", x=np.arange(12, dtype=np.float32).reshape(4, 3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.setattr(custom_modules, "_IMPORTED", [])
    monkeypatch.delitem(sys.modules, "my_layers_of_today", raising=False)
    return tmp_path


@pytest.mark.usefixtures("custom")
def test_a_registered_class_is_loaded() -> None:
    """A class that a module of the current folder registers is loaded with --trust --import; otherwise it is refused by name."""
    refused = run("check", "m.keras", "--inputs", "x.npz", "-q")
    assert refused.exit_code == 2
    assert "Doubled" in refused.output
    assert "--allow-custom-code --import MODULE" in refused.output
    untrusted = run("check", "m.keras", "--inputs", "x.npz", "-q", "--import", "my_layers_of_today")
    assert untrusted.exit_code == 2
    assert "--import executes the code of a module" in untrusted.output
    missing = run("check", "m.keras", "--inputs", "x.npz", "-q", "--trust", "--import", "no_such_module")
    assert missing.exit_code == 2
    assert "cannot import no_such_module" in missing.output
    passed = run("check", "m.keras", "--inputs", "x.npz", "-q", "--trust", "--import", "my_layers_of_today")
    assert passed.exit_code == 0, passed.output


@pytest.mark.slow
@pytest.mark.usefixtures("custom")
def test_a_registered_class_reaches_another_backend() -> None:
    """The process of the target keras:jax imports the module, too."""
    arguments = ["check", "m.keras", "--inputs", "x.npz", "-q", "--trust", "--import", "my_layers_of_today"]
    passed = run(*arguments, "--target", "onnxruntime:cpu", "--target", "keras:jax", "--format", "json")
    assert passed.exit_code == 0, passed.output
    comparisons = [c for c in json.loads(passed.stdout)["comparisons"] if c["actual"] == "keras-inference@jax"]
    assert comparisons
    assert all(comparison["passed"] for comparison in comparisons)


@pytest.mark.slow
def test_other_processes_import_what_this_one_did(custom: Path) -> None:
    """The converter to LiteRT knows the class if --import names its module, and without it says what to do; so does another backend."""
    model = custom / "m.keras"
    with pytest.raises(InputError, match=r"Doubled.*--import") as caught:
        KerasElsewhere("jax").load(model, Want(trust=True))
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match="Doubled"):
        convert_to_tflite(model, Want(trust=True))
    custom_modules.import_modules(["my_layers_of_today"], trust=True)
    conversion = convert_to_tflite(model, Want(trust=True))
    assert conversion.content
    assert not conversion.refused


KERAS2 = MODULE.replace("import keras", "from tensorflow import keras")

WRITE = """
import tf_keras, both_layers_of_today
x = tf_keras.Input((3,), name="x")
tf_keras.Model(x, both_layers_of_today.Doubled(name="doubled")(x)).save("old.h5")
"""


@pytest.mark.slow
def test_keras2_imports_modules_too(custom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that takes Keras from TensorFlow registers its classes with Keras 2, too; one that takes Keras 3 gets a sentence that says so."""
    (custom / "both_layers_of_today.py").write_text(KERAS2, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(custom))
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    subprocess.run([sys.executable, "-c", WRITE], check=True, capture_output=True, cwd=custom)
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    monkeypatch.delenv("PYTHONPATH")
    old, x = custom / "old.h5", np.ones((2, 3), np.float32)
    monkeypatch.setattr(custom_modules, "_IMPORTED", ["my_layers_of_today"])
    with pytest.raises(UsageError, match=r"my_layers_of_today registers no class with Keras 2.*from tensorflow import"):
        keras2.Model(old, sha256(old), trust=True)
    monkeypatch.setattr(custom_modules, "_IMPORTED", ["both_layers_of_today"])
    assert np.array_equal(keras2.Model(old, sha256(old), trust=True).run([x])["doubled"], 2 * x)


def test_what_was_kept_with_trust_is_not_used_without(custom: Path) -> None:
    """R8: results that --trust left in the cache do not let the same file pass where nobody trusts it."""
    spec = importlib.util.spec_from_file_location("registers_doubled", custom / "my_layers_of_today.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    import keras

    store = Cache(custom / "cache")
    assert check("m.keras", inputs="x.npz", trust=True, store=store)
    keras.saving.get_custom_objects().clear()
    assert check("m.keras", inputs="x.npz", trust=True, store=store)  # nothing has to be loaded: all of it was kept
    with pytest.raises(InputError, match="Doubled"):
        check("m.keras", inputs="x.npz", store=store)

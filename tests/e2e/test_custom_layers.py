"""Models with classes of a user's own: the module that registers them is imported on request, and only then."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bnexport import check
from bnexport.errors import InputError
from bnexport.system.cache import Cache
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

"""Models as people have them: written by old Kerases, under any name, and some that are not to be trusted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport import check
from bnexport.errors import InputError
from bnexport.frameworks.keras import model as keras_model
from bnexport.frameworks.keras.passes import Passes
from bnexport.keras_files import naming
from tests.e2e import nets, old_formats

pytestmark = pytest.mark.keras


@pytest.mark.parametrize("case", old_formats.BROKEN)
def test_old_files_are_repaired(case: str, tmp_path: Path) -> None:
    """What Keras refuses or misreads is rewritten; the repaired model computes what the net did, and the check says what was done."""
    kind, change, words = old_formats.BROKEN[case]
    net = old_formats.net(kind)
    x = nets.inputs_for(net, 4)[0]
    wanted = net.predict(x, verbose=0)
    path = tmp_path / "old.h5"
    net.save(path)
    old_formats.rewritten(path, change)
    before = path.read_bytes()
    loaded = keras_model.load(path)
    assert any(words in repair for repair in loaded.repairs), loaded.repairs
    [name] = [t.name for t in loaded.inputs]
    found = Passes(loaded).run("inference", {name: x})[loaded.outputs[0]]
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-7)  # the same arithmetic, traced anew
    assert path.read_bytes() == before
    np.savez(tmp_path / "data.npz", x=x)
    report = check(path, inputs=tmp_path / "data.npz")
    assert report, report.findings
    [finding] = [f for f in report.findings if f.code == "EX006"]
    assert words in finding.message


@pytest.mark.parametrize("case", sorted(set(old_formats.BROKEN) - {"Sequential without an input"}))
def test_keras_itself_refuses_them(case: str, tmp_path: Path) -> None:
    """Without the repair there is nothing to check. The one left out loads on some versions, as another model."""
    keras = nets._keras()
    kind, change, _ = old_formats.BROKEN[case]
    path = tmp_path / "old.h5"
    net = old_formats.net(kind)
    net.save(path)
    old_formats.rewritten(path, change)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it says
        keras.models.load_model(path, compile=False)(nets.inputs_for(net, 2)[0])


def test_todays_files_are_not_touched(models: Path) -> None:
    """Nothing is rewritten that Keras reads as it is."""
    for suffix in (".h5", ".keras"):
        assert keras_model.load(models / f"tiny_residual{suffix}").repairs == ()


@pytest.mark.parametrize("name", ["model", "model.keras", "model.hdf5", "model.weights.bin"])
def test_hdf5_under_any_name(name: str, models: Path, tmp_path: Path) -> None:
    """What counts is the content."""
    (tmp_path / name).write_bytes((models / "tiny_residual.h5").read_bytes())
    assert keras_model.load(tmp_path / name).layers == 6


def replaced(**values: Any) -> Any:
    def change(config: dict[str, Any]) -> dict[str, Any]:
        config["config"]["layers"][1] |= values
        return config

    return change


UNTRUSTED = {
    "a module of its own": (replaced(module="os", class_name="system"), "requires os.system in the layer conv"),
    "a package": (
        replaced(module=None, class_name="Custom", registered_name="Mine>Custom"),
        "requires Custom in the layer conv",
    ),
    "Keras' way to load code": (
        replaced(module="keras.layers", class_name="TFSMLayer"),
        "contains code that would be executed",
    ),
    "a function of Keras that is no layer": (
        replaced(module="keras.utils", class_name="get_file"),
        "requires keras.utils",
    ),
    "an operation of TensorFlow 2": (
        replaced(module=None, class_name="TFOpLambda", config={"name": "op", "function": "math.exp"}),
        "the TensorFlow operation math.exp",
    ),
}


@pytest.mark.parametrize("case", UNTRUSTED)
def test_foreign_code_is_refused(case: str, tmp_path: Path) -> None:
    """Anything that is not Keras' own, or that runs what the file says, with the layer it is in."""
    change, words = UNTRUSTED[case]
    old_formats.with_config(tmp_path / "model.keras", change)
    with pytest.raises(InputError, match=words):
        keras_model.load(tmp_path / "model.keras")


def test_the_refusal_comes_before_keras(tmp_path: Path) -> None:
    """A Lambda layer is refused by a process that never imports Keras; --trust runs it."""
    old_formats.lambda_layer(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=np.ones((2, 4), np.float32))
    code = f"""
import sys
from bnexport.cli import app
from typer.testing import CliRunner
result = CliRunner().invoke(app, ["check", {str(tmp_path / "model.keras")!r}, "--inputs", {str(tmp_path / "data.npz")!r}, "-q"])
assert result.exit_code == 2, result.output
assert "contains code that would be executed: Lambda in the layer twice" in result.stderr and "--allow-custom-code" in result.stderr
assert not {{"keras", "tensorflow"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert check(tmp_path / "model.keras", inputs=tmp_path / "data.npz", trust=True)


def test_every_layer_of_keras_is_allowed() -> None:
    """The allowlist is what the installed Keras exports, found without importing it: it is not shorter than the real one."""
    keras = nets._keras()
    public = naming.public_names()
    assert {name for name in dir(keras.layers) if name[0].isupper()} <= public
    assert {"GlorotUniform", "L2", "MaxNorm", "relu", "Functional"} - public <= {"Functional"}

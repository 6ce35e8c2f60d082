"""Keras files that ended in an internal error once: a verdict, or one sentence."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from bnexport.checking.check import check
from bnexport.cli import app
from bnexport.errors import InputError
from tests.e2e import nets
from tests.fuzz.test_structured import frameworks

__all__ = ["frameworks"]  # a fixture of this module too

pytestmark = [pytest.mark.keras, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # other libraries' warnings


@pytest.mark.parametrize(
    ("layer", "key", "value", "words"),
    [
        ("block1_1_relu", "name", "\0", "the model tiny_residual has a tensor that nothing makes"),
        ("block2_2_conv", "dilation_rate", [1 << 40, 1], "Keras .*cannot run the model .*1099511627776"),
        ("stem_relu", "dtype", "string", "Keras .*cannot run the model .*DataType string"),
        ("stem_relu", "name", {}, "Keras .*cannot read .*must be a string"),
    ],
)
def test_configurations_that_ended_in_an_internal_error(
    layer: str, key: str, value: Any, words: str, models: Path, tmp_path: Path
) -> None:
    """.keras files whose configuration holds NUL or another type are refused in one line that quotes what was found: exit code 2."""
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(models / "tiny_residual.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                changed = next(each for each in config["config"]["layers"] if each["config"]["name"] == layer)
                changed["config"][key] = value
                content = json.dumps(config).encode()
            new.writestr(name, content)
    outcome = CliRunner().invoke(app, ["check", str(path), str(models / "three"), "-q", "--no-cache"])
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert re.fullmatch(rf"bnexport: {words}[\x20-\x7e]*\n", outcome.stderr)
    assert (
        nets._keras().Variable(0.0, name="mine").path == "mine"
    )  # what this process makes afterwards is named as before


def test_an_error_inside_a_graph_names_the_layer(tmp_path: Path) -> None:
    """TensorFlow's account of such an error begins with a heading and a traceback: what is wrong stands below."""
    keras = nets._keras()
    k = keras.layers
    net = keras.Sequential([keras.Input((2,), dtype="int32"), k.Embedding(5, 3, name="table"), k.Flatten()])
    net.save(tmp_path / "m.keras")
    np.savez(tmp_path / "data.npz", **{net.inputs[0].name: np.int32([[0, 7]])})
    with pytest.raises(InputError, match=r"\(table\w*/\S+: indices\[0,1\] = 7 is not in \[0, 5\)"):
        check(tmp_path / "m.keras", inputs=tmp_path / "data.npz")


@pytest.mark.parametrize("value", [np.array([b"abc"]), np.arange(3), np.array(1.5), np.zeros((0,))])
def test_counters_of_optimizers_that_are_no_numbers(value: Any, models: Path, tmp_path: Path) -> None:
    """They only decorate a finding: whatever they hold ends no check."""
    content = io.BytesIO((models / "tiny_residual.h5").read_bytes())
    with h5py.File(content, "r+") as file:
        del file["optimizer_weights/adam/iteration"]
        file["optimizer_weights/adam/iteration"] = value
    (tmp_path / "m.h5").write_bytes(content.getvalue())
    check(tmp_path / "m.h5", models / "three")

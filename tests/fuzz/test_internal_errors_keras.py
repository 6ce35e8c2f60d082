"""Keras files that ended in an internal error once: a verdict, or one sentence."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bnexport.jobs.check import check
from tests.fuzz.test_structured import end_well, frameworks

__all__ = ["frameworks"]  # a fixture of this module too

pytestmark = [pytest.mark.keras, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # other libraries' warnings


@pytest.mark.parametrize(
    ("layer", "key", "value"),
    [
        ("block1_1_relu", "name", "\0"),
        ("block2_2_conv", "dilation_rate", [1 << 40, 1]),
        ("stem_relu", "dtype", "string"),
        ("stem_relu", "name", {}),
    ],
)
def test_configurations_that_ended_in_an_internal_error(
    layer: str, key: str, value: Any, models: Path, tmp_path: Path
) -> None:
    """.keras files that Keras loads, and that cannot be traced or run."""
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
    end_well(path, models / "three", f"{layer}.{key}")


@pytest.mark.parametrize("value", [np.array([b"abc"]), np.arange(3), np.array(1.5), np.zeros((0,))])
def test_counters_of_optimizers_that_are_no_numbers(value: Any, models: Path, tmp_path: Path) -> None:
    """They only decorate a finding: whatever they hold ends no check."""
    content = io.BytesIO((models / "tiny_residual.h5").read_bytes())
    with h5py.File(content, "r+") as file:
        del file["optimizer_weights/adam/iteration"]
        file["optimizer_weights/adam/iteration"] = value
    (tmp_path / "m.h5").write_bytes(content.getvalue())
    check(tmp_path / "m.h5", models / "three")

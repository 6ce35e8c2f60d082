"""Keras files that ended in an internal error once: a verdict, or one sentence."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.test_structured import end_well

pytestmark = [pytest.mark.keras, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # other libraries' warnings


@pytest.mark.parametrize(
    ("layer", "key", "value"),
    [
        ("block1_1_relu", "name", "\0"),
        ("block2_2_conv", "dilation_rate", [1 << 40, 1]),
        ("stem_relu", "dtype", "string"),
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

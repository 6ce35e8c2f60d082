"""Keras files that say something else than Keras would write become a file in the other container, or one sentence and no file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnexport.errors import BnexportError
from bnexport.keras_files.conversion import convert
from bnexport.keras_files.read import read_file
from tests.fuzz import structured

COUNT = int(os.environ.get("BNEXPORT_FUZZ", "30"))
CHANGES: dict[str, Callable[[bytes, Any], bytes]] = {"keras": structured.change_keras, "h5": structured.change_h5}


def _weights(path: Path) -> dict[str, bytes]:
    layers = read_file(path).model.walk()
    return {
        f"{layer.path}/{name}": weight.read().tobytes() for layer in layers for name, weight in layer.weights.items()
    }


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_files_are_converted_or_refused(kind: str, models: Path, tmp_path: Path) -> None:
    """No exception but our own, nothing left of what was refused, and what was written has the weights of the file that was read."""
    outcomes: Counter[bool] = Counter()
    for nth in range(COUNT):
        source, target = tmp_path / f"{nth}.{kind}", tmp_path / f"made{nth}.{'h5' if kind == 'keras' else 'keras'}"
        structured.write_changed(models / f"tiny_residual.{kind}", source, CHANGES[kind], nth)
        said = "written"
        try:
            convert(read_file(source), {}, target)
        except BnexportError as error:
            said = str(error).strip()
        assert said, nth
        outcomes[said == "written"] += 1
        if said == "written":
            assert _weights(target) == _weights(source), nth
        else:
            assert [path.name for path in tmp_path.iterdir()] == [source.name], nth
        source.unlink()
        target.unlink(missing_ok=True)
    assert outcomes[True]
    assert outcomes[False]

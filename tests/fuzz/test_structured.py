"""Files that can be parsed and say something else than an exporter would write end in a verdict or in one sentence."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.checking.check import check
from bnexport.errors import BnexportError
from bnexport.exporter import tf2onnx_convert
from bnexport.frameworks.keras import model as keras_model
from tests.fuzz import saved_models, structured

COUNTS = {"onnx": 30, "keras": 6, "h5": 6, "saved_model": 20}
"""How many changed files of each kind; BNEXPORT_FUZZ=3000 for the long run of all."""

LIMIT = 60.0
"""Seconds for one check, on a machine that is busy with others."""

CHANGES: dict[str, Callable[[bytes, Any], bytes]] = {
    "onnx": structured.change_onnx,
    "keras": structured.change_keras,
    "h5": structured.change_h5,
}

pytestmark = [pytest.mark.keras, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # other libraries' warnings


@pytest.fixture(scope="module", autouse=True)
def frameworks() -> None:
    """The import of TensorFlow is not part of any check's time."""
    keras_model.load_framework()
    tf2onnx_convert.load_framework()


def count(kind: str) -> int:
    return int(os.environ.get("BNEXPORT_FUZZ", COUNTS[kind]))


def end_well(model: Path, data: Path, what: str, signature: str = "") -> None:
    """Checks a model: a verdict, or an error of ours with a text, in time."""
    begun = time.perf_counter()
    said = "a verdict"
    try:
        check(model, inputs=data, signature=signature) if data.suffix == ".npz" else check(model, data)
    except BnexportError as error:
        said = str(error).strip()
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert said, f"{what} says nothing"
    seconds = time.perf_counter() - begun
    assert seconds < LIMIT, f"{what} took {seconds:.0f} s"


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_files_end_in_a_verdict_or_a_sentence(kind: str, models: Path, tmp_path: Path) -> None:
    """Metadata of other types, other shapes and connections, other configurations and weights: no exception but our own."""
    seeds = [models / f"tiny_residual.{kind}", *([models / "torch_residual.onnx"] if kind == "onnx" else [])]
    for nth in range(count(kind)):
        path = tmp_path / f"{nth}.{kind}"
        structured.write_changed(seeds[nth % len(seeds)], path, CHANGES[kind], nth)
        end_well(path, models / "three", f"{kind} {nth}")
        path.unlink()


def test_changed_saved_models_end_in_a_verdict_or_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other operations, attributes, functions, objects, signatures and savers: the same, and nothing is written."""
    seed = saved_models.write_seed(tmp_path / "seed")
    data = tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(0).random((4, 8, 8, 1), np.float32))
    assert check(seed, inputs=data)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for nth in range(count("saved_model")):
        path = saved_models.write_changed(seed, tmp_path / f"{nth}", nth)
        end_well(path, data, f"SavedModel {nth}", "twice" if nth % 4 == 3 else "")
        shutil.rmtree(path)
        assert not list((tmp_path / "empty").iterdir()), f"SavedModel {nth} wrote a file"

"""Whatever a file holds, reading it ends in time, and in a result or in one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bnexport.bundles.pack import pack
from bnexport.comparison.opening import Request
from bnexport.errors import BnexportError
from tests.fuzz.loading import Kind, kinds

COUNT = int(os.environ.get("BNEXPORT_FUZZ", "75"))
"""How many damaged inputs of each kind; BNEXPORT_FUZZ=2000 for the long run."""

COMMANDS = int(os.environ.get("BNEXPORT_FUZZ_COMMANDS", "2"))
"""How many of them through the command line, each a process; BNEXPORT_FUZZ_COMMANDS=50 for the long run."""

LIMIT = 20.0
"""Seconds for one input."""

KINDS = (
    "h5",
    "keras",
    "onnx",
    "toml",
    "image",
    "npz",
    "csv",
    "settings",
    "manifest",
    "parquet",
    "tar",
    "plan",
    "result",
    "bundle",
)

pytestmark = [pytest.mark.keras, pytest.mark.slow]


@pytest.fixture(scope="module")
def every(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    packed = tmp_path_factory.mktemp("seed") / "bundle"
    assert pack(Request(models / "tiny_residual.onnx", models / "three"), packed)
    return kinds(models, Path(__file__).parent.parent / "odd_images", packed)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore")  # what other libraries think of a damaged file is theirs
def test_loading_ends_in_a_result_or_a_sentence(every: dict[str, Kind], name: str, tmp_path: Path) -> None:
    """No exception but our own, within the limit, through the functions that read."""
    kind = every[name]
    slowest = 0.0
    for nth in range(COUNT):
        path = kind.write(tmp_path, nth)
        begun = time.perf_counter()
        said = "nothing is wrong"
        try:
            kind.load(path)
        except BnexportError as error:
            said = str(error).strip()
        except Exception as error:
            raise AssertionError(f"{name} {nth}: {type(error).__name__}: {error}") from error
        assert said, f"{name} {nth} says nothing"
        slowest = max(slowest, time.perf_counter() - begun)
        assert slowest < LIMIT, f"{name} {nth} took {slowest:.0f} s"
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.mark.parametrize("name", KINDS)
def test_commands_end_in_an_exit_code(every: dict[str, Kind], name: str, tmp_path: Path) -> None:
    """Exit code 0, 1, 2 or 3, no traceback, at most one sentence on stderr, and nothing left beside the input."""
    kind = every[name]
    for nth in range(COMMANDS):
        path = kind.write(tmp_path, nth)
        if name == "toml":
            shutil.copy(every["onnx"].seeds[0], path.with_suffix(""))
            path = path.with_suffix("")
        before = {entry.name for entry in tmp_path.iterdir()}
        command = [sys.executable, "-m", "bnexport", *(str(path) if part == "PATH" else part for part in kind.command)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (0, 1, 2, 3), f"{name} {nth}: {done.returncode} {done.stderr}"
        assert "Traceback" not in done.stderr, f"{name} {nth}: {done.stderr}"
        assert {entry.name for entry in tmp_path.iterdir()} == before

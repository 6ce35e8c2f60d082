"""The doctor names what is broken and the command that mends it, and is content where nothing is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bnexport.runtimes.ort_library import cuda_missing


def doctor(*arguments: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    command = [sys.executable, "-m", "bnexport", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def installed(site: Path, name: str, version: str, *files: str) -> None:
    """What pip leaves behind of a package: its metadata and the list of its files."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def points(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {point["name"]: point for point in json.loads(done.stdout)["points"]}


def test_this_machine_is_healthy() -> None:
    """Everything that bnexport cannot do without is there, a convolution is right, and what can be done is said."""
    done = doctor("--format", "json")
    assert done.returncode == 0, done.stdout
    told = json.loads(done.stdout)
    assert told["healthy"] is True
    assert points(done)["run on the CPU"]["state"] == "ok"
    assert {entry["what"]: entry["able"] for entry in told["able"]}["verify, check FILE.onnx"] is True
    assert "Supported on this machine" in doctor().stdout


RUNTIMES = """
import os
from bnexport.runtimes.protocols import About

class Quiet:
    def about(self):
        print("not an answer")
        return About("1.2", devices=("cpu", "npu"))

    def open(self, artifact, want): ...

class Lacking(Quiet):
    def about(self):
        return About("", "the driver is not installed", "apt-get install driver")

class Dying(Quiet):
    def about(self):
        os.abort()

class Raising(Quiet):
    def about(self):
        raise KeyError("no such luck")
"""


def test_every_runtime_says_what_it_is(tmp_path: Path) -> None:
    """Plug-ins of others too: version and devices, or what is missing and what to do; one that ends the process hides none behind it."""
    installed(tmp_path, "some-runtimes", "1.0")
    (tmp_path / "some_runtimes.py").write_text(RUNTIMES)
    names = ("dying", "lacking", "quiet", "raising")
    lines = [f"{name} = some_runtimes:{name.title()}" for name in names] + ["nowhere = nothing:Nothing"]
    entries = tmp_path / "some_runtimes-1.0.dist-info" / "entry_points.txt"
    entries.write_text("\n".join(["[bnexport.runtimes]", *lines, ""]))
    done = doctor("--format", "json", site=tmp_path)
    listed = {name: point for name, point in points(done).items() if point["topic"] == "runtimes"}
    assert {"onnxruntime", "onnx-reference", "web", "nowhere", *names} <= set(listed)
    states = [listed[name]["state"] for name in names]
    assert states == ["broken", "absent", "ok", "broken"]
    assert listed["quiet"]["told"] == "1.2 (cpu, npu)"
    lacking = listed["lacking"]
    assert (lacking["told"], lacking["fix"]) == ("the driver is not installed", "apt-get install driver")
    assert "SIGABRT" in listed["dying"]["told"]
    assert "no such luck" in listed["raising"]["told"]
    assert "nothing:Nothing" in listed["nowhere"]["told"]
    assert done.returncode == 3


def test_two_onnxruntimes_are_named_with_the_command_that_mends_it(tmp_path: Path) -> None:
    """Both packages write the same files, so that whichever came last runs: exit code 3, in the first lines."""
    installed(tmp_path, "onnxruntime", "1.32.0", "onnxruntime/__init__.py")
    done = doctor(site=tmp_path)
    assert done.returncode == 3
    first, second = done.stdout.splitlines()[:2]
    assert "onnxruntime 1.32.0" in first
    assert "onnxruntime-gpu" in first
    assert "-> pip uninstall -y" in second
    assert "pip install onnxruntime-gpu" in second


def test_two_cudas_are_named(tmp_path: Path) -> None:
    """TensorFlow's CUDA 12 beside onnxruntime's CUDA 13 load each other's libraries."""
    installed(tmp_path, "nvidia-cublas-cu12", "12.9.1", "nvidia/cublas/__init__.py")
    done = doctor("--format", "json", site=tmp_path)
    assert done.returncode == 3
    assert "nvidia-cublas-cu12" in points(done)["one CUDA"]["told"]
    assert "separate environments" in points(done)["one CUDA"]["fix"]


def test_what_is_required_and_absent_is_broken() -> None:
    """Without CUDA, `--require cuda` exits with 3 and says what to install for each part."""
    if not cuda_missing():
        pytest.skip("CUDA runs here")
    assert doctor().returncode == 0
    done = doctor("--require", "cuda", "--format", "json")
    assert done.returncode == 3
    broken = {name: point for name, point in points(done).items() if point["state"] == "broken"}
    assert "run on CUDA" in broken
    assert all(point["fix"] for name, point in broken.items() if name != "run on CUDA")

"""Files that mean harm: what reaches outside, fills the memory or runs code is refused in one sentence, and a process that is killed leaves nothing half written."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

from bnexport.bundles.verify import verify
from bnexport.cli import app

pytestmark = pytest.mark.keras


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def _rezipped(
    models: Path, path: Path, name: str, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(models / "tiny_residual.keras") as old, zipfile.ZipFile(path, "w", compression) as new:
        for entry in old.namelist():
            content = old.read(entry)
            new.writestr(entry, change(content) if entry == name else content)


def _wide(content: bytes) -> bytes:
    values = json.loads(content)
    layer = next(entry for entry in values["config"]["layers"] if entry["class_name"] == "Dense")
    layer["config"]["units"] = 10**12
    return json.dumps(values).encode()


def _linked(models: Path, path: Path) -> None:
    path.write_bytes((models / "tiny_residual.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        first = next(iter(group))
        del group[first]
        group[first] = h5py.ExternalLink("/etc/passwd", "/")


def _elsewhere(models: Path, path: Path) -> None:
    path.write_bytes((models / "tiny_residual.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file["model_weights"].create_dataset("more", (16,), "f4", external=[("/etc/passwd", 0, 64)])


def _virtual(models: Path, path: Path) -> None:
    path.write_bytes((models / "tiny_residual.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((16,), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (16,))
        file["model_weights"].create_virtual_dataset("more", layout)


def _bomb(models: Path, path: Path) -> None:
    path.write_bytes((models / "tiny_residual.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file["model_weights"].create_dataset("more", (1 << 32,), "f4", chunks=(1 << 20,), compression="gzip")


def _graph(path: Path, *, domain: str = "", **tensor: Any) -> None:
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    if location := tensor.get("location"):
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
    weight.dims[:] = tensor.get("dims", [2, 2])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "y")]
    node = helper.make_node("Steal" if domain else "MatMul", ["x", "w"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


HOSTILE: dict[str, tuple[str, Callable[[Path, Path], object], str]] = {
    "a zip bomb for weights": (
        "m.keras",
        lambda models, path: _rezipped(
            models, path, "model.weights.h5", lambda _: bytes(1 << 28), zipfile.ZIP_DEFLATED
        ),
        "is compressed far more than a model is",
    ),
    "a zip bomb for a configuration": (
        "m.keras",
        lambda models, path: _rezipped(models, path, "config.json", lambda _: b" " * (1 << 27), zipfile.ZIP_DEFLATED),
        "is compressed far more than a model is",
    ),
    "a layer of 10^12 units": (
        "m.keras",
        lambda models, path: _rezipped(models, path, "config.json", _wide),
        "a layer has units 1000000000000",
    ),
    "a link to another file": ("m.h5", _linked, "refers to another file"),
    "values in another file": ("m.h5", _elsewhere, "refers to another file"),
    "virtual values": ("m.h5", _virtual, "refers to another file"),
    "a data set of 16 GiB in a small file": ("m.h5", _bomb, "is compressed far more than a model is"),
    "ONNX weights outside the folder": (
        "m.onnx",
        lambda _, path: _graph(path, location="../../etc/passwd"),
        "not a valid ONNX model",
    ),
    "ONNX weights at an absolute path": (
        "m.onnx",
        lambda _, path: _graph(path, location="/etc/passwd"),
        "not a valid ONNX model",
    ),
    "an operator of somebody's own": (
        "m.onnx",
        lambda _, path: _graph(path, domain="com.evil"),
        "operator Steal of the domain com.evil",
    ),
    "a weight of 10^18 values": (
        "m.onnx",
        lambda _, path: _graph(path, dims=[10**9, 10**9]),
        "the weight w is damaged",
    ),
    "a weight of negative size": (
        "m.onnx",
        lambda _, path: _graph(path, dims=[-1000, -1000]),
        "the weight w has a negative dimension",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_means_harm_is_refused(case: str, models: Path, tmp_path: Path) -> None:
    """Exit code 2 and what it is, before anything is loaded from it."""
    name, make, reason = HOSTILE[case]
    make(models, tmp_path / name)
    np.savez(tmp_path / "data.npz", np.ones((1, 2), np.float32))
    done = run("check", tmp_path / name, "--inputs", tmp_path / "data.npz", "-q", "--no-cache")
    assert done.exit_code == 2, done.output
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def _confined(*arguments: Any, **limits: str) -> subprocess.CompletedProcess[str]:
    options = [part for name, value in limits.items() for part in (f"--{name.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "bnexport", *map(str, arguments), "--untrusted", *options, "-q"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_untrusted_gives_the_same_answer(models: Path) -> None:
    """Confined, a check of a sound file says what it says otherwise."""
    done = _confined("check", models / "tiny_residual.onnx", models / "three", format="json")
    free = run("check", models / "tiny_residual.onnx", models / "three", "--format", "json", "-q")
    assert done.returncode == free.exit_code
    assert json.loads(done.stdout)["findings"] == json.loads(free.stdout)["findings"]


@pytest.mark.parametrize(
    ("limits", "reason", "code"),
    [
        ({"time_limit": "1"}, "took longer than 1 s", (2,)),
        ({"memory_limit": "150MB"}, "memory", (2, 3)),
        ({"memory_limit": "30MB"}, "--isolate-memory", (3,)),
    ],
)
def test_untrusted_has_limits(
    limits: dict[str, str],
    reason: str,
    code: tuple[int, ...],
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What takes too long or too much is ended with a sentence, and leaves nothing behind."""
    monkeypatch.setenv("BNEXPORT_CACHE_DIR", str(tmp_path / "cache"))  # what Keras answered is not there yet
    bundle = tmp_path / "made" / "bundle"
    bundle.parent.mkdir()
    done = _confined("pack", models / "tiny_residual.keras", models / "three", "-o", bundle, **limits)
    assert done.returncode in code, done.stderr
    assert reason in done.stderr
    began = (
        "ended by itself" not in done.stderr
    )  # no memory to start with, or none left for a sentence: Python's own words
    assert not began or "Traceback" not in done.stderr
    assert list(bundle.parent.iterdir()) == []


WRITES: dict[str, tuple[tuple[str, ...], str]] = {
    "pack": (("pack", "{models}/tiny_residual.onnx", "{models}/three"), "bundle"),
    "export": (("export", "{models}/tiny_residual.keras"), "model.onnx"),
    "recalibrate": (("recalibrate", "{models}/tiny_residual.onnx", "{models}/three"), "repaired.onnx"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", WRITES)
def test_a_killed_command_leaves_the_old_or_the_new(what: str, models: Path, tmp_path: Path) -> None:
    """Kill -9 at six moments, the last ones while it writes: what is there is whole, old or new, and never half of one."""
    arguments, name = WRITES[what]
    output = tmp_path / name
    command = [sys.executable, "-m", "bnexport", *(a.format(models=models) for a in arguments), "-o", str(output), "-q"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.perf_counter() - begun
    rng = random.Random(what)  # noqa: S311 - to be repeated
    for moment in (rng.uniform(0.1, 0.9), 0.93, 0.96, 0.98, 1.0):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(whole * moment)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        _sound(output)


def _sound(path: Path) -> None:
    if path.is_dir():
        assert verify(path)
    else:
        onnx.checker.check_model(onnx.load(path), full_check=True)


def test_sigterm_is_an_interrupt(models: Path, tmp_path: Path) -> None:
    """A container that is stopped ends with 130, and cleans up as after Ctrl-C."""
    output = tmp_path / "bundle"
    command = [sys.executable, "-m", "bnexport", "pack", str(models / "tiny_residual.keras"), str(models / "three")]
    child = subprocess.Popen([*command, "-o", str(output), "--no-cache"], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    child.stderr.readline()  # the first stage has begun
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "interrupted" in said
    assert list(tmp_path.iterdir()) == []

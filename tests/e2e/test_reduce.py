"""The smallest part of a graph that shows a fault, which a script without bnexport shows again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

from bnexport.cli import app
from tests.e2e.test_runtime import padded_pool


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def reproduced(folder: Path) -> int:
    """The exit code of the script, run as whoever gets the folder runs it."""
    return subprocess.run([sys.executable, "repro.py"], cwd=folder, capture_output=True, check=False).returncode


def test_a_wrong_optimisation_is_two_nodes(tmp_path: Path) -> None:
    """A Pad that onnxruntime takes into the pool behind it: RT004, the two nodes, and nothing of the others."""
    onnx.save(padded_pool(0.0), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((4, 2, 6, 6), dtype=np.float32))
    output = tmp_path / "part"
    done = run(
        "reduce", tmp_path / "net.onnx", "--arrays", tmp_path / "data.npz", "-o", output, "-q", "--format", "json"
    )
    if "nothing to reduce" in done.stderr:
        pytest.skip("this onnxruntime does not have the fault")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["finding"]["code"], report["nodes"]) == ("RT004", ["Pad pad", "MaxPool pool"])
    assert [node.op_type for node in onnx.load(output / "model.onnx").graph.node] == ["Pad", "MaxPool"]
    assert len(np.load(output / "inputs.npz")["s"]) == 1
    assert reproduced(output) == 1


@pytest.mark.parametrize("names", ["kept", "lost"])
def test_a_wrong_node_is_one_node(names: str, models: Path, tmp_path: Path) -> None:
    """A kernel of other values: its Conv alone, with what the reference computes there."""
    model = onnx.load(models / "tiny_residual.onnx")
    kernel = next(t for t in model.graph.initializer if t.name == "block1_1_conv/kernel")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1.3), kernel.name))
    if names == "lost":
        for node in model.graph.node:
            node.name = ""
    onnx.save(model, tmp_path / "other.onnx")
    output, files = tmp_path / "part", (models / "tiny_residual.onnx", models / "three")
    done = run("reduce", *files, "--deployed", tmp_path / "other.onnx", "-o", output, "-q")
    assert done.exit_code == 0, done.stderr
    assert "1 node;" in done.stdout
    [node] = onnx.load(output / "model.onnx").graph.node
    assert "block1_1_conv/kernel" in node.input
    assert reproduced(output) == 1
    again = run("reduce", *files, "--deployed", tmp_path / "other.onnx", "-o", output, "-q")
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)


def test_a_sound_file_has_nothing_to_reduce(models: Path, tmp_path: Path) -> None:
    """One sentence, exit code 2, and nothing written."""
    done = run("reduce", models / "tiny_residual.onnx", models / "three", "-o", tmp_path / "part", "-q")
    assert done.exit_code == 2
    assert "there is nothing to reduce" in done.stderr
    assert not (tmp_path / "part").exists()

"""The programs in docs/recorded.md: a bundle is verified by C++, by node and by C#, through the files that they write."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from bnexport.bundles.verify import verify
from bnexport.cli import app
from tests.e2e.recorded_bundles import photos

DOCS = (Path(__file__).parents[2] / "docs/recorded.md").read_text(encoding="utf-8")
SIDE = 16
NET = """<ir_version: 10, opset_import: ["" : 18]>
    g (float[N, 3, 16, 16] x) => (float[N, 4] y) {
        f = Flatten (x)
        y = Gemm (f, weights, biases)
    }"""
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(0, 0.05, (3 * SIDE * SIDE, 4)).astype(np.float32)
BIASES = RNG.normal(0, 1, 4).astype(np.float32)


def example(language: str) -> str:
    [code] = re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a dense layer, packed with its inputs, and the layer's weights as programs read them."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "images").mkdir()
    for name, content in photos().items():
        (folder / "images" / name).write_bytes(content)
    model = onnx.parser.parse_model(NET)
    for name, values in (("weights", WEIGHTS), ("biases", BIASES)):
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        (folder / f"{name}.bin").write_bytes(values.tobytes())
    onnx.save(model, folder / "net.onnx")
    command = [
        "pack",
        folder / "net.onnx",
        folder / "images",
        "-o",
        folder / "bundle",
        "--with-inputs",
        "--batch-size",
        2,
    ]
    done = CliRunner().invoke(app, [*map(str, command), "--normalize", "unit", "--target", "onnxruntime:cpu", "-q"])
    assert done.exit_code == 0, done.output
    return folder


def run(*command: str | Path, cwd: Path, **environment: str) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stderr


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def test_the_plain_inputs_are_those_of_the_bundle(folder: Path) -> None:
    """Pack --with-inputs: .npy files equal to the .pb, a table of the items, and hashes of all of them."""
    bundle = folder / "bundle"
    table = (bundle / "items.csv").read_text().splitlines()
    assert table[0] == "item,name,file,data_set,row"
    assert table[3] == "000002,turned.jpg,images/000002.jpg,test_data_set_1,0"
    for part in ("test_data_set_0", "test_data_set_1"):
        tensor = onnx.TensorProto.FromString((bundle / part / "input_0.pb").read_bytes())
        np.testing.assert_array_equal(np.load(bundle / part / "input_0.npy"), numpy_helper.to_array(tensor))
    damaged = folder / "damaged"
    shutil.copytree(bundle, damaged)
    (damaged / "items.csv").write_text("item\n")
    done = CliRunner().invoke(app, ["verify", str(damaged), "-q"])
    assert done.exit_code == 2
    assert "items.csv has changed" in done.stderr


def test_cpp(folder: Path, tmp_path: Path) -> None:
    """The C++ program passes; with other weights its runtime is named as the cause."""
    (tmp_path / "program.cpp").write_text(example("cpp"))
    run(program("g++"), "-O1", "-std=c++17", "-Wall", "-Werror", "program.cpp", "-o", "program", cwd=tmp_path)
    files = [folder / "weights.bin", folder / "biases.bin"]
    run(tmp_path / "program", folder / "bundle", "right", *files, cwd=tmp_path)
    report = verify(folder / "bundle", recorded=tmp_path / "right")
    assert report, str(report)
    assert [c.difference.images for c in report.comparisons if c.actual == "recorded-inference"] == [3]
    (tmp_path / "weights.bin").write_bytes((WEIGHTS * np.float32(1.01)).tobytes())
    run(tmp_path / "program", folder / "bundle", "wrong", "weights.bin", files[1], cwd=tmp_path)
    report = verify(folder / "bundle", recorded=tmp_path / "wrong")
    assert not report
    [finding] = [f for f in report.findings if f.code == "RT009"]
    assert "so its runtime is the cause" in finding.message


def test_node(folder: Path, tmp_path: Path) -> None:
    """The node program passes with onnxruntime-web."""
    node = program("node")
    installed = [Path(entry) for entry in (*os.environ.get("NODE_PATH", "").split(os.pathsep), "node_modules") if entry]
    modules = next((path for path in installed if (path / "onnxruntime-web").is_dir()), None)
    if modules is None:
        pytest.skip("onnxruntime-web is not installed here or in NODE_PATH")
    (tmp_path / "program.js").write_text(example("javascript"))
    run(node, "program.js", folder / "bundle", "recorded", cwd=tmp_path, NODE_PATH=str(modules.resolve()))
    report = verify(folder / "bundle", recorded=tmp_path / "recorded")
    assert report, str(report)
    assert "recorded-inference" in {side.id for side in report.sides}


def test_csharp(tmp_path: Path) -> None:
    """The C# class writes what NumPy reads."""
    use = """
    public static class Program
    {
        public static void Main() { NpyFile.Write("y.npy", new[] { 1, 3 }, new[] { 1.5f, -2f, 1e-30f }); }
    }"""
    compiler, runtime = program("mcs"), program("mono")
    (tmp_path / "program.cs").write_text(example("csharp") + use)
    run(compiler, "program.cs", cwd=tmp_path)
    run(runtime, "program.exe", cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.array([[1.5, -2, 1e-30]], np.float32))

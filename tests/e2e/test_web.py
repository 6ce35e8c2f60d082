"""onnxruntime-web in node and in Chromium: right, exact in all types, and gone with whoever asked for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnexport.comparison.targets import open_targets
from bnexport.errors import EndedError, InputError, MachineError, UsageError
from bnexport.runtimes.protocols import Artifact, Session, Want, about_target, open_runtime
from bnexport.runtimes.web.package import find_package
from bnexport.types import Array

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2, 8, 8)).astype(np.float32)
WEIGHTS = {
    "kernel": RNG.normal(size=(4, 2, 3, 3)).astype(np.float32),
    "scale": RNG.uniform(0.5, 2, size=4).astype(np.float32),
    "shift": RNG.normal(size=4).astype(np.float32),
    "mean": RNG.normal(size=4).astype(np.float32),
    "var": RNG.uniform(0.5, 2, size=4).astype(np.float32),
    "w": RNG.normal(size=(4, 5)).astype(np.float32),
    "b": RNG.normal(size=5).astype(np.float32),
}
EXTREMES = {
    **{
        kind: np.array([np.iinfo(kind).min, 1, np.iinfo(kind).max], kind)
        for kind in ["int8", "int16", "int32", "int64"]
    },
    **{kind: np.array([0, 1, np.iinfo(kind).max], kind) for kind in ["uint8", "uint16", "uint32", "uint64"]},
    **{
        kind: np.array([-0.0, np.finfo(kind).smallest_subnormal, np.finfo(kind).max, np.nan, -np.inf], kind)
        for kind in ["float16", "float32", "float64"]
    },
    "bool": np.array([True, False, True]),
    "text": np.array(["", 'ä€😀\t"', "x" * 300]),
}
"""Values of each type that a conversion by way of another type would change."""


def net(identities: bool = False) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu, pooling, Gemm, Softmax; and `Identity` on inputs of all types."""
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 2, 8, 8] x) => (float[N, 5] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, kernel)
            n = BatchNormalization (c, scale, shift, mean, var)
            r = Relu (n)
            p = GlobalAveragePool (r)
            f = Flatten (p)
            g = Gemm (f, w, b)
            y = Softmax (g)
        }""")
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in WEIGHTS.items())
    for name, value in EXTREMES.items() if identities else ():
        kind = TensorProto.STRING if name == "text" else helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.input.append(helper.make_tensor_value_info(name, kind, value.shape))
        model.graph.output.append(helper.make_tensor_value_info(f"same_{name}", kind, value.shape))
        model.graph.node.append(helper.make_node("Identity", [name], [f"same_{name}"]))
    return model


def artifact(model: onnx.ModelProto) -> Artifact:
    return Artifact("onnx", model.SerializeToString(), "net.onnx")


def steps(count: int) -> onnx.ModelProto:
    """A Split into many parts and back, as in an unrolled recurrent layer."""
    parts = [f"part{k}" for k in range(count)]
    shape = ["N", count, 3]
    graph = helper.make_graph(
        [
            helper.make_node("Split", ["x"], parts, axis=1, num_outputs=count, name="steps"),
            helper.make_node("Concat", parts, ["y"], axis=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def missing(device: str) -> str:
    return about_target(open_runtime("web"), device, {}).unavailable


needs = {device: pytest.mark.skipif(bool(missing(device)), reason=missing(device)) for device in ("node", "chromium")}
node, chromium = needs["node"], needs["chromium"]

DEVICES = [
    pytest.param("web:node", marks=node),
    pytest.param("web:node:threads=2:optimized=off", marks=node),
    pytest.param("web:chromium:threads=2", marks=[chromium, pytest.mark.browser]),
    pytest.param("web:webgpu", marks=[chromium, pytest.mark.browser]),
]


@pytest.fixture(scope="module", params=DEVICES)
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The net with all types, on each device."""
    [target] = open_targets([request.param])
    with target.runtime.open(artifact(net(identities=True)), Want(target.device, options=target.options)) as session:
        yield session


def feeds(x: Array) -> dict[str, Array]:
    return {"x": x, **EXTREMES}


def test_a_net_is_right(session: Session) -> None:
    """Batches of other sizes too are those of ONNX' reference evaluator in float64, to float32's rounding in a softmax."""
    model = net()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    [expected] = ReferenceEvaluator(model).run(None, {"x": X.astype(np.float64)})
    np.testing.assert_allclose(session.run(feeds(X), ["y"])["y"], expected, atol=2e-6)
    np.testing.assert_allclose(session.run(feeds(X[:1]), ["y"])["y"], expected[:1], atol=2e-6)


def test_all_types_pass_unchanged(session: Session) -> None:
    """Every bit of the extreme values of all types, NaN and text included, comes back."""
    outputs = session.run(feeds(X))
    for name, value in EXTREMES.items():
        same = outputs[f"same_{name}"]
        if name == "text":
            assert same.tolist() == value.tolist()
        else:
            assert (same.dtype, same.tobytes()) == (value.dtype, value.tobytes()), name


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that can be damaged: what is loaded, and no more."""
    original = find_package()
    if original is None:
        pytest.skip("onnxruntime-web is not installed")
    copy = tmp_path / "copy"
    (copy / "dist").mkdir(parents=True)
    shutil.copy(original / "package.json", copy)
    for name in ("ort.node.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(original / "dist" / name, copy / "dist")
    return copy


def refusal(text: str, kind: type[Exception] = MachineError) -> str:
    """The one sentence that opening a target ends in."""
    with pytest.raises(kind) as caught:
        open_targets([text])[0].open(artifact(net()))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@node
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("package.json", "{}"),
        ("dist/ort.node.min.mjs", None),
        ("dist/ort.node.min.mjs", "export const"),
        ("dist/ort-wasm-simd-threaded.wasm", "not wasm"),
    ],
)
def test_a_damaged_package_is_named(package: Path, file: str, content: str | None) -> None:
    """A file that is missing or broken: the folder and the command that installs it, and no blame on the model."""
    if file == "package.json":
        package = package.rename(package.parent / "onnxruntime-web")
    (package / file).unlink()
    if content is not None:
        (package / file).write_text(content)
    sentence = refusal(f"web:package={package}")
    assert str(package) in sentence
    assert "npm install onnxruntime-web" in sentence
    assert "net.onnx" not in sentence


@node
def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder without the package, nor a machine without it, without Chromium or without node runs anything."""
    assert f"onnxruntime-web is not in {tmp_path}" in refusal(f"web:package={tmp_path}")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "node").symlink_to(str(shutil.which("node")))
    monkeypatch.setenv("PATH", str(programs))
    assert "install one of them" in refusal("web:webgpu")
    monkeypatch.delenv("NODE_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert "npm install onnxruntime-web" in refusal("web")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Node.js 18 or later" in refusal("web")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("web:threads=none", "1 or more"),
        ("web:threads=0", "1 or more"),
        ("web:optimized=maybe", "on or off"),
        ("web:size=2", "no option size"),
    ],
)
def test_what_the_options_cannot_be(target: str, words: str) -> None:
    """One sentence, before anything runs."""
    assert words in refusal(target, UsageError)


@node
def test_a_model_that_is_refused() -> None:
    """The words of onnxruntime-web are those of the error; the model is to blame."""
    model = net()
    model.graph.node[2].op_type, model.graph.node[2].domain = "Foo", "com.acme"
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    [target] = open_targets(["web:node"])
    with pytest.raises(InputError, match=r"com.acme:Foo.*is not a registered function/op"):
        target.open(artifact(model))


def check(folder: Path, model: onnx.ModelProto, x: Array, *targets: str, **environment: str) -> subprocess.Popen[str]:
    onnx.save(model, folder / "net.onnx")
    np.savez(folder / "x.npz", x=x)
    command = ["check", "net.onnx", "--arrays", "x.npz"]
    options = [option for target in targets for option in ("--target", target)]
    return subprocess.Popen(
        [sys.executable, "-m", "bnexport", *command, *options, "--format", "json", "--no-cache", "-q"],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@node
@chromium
@pytest.mark.browser
def test_what_webgpu_refuses_runs_in_wasm(tmp_path: Path) -> None:
    """A Split into more parts than a shader has buffers for: RT016 with the operator for webgpu, and rows that pass for wasm."""
    x = RNG.normal(size=(2, 40, 3)).astype(np.float32)
    process = check(tmp_path, steps(40), x, "web", "web:webgpu:optimized=off")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    report = json.loads(out)
    [finding] = [finding for finding in report["findings"] if finding["code"].startswith("RT")]
    assert finding["code"] == "RT016"
    assert "storage buffers" in finding["message"]
    assert finding["evidence"]["operators"] == ["Split"]
    rows = [row for row in report["comparisons"] if row["actual"] == "onnx-inference@web:node"]
    assert rows, report["sides"]
    assert all(row["passed"] for row in rows)


class Descendants:
    """The processes of runtimes that are started with a mark in their environment, with all that they start.

    A runtime's process has a session of its own, and what it starts stays in it; Chromium's processes overwrite their environments.
    """

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._sessions: set[str] = set()
        self._folders: set[Path] = set()

    def running(self) -> dict[int, str]:
        """Their command lines."""
        running: dict[int, str] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                session = (path / "stat").read_text().rpartition(")")[2].split()[3]
                if session == path.name and self.mark in (variables := (path / "environ").read_text()):
                    self._sessions.add(session)
                    self._folders.add(Path(variables.partition("TMPDIR=")[2].partition("\0")[0]))
                line = (path / "cmdline").read_text().replace("\0", " ")  # nothing, where it has ended
                if session in self._sessions and line:
                    running[int(path.name)] = line
        return running

    def wait_for(self, text: str) -> list[int]:
        """Those whose command line has a text, as soon as there are any."""
        patience = time.monotonic() + 30
        while time.monotonic() < patience:
            if pids := [pid for pid, line in self.running().items() if text in line]:
                return pids
            time.sleep(0.05)
        raise AssertionError(self.running())

    def wait_for_end(self) -> None:
        """Makes sure that there were some, that they end, and that the folders are gone in which they kept something."""
        patience = time.monotonic() + 20
        while (running := self.running()) and time.monotonic() < patience:
            time.sleep(0.1)
        assert self._sessions
        assert not running
        assert not any(folder.exists() for folder in self._folders)


@pytest.mark.parametrize(
    ("target", "victim", "cause"),
    [
        pytest.param("web:node", "node.mjs", "SIGKILL", marks=node),
        pytest.param("web:chromium", "--type=renderer", "the page crashed", marks=[chromium, pytest.mark.browser]),
    ],
)
def test_what_is_killed_in_the_middle_is_reported(
    target: str, victim: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """node, or the page, is killed between two batches: an error with the cause (RT015 in a check), and nothing is left behind."""
    descendants = Descendants()
    monkeypatch.setenv("BNEXPORT_TEST_MARK", descendants.mark)
    opened = open_targets([target])[0].open(artifact(net()))
    opened.run({"x": X}, ["y"])
    for pid in descendants.wait_for(victim):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(EndedError) as caught:
        opened.run({"x": X}, ["y"])
    assert (caught.value.cause, caught.value.target) == (cause, target)
    del opened, caught
    descendants.wait_for_end()


@chromium
@pytest.mark.browser
def test_nothing_outlives_bnexport(tmp_path: Path) -> None:
    """Kill -9 of a check while a page is open: all of Chromium ends, and what it kept is removed."""
    descendants = Descendants()
    process = check(tmp_path, net(), X, "web:chromium", BNEXPORT_TEST_MARK=descendants.mark)
    descendants.wait_for("--type=renderer")
    process.kill()
    process.communicate(timeout=30)
    descendants.wait_for_end()


@node
def test_a_check_in_which_node_is_killed(tmp_path: Path) -> None:
    """RT015 with the signal, exit code 1, and onnxruntime's rows are there."""
    descendants = Descendants()
    process = check(tmp_path, net(), X, "web", BNEXPORT_TEST_MARK=descendants.mark)
    for pid in descendants.wait_for("node.mjs"):
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    report = json.loads(out)
    assert [(f["code"], f["evidence"]["cause"]) for f in report["findings"] if f["code"].startswith("RT")] == [
        ("RT015", "SIGKILL")
    ]
    descendants.wait_for_end()

"""The contract that every runtime keeps, and a runtime that somebody else installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bnexport import check
from bnexport.errors import BnexportError, InputError, MachineError, UsageError
from bnexport.reporting import json as to_json
from bnexport.runtimes.isolated import IsolatedSession
from bnexport.runtimes.protocols import Artifact, Runtime, Session, Want, open_runtime, runtime_names
from tests.tflite_nets import linear_net

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3)).astype(np.float32)
X = RNG.normal(size=(5, 4)).astype(np.float32)


def net() -> bytes:
    """A linear layer behind a Relu, and softmax."""
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 4] x) => (float[N, 3] y) { h = Relu(x)  z = MatMul(h, w)  y = Softmax(z) }""")
    model.graph.initializer.append(numpy_helper.from_array(KERNEL, "w"))
    return model.SerializeToString()


def expected(x: np.ndarray) -> np.ndarray:
    z = np.maximum(x, 0).astype(np.float64) @ KERNEL
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


class Apart:
    """A runtime in a process of its own, as a check opens it."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name, self.about = name, runtime.about

    def open(self, artifact: Artifact, want: Want) -> Session:
        return IsolatedSession(self.name, artifact, want)


@pytest.fixture(scope="module", params=runtime_names())
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each runtime that is installed and runs here, where it runs in a check."""
    runtime = open_runtime(request.param)
    if reason := runtime.about().unavailable or (runtime.about().opaque and "it needs a program or a server"):
        pytest.skip(reason)
    return Apart(request.param, runtime) if runtime.about().isolated else runtime


def first_device(runtime: Runtime) -> Want:
    """The device that is taken where none is named."""
    return Want(runtime.about().devices[0])


@pytest.fixture(scope="module")
def artifact(runtime: Runtime) -> Artifact:
    """The net in a format that the runtime executes."""
    formats = runtime.about().formats
    if "onnx" in formats:
        return Artifact("onnx", net())
    assert formats == ("tflite",), "write the net in this format too"
    return Artifact("tflite", linear_net(KERNEL))


@pytest.fixture(scope="module")
def session(runtime: Runtime, artifact: Artifact) -> Iterator[Session]:
    with runtime.open(artifact, first_device(runtime)) as session:
        yield session


def test_it_says_what_it_is(runtime: Runtime) -> None:
    """Version, devices and formats; the first device is the one that is taken."""
    about = runtime.about()
    assert about.version
    assert about.devices
    assert about.formats


def test_a_small_net_is_computed(session: Session) -> None:
    """The outputs are NumPy's in float64, to float32's rounding, in the type that the model declares."""
    [(name, y)] = session.run({"x": X}).items()
    assert name == "y"
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected(X), atol=1e-6)
    assert list(session.run({"x": X[:2]}, ["y"])) == ["y"]


def test_the_signature_is_the_models(session: Session) -> None:
    """Names, open axes and dtypes of inputs and outputs."""
    [x], [y] = session.signature.inputs, session.signature.outputs
    assert (x.name, x.shape, x.dtype) == ("x", (None, 4), np.dtype(np.float32))
    assert (y.name, y.shape, y.dtype) == ("y", (None, 3), np.dtype(np.float32))


@pytest.mark.parametrize("what", ["bytes", "format"])
def test_a_foreign_file_is_refused(runtime: Runtime, artifact: Artifact, what: str) -> None:
    """What is no model of the runtime's formats is an InputError."""
    changed = {"content": b"not a model"} if what == "bytes" else {"format": "nothing", "content": net()}
    with pytest.raises(InputError):
        runtime.open(replace(artifact, **changed), first_device(runtime))


def test_an_unknown_device_is_refused(runtime: Runtime, artifact: Artifact) -> None:
    """It is the machine that lacks it."""
    with pytest.raises(MachineError):
        runtime.open(artifact, Want("quantum"))


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": X}, ["nothing"]),
        ({"x": np.full((5, 4), "a")}, []),
        ({"x": X[:, :3]}, []),
        ({"x": X[0]}, []),
        ({"other": X}, []),
    ],
    ids=["unknown tensor", "text", "shape", "rank", "name"],
)
def test_what_does_not_fit_is_refused(session: Session, inputs: dict[str, np.ndarray], outputs: list[str]) -> None:
    """An unknown tensor, another dtype, shape, rank or name: an InputError, and the session still works."""
    with pytest.raises(InputError):
        session.run(inputs, outputs)
    np.testing.assert_allclose(session.run({"x": X})["y"], expected(X), atol=1e-6)


def test_an_empty_batch_is_empty_or_refused(session: Session) -> None:
    """Never other rows than those that went in."""
    try:
        y = session.run({"x": X[:0]})["y"]
    except BnexportError:
        return
    assert y.shape == (0, 3)


def test_closing_twice_does_nothing(runtime: Runtime, artifact: Artifact) -> None:
    """A closed session computes nothing more."""
    with runtime.open(artifact, first_device(runtime)) as session:
        session.run({"x": X})
    session.close()
    session.close()
    with pytest.raises(BnexportError):
        session.run({"x": X})


def test_sessions_do_not_know_of_each_other(runtime: Runtime, artifact: Artifact) -> None:
    """Two at once, and one that is closed while the other computes."""
    first, second = (runtime.open(artifact, first_device(runtime)) for _ in range(2))
    before = first.run({"x": X})["y"]
    second.run({"x": X[:1]})
    second.close()
    np.testing.assert_array_equal(first.run({"x": X})["y"], before)


def test_a_name_that_there_is_not() -> None:
    """The runtimes that are installed are listed."""
    with pytest.raises(UsageError, match="onnx-reference or onnxruntime"):
        open_runtime("onnxruntimes")


def test_the_reference_evaluator_is_an_oracle(models: Path) -> None:
    """`onnx-reference` computes in float64: a sound file is as far from it as rounding in float32 goes."""
    report = check(models / "tiny_residual.onnx", models / "three", targets=["onnx-reference"])
    mine = [c for c in report.comparisons if c.actual == "onnx-inference@onnx-reference"]
    assert {c.tensor for c in mine} == {"logits", "probabilities"}
    assert all(mine), str(report)
    assert all(
        0 < c.difference.max_rel < 1e-6 for c in mine if c.tensor == "logits" and "one by one" not in c.reference
    )
    assert report.environment["onnx-reference"] == onnx.__version__
    jsonschema.validate(json.loads(to_json.dumps(to_json.check(report))), json.loads(to_json.SCHEMA.read_text()))


@pytest.mark.parametrize("targets", [[], ["onnx-reference"]])
@pytest.mark.parametrize("model", ["tiny_residual.onnx", "tiny_residual.keras"])
def test_inputs_that_are_not_finite_are_no_runtimes_fault(models: Path, model: str, targets: list[str]) -> None:
    """NaN in, NaN out, everywhere: RT006 alone says so, and blames neither the file, nor its modes, nor a runtime."""
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype(np.float32)
    x[0] = np.nan
    report = check(models / model, x, targets=targets)
    assert not report
    assert {finding.code for finding in report.findings} == {"RT006"}, str(report)
    evidence, message = report.findings[0].evidence, report.findings[0].message
    assert all(count == (4 if "training" in side else 1) for side, count in evidence["sides"].items())
    in_training = any("training" in side for side in evidence["sides"])
    assert (evidence["inputs_not_finite"], evidence["inputs_finite"]) == (1, 3 if in_training else 0)
    assert "the inputs of 1 of these samples contain NaN or infinity themselves (" in message
    assert ("those of 3 do not" in message) == in_training


PLUGIN = '''
import dataclasses
import numpy as np
from bnexport.runtimes.onnx_reference import OnnxReference

class OnePercent(OnnxReference):
    """The reference evaluator, one percent wrong."""

    def open(self, artifact, want):
        session = super().open(artifact, want)
        run = session.run
        session.run = lambda inputs, outputs=(): {
            name: (value * 1.01).astype(value.dtype) for name, value in run(inputs, outputs).items()
        }
        return session

class Apart(OnePercent):
    """The same in a process of its own, which it may end."""

    def about(self):
        return dataclasses.replace(super().about(), isolated=True)
class Broken(OnnxReference):
    def open(self, artifact, want):
        raise KeyError("no such luck")
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a package that registers two runtimes, as an installer leaves it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "one_percent.py").write_text(PLUGIN)
    metadata = folder / "one_percent-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: one-percent\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[bnexport.runtimes]\none-percent = one_percent:OnePercent\napart = one_percent:Apart\nbroken = one_percent:Broken\nmissing = nowhere:Nothing\n"
    )
    return {**os.environ, "PYTHONPATH": str(folder)}


def run(installed: dict[str, str], models: Path, target: str) -> subprocess.CompletedProcess[str]:
    command = ["-m", "bnexport", "check", str(models / "tiny_residual.onnx"), str(models / "three"), "--target", target]
    return subprocess.run(
        [sys.executable, *command, "--format", "json", "--no-cache", "-q"],
        env=installed,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["one-percent", "apart"])
def test_a_runtime_of_another_package_is_run_and_failed(name: str, installed: dict[str, str], models: Path) -> None:
    """A plug-in that is one percent wrong, here or in a process of its own: exit code 1, RT009 under its own name, and onnxruntime is cleared."""
    done = run(installed, models, name)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    [finding] = [f for f in report["findings"] if f["code"] == "RT009"]
    assert f"onnx-inference@{name}" in finding["message"]
    assert "the runtime is the cause" in finding["message"]
    failed = {
        c["actual"] for c in report["comparisons"] if not c["passed"] and c["reference"] == "onnx-unoptimised@cpu"
    }
    assert failed >= {f"onnx-inference@{name}"}
    assert "onnx-inference@cpu" not in failed


@pytest.mark.parametrize(
    ("target", "words"),
    [("broken", "no such luck"), ("missing", "cannot be loaded")],
)
def test_a_plugin_that_fails_is_one_sentence(installed: dict[str, str], models: Path, target: str, words: str) -> None:
    """Exit code 3 and the plug-in's name; nothing of it is a traceback."""
    done = run(installed, models, target)
    assert done.returncode == 3
    assert target in done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_targets_that_differ_by_their_process_only_have_ids_of_their_own(models: Path) -> None:
    """A time limit tells two runs of one runtime apart in the report; where there is one run, it is no part of its id."""
    texts = ["onnx-reference", "onnx-reference:timeout=90", "onnx-reference:timeout=95"]
    report = check(models / "tiny_residual.onnx", models / "three", targets=texts)
    ids = [side.id for side in report.sides if "onnx-reference" in side.id]
    assert ids == [f"onnx-inference@{text}" for text in texts]
    alone = check(models / "tiny_residual.onnx", models / "three", targets=texts[1:2])
    assert [side.id for side in alone.sides if "onnx-reference" in side.id] == ["onnx-inference@onnx-reference"]

"""A bundle on every runtime that a check runs on: its row against the stored outputs, and what fails is one finding."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from bnexport.bundles.verify import verify
from bnexport.cli import app
from bnexport.errors import EndedError, InputError, MachineError, UsageError
from bnexport.results.verdict import CheckReport
from bnexport.runtimes.onnx_reference import OnnxReference, ReferenceSession
from bnexport.runtimes.protocols import RUNTIMES, About, Artifact, Switch, Want, open_runtime, runtime_names


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A small ONNX file, packed in batches of two."""
    folder = tmp_path_factory.mktemp("packed") / "bundle"
    done = run("pack", models / "tiny_residual.onnx", models / "three", "-o", folder, "--batch-size", "2", "-q")
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("name", runtime_names())
def test_every_runtime_verifies_a_bundle(name: str, packed: Path) -> None:
    """Its rows, and no others, are within the packed tolerance; one that executes no ONNX files is a usage error."""
    about = open_runtime(name).about()
    if about.unavailable or about.opaque:
        pytest.skip(about.unavailable or "it needs a program or a server")
    if "onnx" not in about.formats:
        with pytest.raises(UsageError, match=r"executes \.tflite files"):
            verify(packed, targets=[name])
        return
    target = f"{name}:{about.devices[0]}" if name == "onnxruntime-provider" else name
    report = verify(packed, targets=[target])
    assert report, report.findings
    rows = {comparison.actual for comparison in report.comparisons}
    if name == "onnxruntime":
        assert rows >= {"onnx-inference@cpu"}
        return
    assert rows
    assert all(row.startswith("onnx-inference@") and row != "onnx-inference@cpu" for row in rows)


def test_onnxruntime_is_opened_only_where_it_is_asked_for(packed: Path) -> None:
    """Another target alone opens no session of onnxruntime; with --require-target both run."""
    script = (
        "import onnxruntime, sys; onnxruntime.InferenceSession = None\n"
        "from bnexport.cli import main; sys.argv = ['bnexport', *sys.argv[1:]]; main()"
    )
    command = [sys.executable, "-c", script, "verify", str(packed), "--target", "onnx-reference", "-q"]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    both = run(
        "verify", packed, "--require-target", "onnx-reference", "--target", "onnxruntime:cpu", "--format", "json"
    )
    assert both.exit_code == 0, both.output
    rows = {comparison["actual"] for comparison in json.loads(both.stdout)["comparisons"]}
    assert rows == {"onnx-inference@cpu", "onnx-inference@onnx-reference"}


class Strange(OnnxReference):
    """A runtime whose answers are changed."""

    calls = 0

    def change(self, name: str, right: np.ndarray, want: Want) -> np.ndarray:  # noqa: ARG002
        return right

    def open(self, artifact: Artifact, want: Want) -> ReferenceSession:
        session = super().open(artifact, want)
        compute = session.run

        def strange(inputs: Any, outputs: Any = ()) -> dict[str, np.ndarray]:
            return {name: self.change(name, x, want) for name, x in compute(inputs, outputs).items()}

        session.run = strange  # type: ignore[method-assign]
        return session


class Wrong(Strange):
    def change(self, name: str, right: np.ndarray, want: Want) -> np.ndarray:  # noqa: ARG002
        return right + np.float32(0.01)


class Switched(Wrong):
    """Right with an option."""

    def about(self) -> About:
        return dataclasses.replace(super().about(), switches=(Switch("exact", "1", "Net.exact(True)"),))

    def change(self, name: str, right: np.ndarray, want: Want) -> np.ndarray:
        return right if want.options.get("exact") == "1" else super().change(name, right, want)


class Fused(OnnxReference):
    """Wrong unless all tensors are outputs."""

    def open(self, artifact: Artifact, want: Want) -> ReferenceSession:
        model = onnx.ModelProto.FromString(artifact.content)
        if len(model.graph.output) < 4:
            for tensor in model.graph.initializer:
                if tensor.data_type == onnx.TensorProto.FLOAT:
                    array = onnx.numpy_helper.to_array(tensor) * np.float32(1.01)
                    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        return super().open(dataclasses.replace(artifact, content=model.SerializeToString()), want)


class Half(Strange):
    """It says that it computes in bfloat16 where nothing is asked for."""

    def about(self) -> About:
        return dataclasses.replace(super().about(), reduced_by_default=True, setting="PRECISION=f32")

    def open(self, artifact: Artifact, want: Want) -> ReferenceSession:
        session = super().open(artifact, want)
        session.computes = "bfloat16" if want.as_deployed else "float32"
        return session


class Refusing(Strange):
    def open(self, artifact: Artifact, want: Want) -> ReferenceSession:  # noqa: ARG002
        raise InputError("the operator Conv is not implemented")


class Later(Strange):
    """It refuses the second batch."""

    def change(self, name: str, right: np.ndarray, want: Want) -> np.ndarray:  # noqa: ARG002
        Strange.calls += 1
        if Strange.calls > self.good:
            raise self.error
        return right

    good, error = 4, InputError("the batch is too large")


class Ending(Later):
    error = EndedError("the process ended", cause="SIGABRT", last_line="out of luck")  # type: ignore[assignment]


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch, packed: Path) -> Any:
    """Verifies the bundle on a runtime of this file, beside onnx-reference."""

    def on(runtime: type, *, required: bool = False) -> CheckReport:
        Strange.calls = 0
        own: Any = RUNTIMES.own
        monkeypatch.setitem(own, "mine", f"{__name__}:{runtime.__name__}")
        return verify(packed, targets=["mine", "onnx-reference"], require=["mine"] if required else [])

    return on


@pytest.mark.parametrize(
    ("runtime", "code", "words"),
    [
        (Wrong, "RT009", "onnxruntime agrees with the reference on the same file"),
        (Switched, "RT009", "it is right with exact=1 (Net.exact(True))"),
        (Fused, "RT009", "is an output of the graph"),
        (Half, "RT017", "computes in bfloat16 on this machine by default"),
        (Refusing, "RT016", "operators of the model that it names: Conv"),
        (Later, "RT016", "runs the first batch of this model, but not a later one"),
        (Ending, "RT015", 'SIGABRT); the last line that it wrote: "out of luck"'),
    ],
)
def test_what_a_runtime_cannot_do_is_one_finding(runtime: type, code: str, words: str, strange: Any) -> None:
    """The other runtime's row is there and right."""
    report = strange(runtime)
    [finding] = report.findings
    assert finding.code == code
    assert words in finding.message
    assert bool(report) == (runtime is Half)
    right = [c for c in report.comparisons if c.actual == "onnx-inference@onnx-reference"]
    assert right
    assert all(right)
    assert ("mine" in str([c.actual for c in report.comparisons])) == (code in ("RT009", "RT017"))


def test_a_required_target_that_ends_is_an_error(strange: Any) -> None:
    """Exit code 3 in place of a finding; one that only refuses the model works."""
    with pytest.raises(MachineError, match="SIGABRT"):
        strange(Ending, required=True)
    assert [f.code for f in strange(Refusing, required=True).findings] == ["RT016"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--target", "nothing"], 2, "nothing"),
        (["--require-target", "nothing"], 2, "nothing"),
        (["--require-target", "onnxruntime"], 2, "--require-target"),
        (["--target", "onnx-reference:python=/nowhere/python"], 2, "interpreter"),
        (["--target", "onnx-reference", "--rtol", "nothing=1"], 2, "nothing"),
    ],
)
def test_what_cannot_be_asked_for(arguments: list[str], code: int, words: str, packed: Path) -> None:
    """One sentence."""
    done = run("verify", packed, "-q", *arguments)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert done.stderr.count("\n") == 1

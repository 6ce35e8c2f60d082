"""Programs as targets: one in C++ and one in JavaScript are right, and one that fails in any way is one finding."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

from bnexport import check
from bnexport.bundles.verify import verify
from bnexport.cli import app
from bnexport.errors import MachineError, UsageError
from bnexport.results.target_names import split_target
from bnexport.results.verdict import CheckReport
from bnexport.runtimes.web import package

PROGRAMS = Path(__file__).parent.parent / "programs"
W = np.array([[0.5, -1, 0.25], [1.5, 0.125, -0.75], [-0.5, 2, 1], [0.75, -0.25, 0.5]], np.float32)
"""The matrix of the program in C++."""

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

SCRIPT = """
import os, sys, time
import numpy as np

W = np.array([[0.5, -1, 0.25], [1.5, 0.125, -0.75], [-0.5, 2, 1], [0.75, -0.25, 0.5]], np.float32)
model, given, out, way = sys.argv[1:]
assert os.path.getsize(model) > 100
with np.load(given) as file:
    z = np.maximum(file["x"], 0) @ W
e = np.exp(z - z.max(axis=1, keepdims=True))
outputs = {"y": e / e.sum(axis=1, keepdims=True)}
if way == "all":
    outputs["z"] = z  # which bnexport makes an output of the file
if way == "fail":
    sys.exit("\\n".join(["reading", "computing", "the device is busy", "giving up"]))
if way == "hang":
    print("waiting for the device", file=sys.stderr, flush=True)
    time.sleep(600)
if way == "shape":
    outputs = {name: x[:, :2] for name, x in outputs.items()}
if way == "nan":
    outputs = {name: np.where(np.arange(len(x))[:, None] == 0, np.nan, x) for name, x in outputs.items()}
if way == "names":
    outputs = {"probabilities": x for x in outputs.values()}
if way == "double":
    outputs = {name: x.astype(np.float64) for name, x in outputs.items()}
if way == "wrong":
    outputs = {name: x + 0.01 for name, x in outputs.items()}
if way == "garbage":
    open(out, "w").write("no archive")
elif way != "nothing":
    print("progress: 100 %")
    np.savez(out, **outputs)
"""


def net() -> onnx.ModelProto:
    """A linear layer behind a Relu, and softmax."""
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 4] x) => (float[N, 3] y) { h = Relu(x)  z = MatMul(h, w)  y = Softmax(z) }""")
    model.graph.initializer.append(numpy_helper.from_array(W, "w"))
    return model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net, packed in batches of two."""
    folder = tmp_path_factory.mktemp("command")
    onnx.save(net(), folder / "net.onnx")
    np.savez(folder / "data.npz", x=X)
    packed = run(
        "pack", folder / "net.onnx", "--arrays", folder / "data.npz", "-o", folder / "bundle", "--batch-size", "2"
    )
    assert packed.exit_code == 0, packed.output
    return folder / "bundle"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A target whose program is a script in Python; its last argument is how it fails."""
    path = tmp_path_factory.mktemp("program") / "infer.py"
    path.write_text(SCRIPT)
    return f"command:{{options}}'{sys.executable}' '{path}' {{{{model}}}} {{{{inputs}}}} {{{{outputs}}}} {{way}}"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "-q"])


def rows(report: CheckReport) -> dict[str, bool]:
    """The tensors that the program computed, and whether they are right."""
    return {c.tensor: bool(c) for c in report.comparisons if "@command" in c.actual}


def test_a_program_in_cpp(bundle: Path, tmp_path: Path) -> None:
    """C++ without any library reads and writes .npz files; `check` and `verify` hold it against onnxruntime and the bundle."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    program = tmp_path / "a program" / "infer"
    program.parent.mkdir()
    subprocess.run([compiler, "-O1", "-o", program, PROGRAMS / "infer.cpp"], check=True)
    target = f"command:'{program}' {{inputs}} {{outputs}}"
    report = verify(bundle, targets=[target])
    assert report, report.findings
    assert rows(report) == {"probabilities": True}
    assert [side.id for side in report.sides][1:] == ["onnx-inference@command:infer"]
    checked = check(net(), X, targets=[target])
    assert checked, checked.findings
    assert rows(checked) == {"probabilities": True}
    other = net()
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(W * np.float32(1.01), "w"))
    [finding] = [f for f in check(other, X, targets=[target]).findings if f.code.startswith("RT")]
    assert finding.code == "RT009"
    assert "onnxruntime agrees with the reference" in finding.message


def test_a_program_in_javascript(bundle: Path) -> None:
    """Node.js with onnxruntime-web, which runs the file that bnexport hands to it: folders of .npy files."""
    node, folder = package.node(), package.find_package()
    if node is None or folder is None:
        pytest.skip("there is no Node.js with onnxruntime-web")
    target = f"command:format=npy:'{node}' '{PROGRAMS / 'infer.mjs'}' '{folder}' {{model}} {{inputs}} {{outputs}}"
    report = verify(bundle, targets=[target])
    assert report, report.findings
    assert rows(report) == {"logits": True, "probabilities": True}


def test_tensors_as_pb(bundle: Path, tmp_path: Path) -> None:
    """The files of ONNX' own test sets; the program names itself by an option."""
    (tmp_path / "infer.py").write_text(
        "import sys, onnx, numpy as np\nfrom onnx import numpy_helper\nmodel, given, out = sys.argv[1:]\n"
        "x, w = onnx.load_tensor(f'{given}/input_0.pb'), onnx.load(model).graph.initializer[0]\n"
        "assert x.name == 'x'\n"
        "e = np.exp(np.maximum(numpy_helper.to_array(x), 0) @ numpy_helper.to_array(w))\n"
        "y = numpy_helper.from_array(e / e.sum(axis=1, keepdims=True))\n"
        "onnx.save_tensor(y, f'{out}/output_0.pb')\n"
    )
    program = f"'{sys.executable}' '{tmp_path / 'infer.py'}' {{model}} {{inputs}} {{outputs}}"
    done = run("verify", bundle, "--target", f"command:name=board:format=pb:timeout=60:{program}")
    assert done.exit_code == 0, done.output
    assert "onnx-inference@command:board" in done.output


@pytest.mark.parametrize("way", ["all", "first", "double"])
def test_a_program_that_is_right(way: str, script: str, bundle: Path) -> None:
    """With the logits that bnexport adds to the file or without them, and in a wider type."""
    report = verify(bundle, targets=[script.format(options="", way=way)])
    assert report, report.findings
    assert rows(report) == ({"logits": True, "probabilities": True} if way == "all" else {"probabilities": True})


@pytest.mark.parametrize(
    ("way", "code", "words"),
    [
        (
            "fail",
            "RT015",
            'exit status 1); the last lines that it wrote: "computing", "the device is busy", "giving up"',
        ),
        ("hang", "RT015", 'a time limit of 3 s); the last line that it wrote: "waiting for the device"'),
        ("shape", "RT009", "(2, 2)"),
        ("nan", "RT009", "not finite"),
        ("wrong", "RT009", "so the program is the cause"),
        ("names", "RT016", "does not write the output y: found probabilities; expected y"),
        ("garbage", "RT016", "writes outputs.npz, which cannot be read"),
        ("nothing", "RT016", "does not write {outputs}"),
    ],
)
def test_a_program_that_fails(way: str, code: str, words: str, script: str, bundle: Path) -> None:
    """One finding, which says what became of it and what to correct."""
    options = "name=board:timeout=3:" if way == "hang" else "name=board:"
    report = verify(bundle, targets=[script.format(options=options, way=way)])
    [finding] = [
        finding for finding in report.findings if finding.code != "RT006"
    ]  # which says that outputs are not finite
    assert not report
    assert (finding.code, words in finding.message) == (code, True), finding.message
    assert "@command:board" in finding.message
    assert "layer" not in finding.actions[0].reason
    assert str(bundle.parent) not in finding.message or code == "RT016"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_bnexport(how: signal.Signals, bundle: Path) -> None:
    """Ctrl-C and kill -9 end the program, and what it started."""
    shell = f"command:sh -c 'sleep 98.7{how:d} & wait' {{inputs}} {{outputs}}"
    command = [sys.executable, "-m", "bnexport", "verify", str(bundle), "--target", shell]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def running() -> list[str]:
        lines = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended
                lines.append(path.read_text().replace("\0", " "))
        return [line for line in lines if line.startswith(f"sleep 98.7{how:d}")]

    patience = time.monotonic() + 30
    while not running() and time.monotonic() < patience:
        time.sleep(0.1)
    assert running()
    process.send_signal(how)
    process.wait(30)
    patience = time.monotonic() + 20
    while running() and time.monotonic() < patience:
        time.sleep(0.1)
    assert not running()


def test_variables_of_the_process_around_it_do_not_reach_it(bundle: Path, tmp_path: Path) -> None:
    """A script may import what lies beside it, and an option of bnexport is none of its own."""
    (tmp_path / "beside.py").write_text(SCRIPT)
    (tmp_path / "main.py").write_text("import os, beside\nassert 'BNEXPORT_CHILD_SECONDS' not in os.environ\n")
    target = f"command:'{sys.executable}' '{tmp_path / 'main.py'}' {{model}} {{inputs}} {{outputs}} all"
    assert verify(bundle, targets=[target])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("command:./infer {model}", "lacks {inputs} and {outputs}"),
        ("command", "lacks {inputs} and {outputs}"),
        ("command:/nowhere/infer {inputs} {outputs}", "cannot be started"),
        ("command:'sh {inputs} {outputs}", "cannot read the command line"),
        ("command:format=csv:sh {inputs} {outputs}", "npz or npy or pb"),
        ("command:speed=9:sh {inputs} {outputs}", "has no option speed"),
        ("command:timeout=soon:sh {inputs} {outputs}", "time limit"),
    ],
)
def test_what_a_target_cannot_be(target: str, words: str, bundle: Path) -> None:
    """Refused before anything runs, in one sentence."""
    with pytest.raises(UsageError) as refused:
        verify(bundle, targets=[target])
    assert words in str(refused.value)


def test_two_programs_need_two_names(bundle: Path) -> None:
    """Runs of one name could not be told apart."""
    with pytest.raises(UsageError, match="name=board"):
        verify(bundle, targets=["command:sh 1 {inputs} {outputs}", "command:sh 2 {inputs} {outputs}"])


def test_a_required_program_that_fails_is_an_error(script: str, bundle: Path) -> None:
    """Exit code 3, with its last lines in one sentence."""
    with pytest.raises(MachineError, match="its last lines: computing / the device is busy / giving up"):
        verify(bundle, require=[script.format(options="", way="fail")])


def test_the_command_line_is_read_to_its_end() -> None:
    """Colons, spaces and assignments of the program are its own; options stand before it."""
    parts = split_target("command:timeout=5:name=board:ssh -p 22 me@board:8 A=b:c {inputs} {outputs}")
    assert parts.device == "board"
    assert parts.options == {"timeout": "5", "program": "ssh -p 22 me@board:8 A=b:c {inputs} {outputs}"}

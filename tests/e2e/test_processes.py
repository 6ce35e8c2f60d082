"""What a command does around its work: nothing of the current folder runs, nothing is left running, exit codes are the verdict's."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from bnexport.batch import folders
from bnexport.batch.plan import checks, read

BNEXPORT = str(Path(sys.executable).with_name("bnexport"))
MODULES = (
    "typer",
    "numpy",
    "msgspec",
    "onnx",
    "onnxruntime",
    "rich",
    "PIL",
    "signal",
    "threading",
    "selectors",
    "socket",
)
"""Modules that a command or one of its children imports."""


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BNEXPORT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, **environment},
    )


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A folder whose modules write a file when they are imported; nothing of it may be there in the end."""
    folder, written = tmp_path / "trap", tmp_path / "pwned"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(written)!r}, 'a').write({name!r} + ' ')\nraise SystemExit(9)\n")
    yield folder
    assert not written.exists(), written.read_text()


def endless(path: Path) -> Path:
    """A model that adds 1 for ever."""
    body = onnx.parser.parse_graph(
        "body (int64 i, bool c, float[1] x) => (bool d, float[1] y) { d = Identity(c) y = Add(x, x) }"
    )
    counts = [
        onnx.helper.make_tensor("n", onnx.TensorProto.INT64, [], [2**62]),
        onnx.helper.make_tensor("c", onnx.TensorProto.BOOL, [], [True]),
    ]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Loop", ["n", "c", "x"], ["y"], body=body)],
        "endless",
        [info("x", onnx.TensorProto.FLOAT, [1])],
        [info("y", onnx.TensorProto.FLOAT, [1])],
        counts,
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_untrusted_imports_nothing_of_the_current_folder(models: Path, trap: Path) -> None:
    """The option for files of others runs no module that lies beside them."""
    checked = run("check", models / "tiny_residual.onnx", models / "three", "--untrusted", "-q", cwd=trap)
    assert checked.returncode == 1, checked.stderr
    verified = run("verify", "nothing", "--untrusted", "-q", cwd=trap)
    assert verified.returncode == 2, verified.stderr


def test_batch_imports_nothing_of_the_current_folder(models: Path, trap: Path) -> None:
    """Neither do the processes that run a plan's checks, nor the ones that start those."""
    plan = trap / "plan.toml"
    plan.write_text(
        f'[[check]]\nmodels = ["{models / "tiny_residual.onnx"}"]\nimages = ["{models / "three"}"]\n', encoding="utf-8"
    )
    done = run("batch", "plan.toml", "-q", cwd=trap)
    assert done.returncode == 1, done.stderr
    assert "1 fail" in done.stdout


def alive(marker: str) -> list[int]:
    """The processes whose command line or environment holds a marker."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z" and marker.encode() in (entry / "environ").read_bytes():
                pids.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return pids


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_checks_end_with_a_batch_that_is_killed(tmp_path: Path, short_folder: Path) -> None:
    """Kill -9 of a batch leaves no check computing, and the next batch removes what it left on disk."""
    np.savez(tmp_path / "x.npz", x=np.ones(1, np.float32))
    endless(tmp_path / "endless.onnx")
    (tmp_path / "plan.toml").write_text('[[check]]\nmodels = ["endless.onnx"]\ninputs = ["x.npz"]\n', encoding="utf-8")
    marker, temporary = f"batch-{os.getpid()}-{time.time_ns()}", short_folder
    environment = {**os.environ, "MARKER": marker, "TMPDIR": str(temporary)}
    batch = subprocess.Popen(
        [BNEXPORT, "batch", "plan.toml", "-q"], cwd=tmp_path, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 60
    try:
        while not list(temporary.glob("pymp-*/*/out")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(temporary.glob("pymp-*/*/out")), "no check was started"
    finally:
        batch.kill()
        batch.wait()
    while alive(marker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(marker)
    [left] = temporary.glob("pymp-*")
    run("batch", "plan.toml", "--timeout", 1, "-q", cwd=tmp_path, TMPDIR=str(temporary))
    assert not left.exists()
    assert not list(temporary.glob("pymp-*"))


def test_a_temporary_folder_with_a_long_path_is_the_machine(models: Path, tmp_path: Path) -> None:
    """A path that leaves no room for a socket is named, with what to do."""
    plan, temporary = tmp_path / "plan.toml", tmp_path / ("t" * 100)
    temporary.mkdir()
    plan.write_text(
        f'[[check]]\nmodels = ["{models / "tiny_residual.onnx"}"]\nimages = ["{models / "three"}"]\n', encoding="utf-8"
    )
    finished = run("batch", plan, "-q", cwd=tmp_path, TMPDIR=str(temporary))
    assert finished.returncode == 3, finished.stderr
    assert "set TMPDIR" in finished.stderr


def test_a_folder_that_is_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only folders of batches that have ended are removed, and no others of multiprocessing."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended, used, foreign = (tmp_path / f"pymp-{name}" for name in ("ended", "used", "foreign"))
    for folder in (ended, used, foreign):
        folder.mkdir()
    for folder in (ended, used):
        (folder / ".bnexport").touch()
    with (used / ".bnexport").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folders._remove_abandoned()
    assert [folder.exists() for folder in (ended, used, foreign)] == [False, True, True]


def test_a_closed_terminal_is_an_interrupt(tmp_path: Path) -> None:
    """SIGHUP ends a command as Ctrl-C does: 130, one line, nothing left half written."""
    np.savez(tmp_path / "x.npz", x=np.ones(1, np.float32))
    model = endless(tmp_path / "endless.onnx")
    check = subprocess.Popen(
        [BNEXPORT, "check", str(model), "--inputs", str(tmp_path / "x.npz"), "--untrusted"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        time.sleep(2)
        check.send_signal(signal.SIGHUP)
        _, err = check.communicate(timeout=30)
    finally:
        check.kill()
    assert check.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("form", ["text", "ndjson"])
def test_the_exit_code_is_the_verdict_without_a_reader(models: Path, form: str) -> None:
    """A reader that has gone, or a closed stdout, changes nothing about what a script learns."""
    command = f"'{BNEXPORT}' check '{models / 'tiny_residual.onnx'}' '{models / 'three'}' -q --format {form}"
    for shell in (f"{command} | true; exit ${{PIPESTATUS[0]}}", f"{command} >&-"):
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, done.stderr
        assert not done.stderr


def test_output_that_cannot_be_written_is_the_machine(models: Path) -> None:
    """A full disk behind stdout or the step summary: exit code 3 and a sentence."""
    arguments = ("check", models / "tiny_residual.onnx", models / "three", "-q", "--format", "github")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([BNEXPORT, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert done.stderr == "bnexport: cannot write to standard output (No space left on device)\n"
    done = run(*arguments, GITHUB_STEP_SUMMARY="/dev/full")
    assert done.returncode == 3
    assert "cannot write the step summary /dev/full" in done.stderr


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """A command in a folder that was removed says so."""
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["bash", "-c", f"cd '{gone}' && rmdir '{gone}' && '{BNEXPORT}' config"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("bnexport: the current folder is gone")
    assert "Traceback" not in done.stderr


def test_a_model_writes_nothing_to_the_terminal(tmp_path: Path) -> None:
    """Names of nodes do not reach the terminal or the log of a CI system as they are, also where the model fails."""
    name = "a\x1b]0;title\x07\n::error title=bnexport::all is well\n"
    nodes = [onnx.helper.make_node("Reshape", ["x", "shape"], ["y"], name=name)]
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [7, 7])
    info = onnx.helper.make_tensor_value_info
    x, y = info("x", onnx.TensorProto.FLOAT, ["n", 3]), info("y", onnx.TensorProto.FLOAT, [7, 7])
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], [shape])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9),
        tmp_path / "m.onnx",
    )
    np.savez(tmp_path / "x.npz", x=np.ones((4, 3), np.float32))
    done = run("check", tmp_path / "m.onnx", "--inputs", tmp_path / "x.npz", "-q")
    assert done.returncode == 2, done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith("bnexport: ")


def test_entries_of_a_plan_are_no_options(models: Path, tmp_path: Path) -> None:
    """What a plan names as images stands behind `--`."""
    (tmp_path / "plan.toml").write_text(
        f'[[check]]\nmodels = ["{models / "tiny_residual.onnx"}"]\nimages = ["file:///x/--report=a.json"]\n',
        encoding="utf-8",
    )
    [check] = checks(read(tmp_path / "plan.toml"), tmp_path)
    assert check.command[-3:-1] == ["--", str(models / "tiny_residual.onnx")]
    assert not check.keras


def test_keras_is_recognised_by_content(models: Path, tmp_path: Path) -> None:
    """A Keras file under another name needs Keras too."""
    (tmp_path / "model.onnx").write_bytes((models / "tiny_residual.keras").read_bytes())
    (tmp_path / "plan.toml").write_text(
        f'[[check]]\nmodels = ["model.onnx"]\nimages = ["{models / "three"}"]\n', encoding="utf-8"
    )
    [check] = checks(read(tmp_path / "plan.toml"), tmp_path)
    assert check.keras


def test_a_variable_that_sets_nothing_is_named() -> None:
    """A misspelt BNEXPORT_ variable is not ignored in silence."""
    done = run("explain", "BN001", BNEXPORT_BATCHSIZE="3", BNEXPORT_DEBUG="")
    assert done.returncode == 0
    assert done.stderr == (
        "bnexport: note: the environment variable BNEXPORT_BATCHSIZE sets no option; did you mean BNEXPORT_BATCH_SIZE?\n"
    )


def test_the_list_of_commands_is_whole() -> None:
    """At 80 columns no summary is cut."""
    done = run("--help", COLUMNS="80", TERMINAL_WIDTH="80")
    commands = done.stdout.partition("Commands:")[2].partition("Exit codes")[0].strip().splitlines()
    assert len(commands) == 14
    assert all(line.rstrip().endswith(".") and not line.rstrip().endswith("...") for line in commands)


def test_the_lock_of_a_core_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that somebody planted in the temporary folder is not written through."""
    from bnexport.errors import MachineError
    from bnexport.system import cluster

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / f"bnexport-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(MachineError, match="is accessible to other users"), cluster.core():
        pass
    assert precious.read_text() == "kept"

"""What libraries and the operating system do around a command: none of it is executed, printed or left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from bnexport.batch.plan import checks, read
from bnexport.batch.running import Workshop
from bnexport.cli import app, exit_codes, settings
from bnexport.cli.scripting import evaluate
from bnexport.system import confined
from tests.e2e.test_processes import run


def test_a_server_that_is_started_again_imports_nothing_of_the_current_folder(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may end the server of a batch for want of memory; the next one is as careful as the first."""
    plan, written = tmp_path / "plan.toml", tmp_path / "written"
    plan.write_text(
        f'[[check]]\nmodels = ["{models / "tiny_residual.onnx"}"]\nimages = ["{models / "three"}"]\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    shop = Workshop(evaluate, keras=False)
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined] # there is no public way to it
    for name in ("numpy", "onnx", "typer", "signal", "selectors"):
        (tmp_path / f"{name}.py").write_text(f"open({str(written)!r}, 'a').write({name!r})\nraise SystemExit(9)\n")
    os.kill(server, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    [check] = checks(read(plan), tmp_path)
    result = shop.one("key", check, 60.0, [])
    assert not written.exists(), written.read_text()
    assert result.status == "fail", result.error


def test_nothing_stays_in_the_temporary_folder(models: Path, tmp_path: Path, short_folder: Path) -> None:
    """Neither a check nor a batch leaves a file there; onnxruntime's telemetry did."""
    temporary, plan = short_folder, tmp_path / "plan.toml"
    plan.write_text(
        f'[[check]]\nmodels = ["{models / "tiny_residual.onnx"}"]\nimages = ["{models / "three"}"]\n', encoding="utf-8"
    )
    for arguments in (("check", models / "tiny_residual.onnx", models / "three"), ("batch", plan)):
        finished = run(*arguments, "-q", cwd=tmp_path, TMPDIR=str(temporary))
        assert finished.returncode == 1, finished.stderr
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e18"])
def test_a_time_limit_that_no_clock_measures(seconds: str, models: Path) -> None:
    """It is refused before a process is started."""
    arguments = ["check", str(models / "tiny_residual.onnx"), str(models / "three"), "--untrusted"]
    refused = CliRunner().invoke(app, [*arguments, "--time-limit", seconds])
    assert (refused.exit_code, "--isolate-timeout is invalid" in refused.stderr) == (2, True)


def test_a_memory_limit_above_every_number_is_none(models: Path) -> None:
    """More memory than any process can address is no error."""
    arguments = ("check", models / "tiny_residual.onnx", models / "three", "--untrusted", "-q")
    assert run(*arguments, "--memory-limit", "99999999999TB").returncode == 1


@pytest.mark.parametrize(
    ("memory", "set_by_user", "threads"), [(1 << 30, None, "1"), (1 << 30, "3", "3"), (None, None, None)]
)
def test_libraries_start_one_thread_under_a_memory_limit(
    memory: int | None, set_by_user: str | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenBLAS asks for ever for the memory of further threads where a limit refuses it; what the user says wins."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if set_by_user is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", set_by_user)
    started: dict[str, Any] = {}
    monkeypatch.setattr(confined.subprocess, "Popen", lambda _, **options: started.update(options))
    confined.start(["--version"], memory)
    assert started["env"].get("OPENBLAS_NUM_THREADS") == threads


@pytest.mark.parametrize(
    ("raised", "full", "code", "sentence"),
    [
        ("MemoryError()", True, 3, "than the 200 MB that this process may take: "),
        (
            "SystemError('error return without exception set')",
            True,
            3,
            "than the 200 MB that this process may take (SystemError): ",
        ),
        ("SystemError('error return without exception set')", False, 70, "internal error (SystemError"),
        (
            "ImportError('libx.so: cannot map zero-fill pages')",
            False,
            3,
            "than the 200 MB that this process may take (ImportError): ",
        ),
        ("ImportError('no module x')", False, 70, "internal error (ImportError"),
    ],
)
def test_whatever_a_library_raises_at_the_limit_of_memory_is_about_memory(
    raised: str, full: bool, code: int, sentence: str
) -> None:
    """Where memory is refused, some libraries raise SystemError; away from the limit that is an internal error."""
    script = f"""
import resource, sys
from bnexport.cli.exit_codes import report_error
resource.setrlimit(resource.RLIMIT_DATA, (200_000_000, 200_000_000))
blocks = []
try:
    while {full}:
        blocks.append(bytes(1 << 20))
except MemoryError:
    pass
sys.exit(report_error({raised}))
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (finished.returncode, sentence in finished.stderr) == (code, True), finished.stderr


def test_warnings_of_libraries_stay_off_the_terminal(tmp_path: Path) -> None:
    """Onnx warns about entries of external data that it does not know, and quotes the file."""
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[2, 2])
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("what a model says", "1")):
        weight.external_data.add(key=key, value=value)
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> g (float[n, 2] x, float[2, 2] w) => (float[n, 2] y) { y = MatMul(x, w) }'
    )
    model.graph.initializer.append(weight)
    del model.graph.input[1]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "x.npz", x=np.ones((4, 2), np.float32))
    finished = run("check", tmp_path / "m.onnx", "--inputs", tmp_path / "x.npz", "-q")
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.keras
def test_the_converter_writes_nothing_to_the_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An operator that cannot be exported is one sentence; what tf2onnx logs about it, tracebacks included, is not shown."""
    import keras

    inputs = keras.Input((8, 8))
    keras.Model(inputs, keras.ops.fft2((inputs, inputs))[0]).save(tmp_path / "fft.keras")
    finished = CliRunner().invoke(app, ["export", str(tmp_path / "fft.keras"), "-o", str(tmp_path / "m.onnx"), "-q"])
    assert finished.exit_code == 2, finished.output
    [line] = finished.stderr.splitlines()
    assert "EX002" in line
    assert [record.getMessage() for record in caplog.records if record.name.startswith("tf2onnx")] == []


@pytest.mark.parametrize("path", ["a" * 300, "/".join(["a" * 100] * 50)])
def test_a_bundle_whose_path_is_too_long(path: str) -> None:
    """A path that the system cannot look up is unreadable input, and the sentence does not repeat all of a long one."""
    finished = CliRunner().invoke(app, ["verify", path, "-q"])
    assert finished.exit_code == 2, finished.output
    assert "File name too long" in finished.stderr
    assert len(finished.stderr) < 500


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENAMETOOLONG, 2), (errno.ENOSPC, 3), (errno.EMFILE, 3), (errno.EPROTO, 70)]
)
def test_what_the_system_refuses_has_a_code(number: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that nobody can open is input; a full disk or too many open files is the machine; the rest is unexpected."""

    def command() -> int:
        raise OSError(number, os.strerror(number), "a" * 1000)

    assert exit_codes.code_of(command) == code
    err = capsys.readouterr().err
    assert os.strerror(number) in err
    assert ("internal error" in err) == (code == 70)


def test_variables_of_the_tests_are_no_mistakes() -> None:
    """Whoever runs bnexport's own tests with more seeds gets no note about them; a misspelt one gets it."""
    names = {"BNEXPORT_FUZZ": "2", "BNEXPORT_FUZZ_COMMANDS": "3", "BNEXPORT_SEEDS": "4"}
    assert settings.describe_unknown_variables({}, names) == []
    assert len(settings.describe_unknown_variables({}, {"BNEXPORT_FUZ": "2"})) == 1


_LOST = """
import threading
from bnexport.system import confined
confined._BEGUN = 0.2
confined.watch_threads()
threading.Thread(target=print, args=("begun",)).start()
begin = threading.Thread._bootstrap
threading.Thread._bootstrap = lambda thread: None  # as where there is no memory for it
try:
    threading.Thread(target=print).start()
except MemoryError:
    print("no memory")
"""


def test_a_thread_that_cannot_begin_is_not_waited_for() -> None:
    """Under a limit of memory Python would wait for ever for a thread that had none."""
    ended = subprocess.run([sys.executable, "-c", _LOST], capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout.split("\n")[:2] == ["begun", "no memory"], ended.stderr

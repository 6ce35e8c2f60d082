"""What commands write to terminals, and to streams that are not UTF-8: the answer arrives whole, and the terminal is left clean."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.terminals import BNEXPORT, run_on_terminal
from tests.e2e.test_processes import endless

NAME = "Netz \N{GREEK SMALL LETTER LAMDA} ä \N{GRINNING FACE}.onnx"
STREAMS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
"""The environments in which stdout cannot take every character."""


@pytest.fixture(scope="module")
def odd_model(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose name has Greek, Latin and other characters."""
    return Path(shutil.copy(models / "tiny_residual.onnx", tmp_path_factory.mktemp("odd") / NAME))


def check(model: Path, models: Path, form: str, stream: str) -> bytes:
    """What a check of the model writes to stdout."""
    completed = subprocess.run(
        [BNEXPORT, "check", str(model), str(models / "three"), "-q", "--format", form],
        capture_output=True,
        env={**os.environ, **STREAMS[stream]},
    )
    assert completed.returncode == 1, completed.stderr
    assert completed.stderr == b""
    return completed.stdout


@pytest.mark.parametrize("stream", STREAMS)
def test_text_has_escapes_for_what_stdout_lacks(stream: str, odd_model: Path, models: Path) -> None:
    """The report is printed, and the verdict is the exit code."""
    first = check(odd_model, models, "text", stream).splitlines()[0]
    assert first.startswith(b"FAIL ")
    if stream != "C":  # there, file names are bytes
        encoding = stream
        assert first.endswith(NAME.encode(encoding, "backslashreplace"))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("fold", "{model}", "-o", "{model}-folded.onnx"), 0),
        (("check", "{model}", "{three}", "-q", "--format", "github"), 1),
        (("check", "{model}", "--t\N{LATIN SMALL LETTER A WITH DIAERESIS}rget", "x"), 2),
        (("check", "{model}", "--format", "\N{GREEK SMALL LETTER LAMDA}"), 2),
        (("ch\N{LATIN SMALL LETTER A WITH DIAERESIS}ck",), 2),
        (("explain", "EX\N{GREEK SMALL LETTER LAMDA}"), 2),
    ],
)
def test_every_line_has_escapes_for_what_a_stream_lacks(
    arguments: tuple[str, ...], code: int, stream: str, odd_model: Path, models: Path
) -> None:
    """Also lines about a file, and the parser's errors: nothing is written in UTF-8 where the stream is in another encoding."""
    typed = [text.format(model=odd_model, three=models / "three") for text in arguments]
    completed = subprocess.run([BNEXPORT, *typed], capture_output=True, env={**os.environ, **STREAMS[stream]})
    assert completed.returncode == code, completed.stderr
    for written in (completed.stdout, completed.stderr):
        encoded = written.decode("latin-1" if stream == "latin-1" else "ascii")
        assert not {"\u00ce", "\u00c3"} & set(encoded)  # the first bytes of these letters in UTF-8
    if code == 2:
        assert b"\\" in completed.stderr or (stream == "latin-1" and b"\xe4" in completed.stderr)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_json_is_json_in_every_encoding(form: str, stream: str, odd_model: Path, models: Path) -> None:
    """It is ASCII with the escapes of JSON, which every parser reads as these characters."""
    text = check(odd_model, models, form, stream).decode("ascii")
    report = json.loads(text if form == "json" else text.splitlines()[-1])
    if stream != "C":
        assert report["model"]["path"].endswith(NAME)


@pytest.mark.parametrize("stream", ["ascii", "latin-1"])
def test_xml_is_xml_in_every_encoding(stream: str, odd_model: Path, models: Path) -> None:
    """It declares UTF-8, and character references are read as these characters."""
    document = ElementTree.fromstring(check(odd_model, models, "junit", stream))  # noqa: S314 - our own
    assert any(NAME in value for element in document.iter() for value in element.attrib.values())


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that never returns, and arrays for it."""
    folder = tmp_path_factory.mktemp("loop")
    np.savez(folder / "x.npz", x=np.ones(1, np.float32))
    return endless(folder / "endless.onnx"), folder / "x.npz"


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_the_display_leaves_the_answer_alone(form: str, models: Path) -> None:
    """On a terminal the stages are drawn while they run; stdout has the answer, and the terminal nothing in the end."""
    shown = run_on_terminal("check", models / "tiny_residual.onnx", models / "three", "--format", form)
    assert shown.code == 1
    report = json.loads(shown.answer if form == "json" else shown.answer.splitlines()[-1])
    assert report["verdict"] == "fail"
    assert "opening onnxruntime" in shown.written
    assert " s " in shown.written
    assert shown.screen.text == ""
    assert shown.screen.cursor


def test_the_report_is_all_that_stays(models: Path) -> None:
    """Where stdout is the same terminal, too."""
    shown = run_on_terminal("check", models / "tiny_residual.onnx", models / "three", both=True)
    assert "opening onnxruntime" in shown.written
    assert shown.screen.text.startswith(f"FAIL {models / 'tiny_residual.onnx'}\n")
    assert "opening onnxruntime" not in shown.screen.text


def test_verbose_keeps_what_each_stage_cost(models: Path) -> None:
    """One line on stderr has all stages, those shorter than a refresh among them; -q keeps it away."""
    arguments = ("check", models / "tiny_residual.onnx", models / "three", "-v")
    shown = run_on_terminal(*arguments)
    line = shown.screen.text.replace("\n", "")
    assert line.startswith("stages: starting ")
    assert "opening onnxruntime 0." in line
    assert line.endswith(" s in all")
    completed = subprocess.run([BNEXPORT, *map(str, arguments)], capture_output=True, text=True)
    assert completed.stderr.splitlines()[-1].startswith("stages: starting ")
    assert "opening onnxruntime" in completed.stderr.splitlines()
    quiet = subprocess.run([BNEXPORT, *map(str, arguments), "-q"], capture_output=True, text=True)
    assert quiet.stderr == ""
    assert quiet.stdout == completed.stdout or quiet.returncode == completed.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["--isolate"]])
def test_an_interrupt_cleans_the_terminal(options: list[str], number: signal.Signals, loop: tuple[Path, Path]) -> None:
    """Ctrl-C while stages are drawn: exit code 130 soon, one sentence, and the cursor is there again."""
    model, arrays = loop
    shown = run_on_terminal(
        "check", model, "--arrays", arrays, *options, interrupt_at="opening onnxruntime", number=number
    )
    assert shown.code == 130
    assert shown.seconds < 8
    assert shown.screen.text == "bnexport: interrupted; nothing was left half written"
    assert shown.screen.cursor
    assert shown.screen.column == 0


NEVER_RETURNS = """
import ctypes
from bnexport.cli import interrupts, stdio
from bnexport.cli.progress import show_progress
interrupts.PATIENCE = interrupts.GRACE = 0.5
stdio.prepare()
interrupts.watch()
with show_progress(quiet=False) as progress:
    progress.stage("waiting")
    mutex = ctypes.create_string_buffer(256)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""
"""A stage in which the main thread waits for a lock that it holds itself, outside of Python."""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is unlocked in glibc")
def test_a_process_that_is_left_cleans_the_terminal() -> None:
    """Also where the main thread cannot be reached, nothing of the display stays."""
    shown = run_on_terminal("-c", NEVER_RETURNS, interrupt_at="waiting", program=(sys.executable,))
    assert shown.code == 130
    assert shown.screen.text == "bnexport: interrupted; nothing was left half written"
    assert shown.screen.cursor


def test_an_interrupt_of_a_batch_cleans_the_terminal(loop: tuple[Path, Path]) -> None:
    """Its table disappears, and the checks that run are ended."""
    model, arrays = loop
    plan = model.with_name("plan.toml")
    plan.write_text(f'[[check]]\nmodels = ["{model.name}"]\narrays = ["{arrays.name}"]\n', encoding="utf-8")
    shown = run_on_terminal("batch", plan, interrupt_at=f"{model.name} | {arrays.name}")
    assert shown.code == 130
    assert shown.seconds < 15
    assert shown.screen.text == "bnexport: interrupted; nothing was left half written"
    assert shown.screen.cursor


def test_a_batch_writes_ndjson_to_stdout_beside_its_table(models: Path, tmp_path: Path) -> None:
    """With a table on the terminal, every line of NDJSON is on stdout."""
    (tmp_path / "plan.toml").write_text(
        f'[[check]]\nmodels = ["{models}/tiny_residual.onnx"]\nimages = ["{models}/three"]\n', encoding="utf-8"
    )
    shown = run_on_terminal("batch", tmp_path / "plan.toml", "--format", "ndjson")
    assert shown.code == 1
    [line] = shown.answer.splitlines()
    assert json.loads(line)["status"] == "fail"
    assert shown.screen.text.startswith("[1/1] FAIL ")
    assert shown.screen.cursor

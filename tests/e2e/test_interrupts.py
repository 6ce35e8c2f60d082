"""Ctrl-C and SIGTERM end a command also while a library is busy."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.test_processes import BNEXPORT, endless

NEVER_RETURNS = """
import ctypes, sys
from bnexport.cli import interrupts
interrupts.PATIENCE = interrupts.GRACE = 0.1
interrupts.watch()
print("ready", flush=True)
mutex = ctypes.create_string_buffer(256)
for _ in range(2):
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""
"""A main thread that waits for a lock that it holds itself, outside of Python."""

SWALLOWS = """
import sys, time
from bnexport import cli
from bnexport.cli import exit_codes

class Freed:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(30)

def command():
    Freed()
    time.sleep(30)

cli.end_with(lambda: sys.exit(exit_codes.code_of(command)))
"""
"""A command in which the signal comes while Python frees an object."""


def interrupted(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        process.send_signal(number)
        _, err = process.communicate(timeout=8)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == "bnexport: interrupted; nothing was left half written\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_graph_that_loops_for_ever_is_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """Onnxruntime stops at its next node, and the command ends with 130 and one sentence."""
    np.savez(tmp_path / "x.npz", x=np.ones(1, np.float32))
    command = [BNEXPORT, "check", str(endless(tmp_path / "endless.onnx")), "--inputs", str(tmp_path / "x.npz"), "-q"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(2)
    interrupted(process, number)


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is unlocked in glibc")
def test_a_library_that_never_returns_is_left() -> None:
    """Where the main thread cannot be reached at all, the process ends without it."""
    process = subprocess.Popen(
        [sys.executable, "-c", NEVER_RETURNS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    interrupted(process, signal.SIGTERM)


def test_an_interrupt_that_a_library_swallows_comes_again() -> None:
    """Raised while Python frees something, it can only be printed: nothing is, and the command ends all the same."""
    process = subprocess.Popen(
        [sys.executable, "-c", SWALLOWS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    interrupted(process, signal.SIGTERM)

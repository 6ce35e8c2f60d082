"""Runtimes that crash, hang, lie or refuse: one finding each, the other runs go on, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PLUGIN = '''
import dataclasses, os, signal, sys, time
import numpy as np
from bnexport.errors import EndedError, InputError, MachineError
from bnexport.runtimes.onnx_reference import OnnxReference

CALLS = 0

def changed(change):
    """A runtime whose sessions answer what `change` makes of the right answer."""
    class Changed(OnnxReference):
        def about(self):
            return dataclasses.replace(super().about(), isolated=True, reduced_by_default=change is lower)

        def open(self, artifact, want):
            if change is bug:
                raise KeyError("no such operator: BatchNormalization")
            if change is lack:
                raise MachineError("the library is damaged", fix="install it again")
            if change is refuse:
                raise InputError("the operator BatchNormalization (node stem_bn) is not implemented")
            session = super().open(artifact, want)
            run = session.run
            if change is lower:
                session.computes = "bfloat16"
            if change is left:
                session.left_to_cpu = [("Conv", "stem"), ("Conv", "block"), ("Shape", "size")]
            session.run = lambda inputs, outputs=(): change(run(inputs, outputs))
            return session
    return Changed

def kill(right):
    os.kill(os.getpid(), signal.SIGKILL)

def fault(right):
    print("about to read what is not there", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def later(right):
    global CALLS
    CALLS += 1
    if CALLS > 1:
        os._exit(7)
    return right

def loop(right):
    while True:
        pass

def take(right):
    return {name: value + 0 * np.ones(10 << 27).sum() for name, value in right.items()}

def noise(right):
    os.write(1, b"garbage on stdout\\n")
    print("more of it")
    return right

def shape(right):
    return {name: value[:, :2] for name, value in right.items()}

def nan(right):
    return {name: np.where(np.arange(len(value)).reshape(-1, *[1] * (value.ndim - 1)) == 0, np.nan, value) for name, value in right.items()}

def lower(right):
    return {name: np.asarray(value * (1 + 2**-10), value.dtype) for name, value in right.items()}

def refuse(right):
    return right

def left(right):
    return right

bug = lambda right: right
lack = lambda right: right

def inner(right):
    raise EndedError("its own process is gone", cause="SIGABRT", last_line="out of luck")

Kill, Fault, Later, Loop, Take, Noise, Shape, Nan, Lower, Refuse, Bug, Lack, Inner, Left = map(
    changed, (kill, fault, later, loop, take, noise, shape, nan, lower, refuse, bug, lack, inner, left)
)
'''
NAMES = (
    *("kill", "fault", "later", "loop", "take", "noise", "shape", "nan", "lower", "refuse"),
    *("bug", "lack", "inner", "left"),
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a package that registers them, as an installer leaves it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "hostile.py").write_text(PLUGIN)
    metadata = folder / "hostile-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    lines = [f"{name} = hostile:{name.title()}" for name in NAMES]
    (metadata / "entry_points.txt").write_text("\n".join(["[bnexport.runtimes]", *lines, ""]))
    return {**os.environ, "PYTHONPATH": str(folder)}


def start(
    installed: dict[str, str], models: Path, *targets: str, options: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    command = ["-m", "bnexport", "check", str(models / "tiny_residual.onnx"), str(models / "three")]
    options += tuple(option for target in targets for option in ("--target", target))
    return subprocess.Popen(
        [sys.executable, *command, *options, "--format", "json", "--no-cache", "-q"],
        env=installed,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def folders_of(check: subprocess.Popen[str]) -> list[Path]:
    """The folders in which its runtimes' batches travel."""
    return list(Path("/dev/shm").glob(f"bnexport-child-{check.pid}-*"))  # noqa: S108


def left_behind() -> set[str]:
    """The processes of runtimes, and their folders."""
    running = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            running.append(path.read_text().replace("\0", " "))
    return {line for line in running if "isolated_child" in line and "hostile:" in line}


FAILURES = {
    "kill": ("RT015", "SIGKILL"),
    "fault": ("RT015", 'SIGSEGV); the last line that it wrote: "about to read what is not there"'),
    "later": ("RT015", "exit status 7"),
    "loop:timeout=3": ("RT015", "a time limit of 3 s"),
    "take:memory=2GiB": ("RT016", "Unable to allocate"),
    "shape": ("RT009", "onnxruntime agrees"),
    "nan": ("RT009", "not finite"),
    "inner": ("RT015", 'SIGABRT); the last line that it wrote: "out of luck"'),
    "bug": ("RT016", "operators of the model that it names: BatchNormalization"),
    "refuse": ("RT016", "operators of the model that it names: BatchNormalization"),
}


def test_each_failure_is_one_finding(installed: dict[str, str], models: Path) -> None:
    """All of them in one check: exit code 1, a finding for each under its own name, and onnxruntime's rows are there and right."""
    before = left_behind()
    check = start(installed, models, *FAILURES)
    out, err = check.communicate(timeout=120)
    assert check.returncode == 1, err
    report = json.loads(out)
    for target, (code, words) in FAILURES.items():
        name = target.partition(":")[0]
        mine = [
            f for f in report["findings"] if f["code"] in ("RT009", "RT015", "RT016") and f"@{name}" in f["message"]
        ]
        assert [f["code"] for f in mine] == [code], (target, mine)
        assert words in mine[0]["message"]
    [refused] = [f for f in report["findings"] if "@refuse" in f["message"]]
    assert refused["layers"] == ["stem_bn"]
    ours = [c for c in report["comparisons"] if c["actual"] == "onnx-inference@cpu"]
    assert ours
    assert all(c["passed"] for c in ours)
    assert left_behind() <= before
    assert not folders_of(check)


def test_what_a_runtime_prints_is_no_answer(installed: dict[str, str], models: Path) -> None:
    """Garbage on standard output: the runtime's rows are there and right."""
    check = start(installed, models, "noise")
    out, err = check.communicate(timeout=60)
    report = json.loads(out)
    mine = [c for c in report["comparisons"] if c["actual"] == "onnx-inference@noise"]
    assert mine, err
    assert all(c["passed"] for c in mine)
    assert not [f for f in report["findings"] if f["code"].startswith("RT")]


def test_a_lower_precision_is_reported_whatever_the_error(installed: dict[str, str], models: Path) -> None:
    """RT017: an error where float32 was asked for, a warning as deployed, where RT003 says what it costs."""
    check = start(installed, models, "lower")
    out, err = check.communicate(timeout=60)
    assert check.returncode == 1, err
    findings = json.loads(out)["findings"]
    raised = {(f["code"], f["severity"], f["evidence"]["side"]) for f in findings if f["code"] in ("RT003", "RT017")}
    strict, deployed = "onnx-inference@lower", "onnx-inference@lower-as-deployed"
    assert {("RT017", "error", strict), ("RT017", "warning", deployed), ("RT003", "warning", deployed)} == raised


def test_nodes_that_a_device_leaves_to_the_cpu_are_listed(installed: dict[str, str], models: Path) -> None:
    """RT002, as for CUDA: a warning without nodes on shapes, and an error with --no-cpu-fallback."""
    for options, severity in (((), "warning"), (("--no-cpu-fallback",), "error")):
        check = start(installed, models, "left", options=options)
        out, _ = check.communicate(timeout=60)
        [placed] = [f for f in json.loads(out)["findings"] if f["code"] == "RT002"]
        assert placed["severity"] == severity
        assert placed["evidence"] == {
            "side": "onnx-inference@left",
            "operators": {"Conv": 2},
            "nodes": ["stem", "block"],
        }


def test_what_this_machine_lacks_is_no_fault_of_the_model(installed: dict[str, str], models: Path) -> None:
    """A MachineError of a runtime in a process of its own: exit code 3, in its own words."""
    check = start(installed, models, "lack")
    _, err = check.communicate(timeout=60)
    assert (check.returncode, err.count("\n")) == (3, 1), err
    assert "the library is damaged: install it again" in err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_the_check(how: signal.Signals, installed: dict[str, str], models: Path) -> None:
    """Ctrl-C and kill -9 while a runtime loops: its process ends too."""
    before = left_behind()
    check = start(installed, models, "loop:timeout=60")
    running = left_behind() - before
    while not running and check.poll() is None:
        time.sleep(0.2)
        running = left_behind() - before
    time.sleep(1)
    check.send_signal(how)
    check.communicate(timeout=90)
    patience = time.monotonic() + 15
    while (left_behind() - before or folders_of(check)) and time.monotonic() < patience:
        time.sleep(0.2)
    assert running
    assert not left_behind() - before
    assert not folders_of(check)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("noise:timeout=soon", "time limit"),
        ("noise:memory=much", "memory size"),
        ("noise:python=/nowhere/python", "interpreter"),
        ("noise:cpu:cuda", "cannot read the target"),
        ("noise:gpu", "does not support the device gpu"),
    ],
)
def test_what_a_target_cannot_be(target: str, words: str, installed: dict[str, str], models: Path) -> None:
    """Exit code 2 and one sentence."""
    check = start(installed, models, target)
    _, err = check.communicate(timeout=60)
    assert check.returncode == 2, err
    assert words in err
    assert err.count("\n") == 1

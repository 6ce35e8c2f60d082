"""Running checks side by side, each in a process of its own: one that hangs or crashes ends alone.

The processes are forked from one that has imported what they need and has read no file (multiprocessing's fork
server): a check starts in a tenth of the time, and still knows
nothing of the others.

This is our own: concurrent.futures gives up the whole pool when one worker is killed, and pebble ends a late worker
alone, not what it started, and has no cores or limits for each task.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from bnexport.batch import folders
from bnexport.batch.plan import Check
from bnexport.errors import MachineError
from bnexport.results.batched import Result
from bnexport.system import confined, machine

FRAMEWORKS = (
    "numpy",
    "onnx",
    "bnexport.runtimes.onnxruntime_loaded",
    "bnexport.cli.scripting",
    "bnexport.checking.check",
    "bnexport.reporting.json",
)
KERAS = ("bnexport.frameworks.keras.loaded",)
"""What checks need of modules, and what those of Keras models need more."""

_SAFE_PATH = "PYTHONSAFEPATH"

_GRACE = 5.0
"""Seconds to clean up in, once a process was asked to end."""


@dataclass(slots=True)
class _Running:
    """A check in its process, with the cores it has."""

    key: str
    check: Check
    process: BaseProcess
    folder: tempfile.TemporaryDirectory[str]
    cores: list[int]
    begun: float


Evaluate = Callable[[Check], None]
"""Runs a check in this process, which ends with it as a command does: the report as JSON on stdout, or a sentence on stderr, and the exit code.

A process that has read files of others sends text: an object that it had pickled could run code here.
"""


class Workshop:
    """Where checks run.

    Args:
        evaluate: runs one of them; a function of a module.
        keras: whether there are Keras models among them.
    """

    def __init__(self, evaluate: Evaluate, *, keras: bool) -> None:
        self._evaluate = evaluate
        try:
            self._context = multiprocessing.get_context("forkserver")
        except ValueError as error:
            raise MachineError("parallel checks require Linux or macOS") from error
        self._context.set_forkserver_preload([*FRAMEWORKS, *(KERAS if keras else ())])
        folders.batch_folder()
        with _safe_start():  # now, so that it imports while the checks are prepared
            forkserver.ensure_running()

    def run(
        self, wanted: Sequence[tuple[str, Check]], jobs: int, timeout: float, began: Callable[[str], None]
    ) -> Iterator[Result]:
        """Runs checks, `jobs` at a time, and gives each result as it comes; the CPU cores are shared out among them.

        Args:
            wanted: the checks with their keys.
            jobs: how many at a time.
            timeout: seconds for one.
            began: called with the name of each that starts.
        """
        waiting, free = list(reversed(wanted)), _shares(jobs)
        running: list[_Running] = []
        try:
            while waiting or running:
                while waiting and free:
                    key, check = waiting.pop()
                    began(check.name)
                    running.append(self._start(key, check, free.pop(), timeout))
                soonest = min(one.begun for one in running) + timeout
                wait([one.process.sentinel for one in running], max(0.0, soonest - time.perf_counter()))
                for one in list(running):
                    late = time.perf_counter() >= one.begun + timeout
                    if one.process.is_alive() and not late:
                        continue
                    running.remove(one)
                    free.append(one.cores)
                    yield _end_check(one, timeout)
        finally:
            for one in running:
                _end(one.process)
                one.folder.cleanup()

    def one(self, key: str, check: Check, timeout: float, cores: list[int]) -> Result:
        """Runs one check on some cores."""
        running = self._start(key, check, cores, timeout)
        running.process.join(timeout)
        return _end_check(running, timeout)

    def _start(self, key: str, check: Check, cores: list[int], timeout: float) -> _Running:
        folder = tempfile.TemporaryDirectory(dir=folders.batch_folder())
        process = self._context.Process(
            target=_inside,
            args=(check, self._evaluate, folder.name, dict(os.environ), str(Path.cwd()), cores, timeout),
        )
        with _safe_start(), _nothing_of_the_caller():  # starts the server again where it has died
            process.start()
        return _Running(key, check, process, folder, cores, time.perf_counter())


@contextmanager
def _safe_start() -> Iterator[None]:
    """While open, Python processes start without the current folder in their path.

    multiprocessing starts its server, and the process that counts shared resources, as `python -c`, which would import
    from the current folder before anything else.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


@contextmanager
def _nothing_of_the_caller() -> Iterator[None]:
    """Keeps the caller's script from being run again in the new process (multiprocessing imports it there, for what a target may need of it: ours needs nothing)."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _inside(
    check: Check,
    evaluate: Evaluate,
    folder: str,
    environment: dict[str, str],
    working_folder: str,
    cores: list[int],
    seconds: float,
) -> None:
    """What a check's process does."""
    if not Path(folder).is_dir():
        os._exit(0)  # whoever asked was interrupted, and is gone
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(working_folder)
    confined.enter(cores, seconds)
    for descriptor, name, mode in ((0, os.devnull, "r"), (1, f"{folder}/out", "w"), (2, f"{folder}/err", "w")):
        with open(name, mode) as stream:  # noqa: PTH123 - devices, and names that were just made
            os.dup2(stream.fileno(), descriptor)
    evaluate(check)


def _shares(jobs: int) -> list[list[int]]:
    mine = machine.cores()
    if jobs > len(mine):
        return [[] for _ in range(jobs)]
    return [mine[nth * len(mine) // jobs : (nth + 1) * len(mine) // jobs] for nth in range(jobs)]


def _end(process: BaseProcess) -> None:
    """Ends a process and what it started: politely, then for good."""
    with suppress(ProcessLookupError, TypeError):
        os.killpg(process.pid, signal.SIGTERM)  # type: ignore[arg-type] # None before it runs, suppressed
        process.join(_GRACE)
        os.killpg(process.pid, signal.SIGKILL)  # type: ignore[arg-type] # as above
    process.kill()  # where it has no group of its own yet
    process.join()


def _end_check(one: _Running, timeout: float) -> Result:
    """What came of a check whose process has ended, or has to."""
    late = one.process.is_alive()
    if late:
        _end(one.process)
    code = None if late else one.process.exitcode
    with one.folder as name:
        texts = [Path(name, part) for part in ("out", "err")]
        out, err = (text.read_text("utf-8", "replace") if text.exists() else "" for text in texts)
    one.process.close()
    if late:
        return _result(one, None, "timeout", f"it took longer than {timeout:g} s and was ended", None)
    report = _report(out) if code in (0, 1) else None
    if report is not None:
        return _result(one, code, report["verdict"], "", report)
    message = next((line for line in reversed(err.splitlines()) if line.strip()), "")
    if code is None or code < 0:
        message = f"the process was ended by signal {-(code or 0)}; the file is damaged, made to do harm, or needs more memory"
    return _result(one, code, "error", message.removeprefix("bnexport: ") or "no report", None)


def _report(out: str) -> dict[str, Any] | None:
    try:
        values = json.loads(out)
    except ValueError:
        return None
    return values if isinstance(values, dict) and values.get("verdict") in ("pass", "fail") else None


def _result(one: _Running, code: int | None, status: str, error: str, report: dict[str, Any] | None) -> Result:
    return Result(
        key=one.key,
        name=one.check.name,
        command=tuple(one.check.command),
        status=status,
        exit_code=code,
        seconds=time.perf_counter() - one.begun,
        finished=time.time(),
        error=error,
        report=report,
    )

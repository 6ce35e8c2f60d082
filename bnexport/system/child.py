"""A model in a process of its own: how it is started, asked and ended (no framework enters this one; arrays go through files)."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from bnexport.errors import EndedError, InputError, UnexpectedError
from bnexport.system.child_server import FOLDER, KINDS, MEMORY, PRINTED, SECONDS
from bnexport.types import Array

PATIENCE = 600.0
"""How long loading, or one batch, may take."""

_SHARED = Path("/dev/shm")  # noqa: S108 - only for a folder of one's own
"""Where files are in memory (Linux)."""

_ENOUGH = 1 << 30
"""So much of it has to be free."""

_LINE = 300
"""Characters of the last line that a process wrote, in messages."""


class Child:
    """A process that serves one model (`bnexport.system.child_server`). It ends with this object.

    Args:
        module: what the process runs.
        arguments: its arguments.
        environment: what its environment has besides this process' own.
        path: the file, for messages.
        title: what computes in the process, for messages.
        fix: what to do where it cannot read the file.
        python: the interpreter; None for this one.
        seconds: how long loading, or one batch, may take.
        memory: the most memory it may take, in bytes; None for as much as the machine has.
        packages: packages that it finds without their being installed there, and without what is installed beside them here.

    Raises:
        InputError: it cannot read the file.
        MachineError: what computes in it does not run on this machine.
        EndedError: the process came to an end, or takes too long.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        path: Path,
        title: str,
        fix: str = "",
        python: Path | None = None,
        seconds: float = PATIENCE,
        memory: int | None = None,
        packages: Sequence[Path] = (),
    ) -> None:
        self._path, self._title, self._fix, self._seconds = path, title, fix, seconds
        self._calls, self._lock = 0, threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix=f"bnexport-child-{os.getpid()}-", dir=_in_memory()))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._printed = self._folder / PRINTED
        limits = {SECONDS: f"{seconds:g}"} | ({MEMORY: str(memory)} if memory is not None else {})
        fixed = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONSAFEPATH": "1", FOLDER: str(self._folder)}
        fixed |= {"PYTHONPATH": str(_link(packages, self._folder / "packages"))} if packages else {}
        with self._printed.open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [str(python or sys.executable), "-P", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **fixed, **limits, **environment},
                start_new_session=True,  # it ends with whatever it started
            )
        self._close = weakref.finalize(self, _end, self._process)
        self.description: Mapping[str, Any] = self._answer()
        """What the process says about the model."""
        self.elapsed = 0.0
        """Seconds in which it computed, all batches together."""

    def ask(self, arrays: Sequence[Array], **question: object) -> dict[str, Array]:
        """What the model computes, by name.

        Args:
            arrays: one batch for each input, in the order of the description, shape (N, ...).
            question: what else the process is to be asked, as JSON has it.

        Raises:
            InputError: the model cannot be run on them.
            EndedError: the process came to an end, or takes too long.
        """
        with self._lock:  # one question at a time
            self._calls += 1
            given, out = (self._folder / f"{name}{self._calls}.npz" for name in ("in", "out"))
            numbered: dict[str, Any] = {str(number): array for number, array in enumerate(arrays)}
            np.savez(given, **numbered)
            stdin = self._process.stdin
            try:
                if stdin is not None:
                    stdin.write(json.dumps({"given": str(given), "out": str(out), **question}).encode() + b"\n")
                    stdin.flush()
            except BrokenPipeError as error:
                raise self._unexpected_end() from error
            self.elapsed += self._answer("run")["elapsed"]
            with np.load(out, allow_pickle=False) as file:
                outputs = {name: file[name] for name in file.files}
            given.unlink()
            out.unlink()
            return outputs

    def close(self) -> None:
        """Ends the process."""
        self._close()

    def _answer(self, asked: str = "read") -> Mapping[str, Any]:
        stream = self._process.stdout
        if stream is None or not _is_readable(stream, self._seconds):
            self._close()
            raise self._end_error(f"a time limit of {self._seconds:g} s")
        line = stream.readline()
        if not line:
            raise self._unexpected_end()
        answer: dict[str, Any] = json.loads(line)
        if "cause" in answer:
            raise self._end_error(answer["cause"], answer["last_line"])
        if kind := answer.get("kind"):
            raise KINDS[kind](answer["error"])
        if "error" in answer:
            failure = UnexpectedError if answer.get("unexpected") else InputError
            raise failure(f"{self._title} cannot {asked} {self._path} ({answer['error']})", fix=self._fix)
        return answer

    def _unexpected_end(self) -> EndedError:
        return self._end_error(name_status(self._process.wait()))

    def _end_error(self, cause: str, line: str = "") -> EndedError:
        name = self._title.partition(" (")[0].removeprefix("the ")
        what = f"the {name} process for {self._path} ended unexpectedly"
        return EndedError(what, cause=cause, last_line=line or last_line(self._printed))


def _is_readable(stream: IO[bytes], seconds: float) -> bool:
    """Whether there is something to read, within so many seconds."""
    with selectors.DefaultSelector() as selector:  # select.select refuses a process that has many files open
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _link(packages: Sequence[Path], folder: Path) -> Path:
    """A folder with these packages and nothing else."""
    folder.mkdir()
    for package in packages:
        try:
            (folder / package.name).symlink_to(package, target_is_directory=True)
        except OSError:  # Windows allows it to some users only
            shutil.copytree(package, folder / package.name)
    return folder


def _in_memory() -> Path | None:
    """A folder whose files are in memory; None where there is none, or too little is free."""
    try:
        return _SHARED if shutil.disk_usage(_SHARED).free > _ENOUGH and os.access(_SHARED, os.W_OK) else None
    except OSError:
        return None


def name_status(status: int) -> str:
    """The signal that ended a process, or its exit status.

    >>> name_status(-9), name_status(3)
    ('SIGKILL', 'exit status 3')
    """
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def last_line(printed: Path, count: int = 1, start: int = 0) -> str:
    """The last lines of a file that say something, each in a line of its own; "" where none does.

    Args:
        printed: the file.
        count: so many at most.
        start: where they begin, in bytes.
    """
    with suppress(OSError), printed.open("rb") as file:
        file.seek(max(start, printed.stat().st_size - 65536))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
        return "\n".join([line[:_LINE] for line in lines if line][-count:])
    return ""


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    child.wait()

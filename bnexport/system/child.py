"""A model in a process of its own: how it is started, asked and ended (no framework enters this one; arrays go through files)."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnexport.errors import InputError, MachineError
from bnexport.types import Array

SECONDS = 600.0
"""How long loading, or one batch, may take."""


class Child:
    """A process that serves one model (`bnexport.system.child_server`). It ends with this object.

    Args:
        module: what the process runs.
        arguments: its arguments.
        environment: what its environment has besides this process' own.
        path: the file, for messages.
        title: what computes in the process, for messages.
        fix: what to do where it cannot read the file.

    Raises:
        InputError: it cannot read the file.
        MachineError: the process came to an end, or takes too long.
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
    ) -> None:
        self._path, self._title, self._fix = path, title, fix
        self._calls, self._lock = 0, threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="bnexport-child-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONSAFEPATH": "1", **environment},
        )
        self._close = weakref.finalize(self, _end, self._process)
        self.description: Mapping[str, Any] = self._answer()
        """What the process says about the model."""

    def ask(self, arrays: Sequence[Array], **question: object) -> dict[str, Array]:
        """What the model computes, by name.

        Args:
            arrays: one batch for each input, in the order of the description, shape (N, ...).
            question: what else the process is to be asked, as JSON has it.

        Raises:
            InputError: the model cannot be run on them.
            MachineError: the process came to an end, or takes too long.
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
            self._answer()
            with np.load(out, allow_pickle=False) as file:
                outputs = {name: file[name] for name in file.files}
            given.unlink()
            out.unlink()
            return outputs

    def close(self) -> None:
        """Ends the process."""
        self._close()

    def _answer(self) -> Mapping[str, Any]:
        stream = self._process.stdout
        ready = stream is not None and select.select([stream], [], [], SECONDS)[0]
        if stream is None or not ready:
            self._close()
            raise MachineError(f"{self._title} took more than {SECONDS:g} s for {self._path} and was stopped")
        line = stream.readline()
        if not line:
            raise self._unexpected_end()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(f"{self._title} cannot read {self._path} ({answer['error']})", fix=self._fix)
        return answer

    def _unexpected_end(self) -> MachineError:
        name = self._title.partition(" (")[0]
        return MachineError(
            f"the {name} process for {self._path} ended unexpectedly", found=f"exit status {self._process.wait()}"
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    child.wait()

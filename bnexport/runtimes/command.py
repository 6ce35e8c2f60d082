"""A program of the user's as a runtime: it is run once for each batch, reads the inputs from files and writes the outputs to files."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bnexport.errors import EndedError, InputError, MachineError, UsageError, reason
from bnexport.runtimes.checked_session import CheckedSession, read_onnx, signature_of
from bnexport.runtimes.exchange_files import FORMATS, read_tensors, write_tensors
from bnexport.runtimes.libraries import refuse_unknown_options
from bnexport.runtimes.protocols import About, Artifact, Want
from bnexport.system.child import last_line, name_status
from bnexport.system.child_server import FOLDER, MEMORY, PRINTED, SECONDS
from bnexport.types import Array

PROGRAM, FORMAT = "program", "format"
"""Its options: the command line, and how tensors are written."""

_REQUIRED = ("{inputs}", "{outputs}")

_OF_THE_CHILD = ("PYTHONSAFEPATH", SECONDS, MEMORY)
"""Variables of the process around the program that are none of its business."""

_LINES = 3
"""So many of the last lines that it writes to stderr are reported."""


class Command:
    """The runtime `command`."""

    def about(self) -> About:
        """It runs everywhere; a target names the program."""
        return About("any program", devices=("PROGRAM {model} {inputs} {outputs}",), isolated=True, opaque="program")

    def about_target(self, device: str, options: Mapping[str, str]) -> About:
        """The program of a target.

        Raises:
            UsageError: it is no command line, or there is no such program.
        """
        refuse_unknown_options("command", options, (PROGRAM, FORMAT))
        if options.get(FORMAT, "npz") not in FORMATS:
            raise UsageError(
                "the option format of the target command is invalid",
                found=options[FORMAT],
                expected=" or ".join(FORMATS),
            )
        arguments(options.get(PROGRAM, ""))
        return About("", devices=(device,), isolated=True, opaque="program", hidden=(PROGRAM, FORMAT))

    def open(self, artifact: Artifact, want: Want) -> CommandSession:
        """An ONNX model as a file for the program, which is not started before the first batch."""
        if PROGRAM not in want.options:
            raise MachineError("the runtime command requires a program", found=want.device)
        kind = want.options.get(FORMAT, "npz")
        return CommandSession(artifact, arguments(want.options[PROGRAM]), kind, want.device)


def arguments(command: str) -> list[str]:
    """A command line in parts, without a shell.

    Raises:
        UsageError: it is none, a placeholder is missing, or there is no such program.
    """
    example = "command:./infer {model} {inputs} {outputs}"
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"cannot read the command line {command} ({error})") from error
    if missing := [name for name in _REQUIRED if name not in command]:
        raise UsageError(
            f"the target command lacks {' and '.join(missing)}, where the program finds its files",
            found=command or "no program",
            expected=f"a command line such as {example}",
        )
    if shutil.which(parts[0]) is None:
        raise UsageError(
            f"the program {parts[0]} of the target command cannot be started", fix="check its path and permissions"
        )
    return parts


class CommandSession(CheckedSession):
    """A program that computes a model.

    Args:
        artifact: the ONNX model.
        command: the program and its arguments, with placeholders.
        kind: how tensors are written.
        name: what messages call the program.

    Raises:
        InputError: the artifact is no ONNX model.
    """

    def __init__(self, artifact: Artifact, command: list[str], kind: str, name: str) -> None:
        super().__init__(signature_of(read_onnx(artifact, "the runtime command")))
        self.optional = frozenset(artifact.added)
        self._command, self._kind, self._name = command, kind, name
        self._folder = Path(tempfile.mkdtemp(prefix="bnexport-"))
        self._model = self._folder / "model.onnx"
        self._model.write_bytes(artifact.content)

    def compute(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """What the program writes for a batch."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            given, out = Path(folder) / "inputs", Path(folder) / "outputs"
            given = write_tensors(inputs, given, self._kind)
            out = out.with_suffix(".npz") if self._kind == "npz" else out
            if self._kind != "npz":
                out.mkdir()
            self._run({"{model}": self._model, "{inputs}": given, "{outputs}": out})
            names = [port.name for port in self.signature.outputs]
            outputs = read_tensors(out, names, self._kind, self._name)
        missing = [name for name in names if name not in outputs and name not in self.optional]
        if missing:
            raise InputError(
                f"the program {self._name} does not write the output {missing[0]}",
                found=", ".join(outputs) or "no outputs",
                expected=", ".join(name for name in names if name not in self.optional),
            )
        return outputs

    def _run(self, files: Mapping[str, Path]) -> None:
        """Runs the program, in the process group of this process, which ends with whoever asks.

        Raises:
            EndedError: it fails, or cannot be started.
        """
        command = list(self._command)
        for placeholder, path in files.items():
            command = [part.replace(placeholder, str(path)) for part in command]
        environment = {name: value for name, value in os.environ.items() if name not in _OF_THE_CHILD}
        printed = Path(os.environ.get(FOLDER, "")) / PRINTED  # by this process, too
        size = printed.stat().st_size if printed.is_file() else 0
        try:
            ended = subprocess.run(  # noqa: S603 - what the user asks for; no file can (bnexport.cli.settings)
                command, stdin=subprocess.DEVNULL, stdout=2, env=environment, check=False
            )
        except OSError as error:
            cause = error.strerror or reason(error)
            raise EndedError(f"the program {self._name} cannot be started", cause=cause) from error
        if ended.returncode:
            lines = last_line(printed, _LINES, size)
            cause = name_status(ended.returncode)
            raise EndedError(f"the program {self._name} failed", cause=cause, last_line=lines)

    def close(self) -> None:
        """Removes its files."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)

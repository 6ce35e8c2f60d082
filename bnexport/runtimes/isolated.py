"""A runtime in a process of its own, where it asks for that (`About.isolated`): what it loads, and what it breaks, stays there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bnexport.errors import InputError, MachineError, reason
from bnexport.results.signature import Signature, Tensors
from bnexport.runtimes.protocols import RUNTIMES, About, Artifact, Session, Want
from bnexport.system.child import PATIENCE, Child
from bnexport.types import Array


@dataclass(frozen=True, slots=True)
class Process:
    """Where a runtime runs that has a process of its own.

    Args:
        python: the interpreter, which needs NumPy and the runtime's library; None for this one.
        seconds: how long opening, or one batch, may take.
        memory: the most memory it may take, in bytes; None for as much as the machine has.
    """

    python: Path | None = None
    seconds: float = PATIENCE
    memory: int | None = None

    @property
    def packages(self) -> list[Path]:
        """What another interpreter lacks: this package, and the one that it is imported with."""
        specs = [] if self.python is None else [find_spec(name) for name in ("bnexport", "lazy_loader")]
        return [Path(spec.origin).parent for spec in specs if spec is not None and spec.origin]


OWN = Process()
"""This interpreter, with the usual limits."""


def about_elsewhere(name: str, process: Process, device: str = "", options: Mapping[str, str] | None = None) -> About:
    """What a runtime is in another interpreter.

    Args:
        name: of the runtime.
        process: the interpreter.
        device: as the user named it; "" where none was named.
        options: the runtime's own.

    Raises:
        MachineError: that interpreter does not run, or lacks what the runtime needs.
        UsageError: the runtime has no such option.
    """
    asked = json.dumps({"device": device, "options": dict(options or {})})
    try:
        child = Child(
            "bnexport.runtimes.isolated_child",
            [name, RUNTIMES.value(name), "", asked],
            {},
            path=Path(str(process.python)),
            title=f"the runtime {name}",
            python=process.python,
            seconds=process.seconds,
            packages=process.packages,
        )
    except (OSError, InputError) as error:
        raise MachineError(f"the runtime {name} cannot run in {process.python} ({reason(error)})") from error
    child.close()
    return About.from_dict(child.description)


class IsolatedSession(Session):
    """An artifact that is open in another process, which ends with this object.

    Args:
        name: of the runtime.
        artifact: what it executes.
        want: how.
        process: the interpreter and the limits of the process.

    Raises:
        InputError: the runtime cannot read it.
        MachineError: the runtime does not run here.
        UsageError: it has no such option.
        EndedError: its process came to an end, or takes too long.
    """

    def __init__(self, name: str, artifact: Artifact, want: Want, process: Process = OWN) -> None:
        with tempfile.TemporaryDirectory(prefix="bnexport-") as folder:
            file = Path(folder) / "model"
            file.write_bytes(artifact.content)
            for number, content in enumerate(artifact.companions.values()):
                file.with_suffix(f".{number}").write_bytes(content)
            asked: dict[str, object] = {"format": artifact.format, "name": artifact.name, "device": want.device}
            asked |= {"as_deployed": want.as_deployed, "options": dict(want.options)}
            asked |= {"companions": list(artifact.companions), "added": list(artifact.added)}
            self._child: Child | None = Child(
                "bnexport.runtimes.isolated_child",
                [name, RUNTIMES.value(name), str(file), json.dumps(asked)],
                {},
                path=Path(artifact.name),
                title=f"the runtime {name}",
                python=process.python,
                seconds=process.seconds,
                memory=process.memory,
                packages=process.packages,
            )
        self.signature = Signature.from_dict(self._child.description["signature"])
        self.computes = self._child.description["computes"]
        self.left_to_cpu = [(operator, node) for operator, node in self._child.description["left_to_cpu"]]

    def run(self, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The tensors named `outputs`, or all outputs, for one batch."""
        if self._child is None:
            raise InputError("the session is closed", fix="open it again")
        values = self._child.ask(list(inputs.values()), inputs=list(inputs), outputs=list(outputs))
        self.elapsed = self._child.elapsed
        return values

    def close(self) -> None:
        """Ends the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

"""A runtime in a process of its own, where it asks for that (`About.isolated`): what it loads, and what it breaks, stays there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bnexport.errors import InputError
from bnexport.results.signature import Signature, Tensors
from bnexport.runtimes.protocols import Artifact, Session, Want
from bnexport.system.child import Child
from bnexport.types import Array


class IsolatedSession(Session):
    """An artifact that is open in another process, which ends with this object.

    Args:
        name: of the runtime.
        artifact: what it executes.
        want: how.

    Raises:
        InputError: the runtime cannot read it, or does not run here.
        MachineError: its process came to an end.
    """

    def __init__(self, name: str, artifact: Artifact, want: Want) -> None:
        with tempfile.NamedTemporaryFile(prefix="bnexport-", suffix=f".{artifact.format}") as file:
            file.write(artifact.content)
            file.flush()
            asked: dict[str, object] = {"format": artifact.format, "name": artifact.name, "device": want.device}
            asked |= {"as_deployed": want.as_deployed, "options": dict(want.options)}
            self._child: Child | None = Child(
                "bnexport.runtimes.isolated_child",
                [name, file.name, json.dumps(asked)],
                {},
                path=Path(artifact.name),
                title=f"the runtime {name}",
            )
        self.signature = Signature.from_dict(self._child.description)

    def run(self, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The tensors named `outputs`, or all outputs, for one batch."""
        if self._child is None:
            raise InputError("the session is closed", fix="open it again")
        return self._child.ask(list(inputs.values()), inputs=list(inputs), outputs=list(outputs))

    def close(self) -> None:
        """Ends the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

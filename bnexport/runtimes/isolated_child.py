"""The process in which a runtime runs that asks for one of its own: `bnexport.runtimes.isolated` starts it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bnexport.runtimes.protocols import RUNTIMES, Artifact, Want, about_target
from bnexport.system.child_server import Compute, serve


def main(name: str, value: str, file: str = "", asked: str = "") -> None:
    """Serves an artifact, or says what the runtime is here where there is none.

    Args:
        name: of the runtime.
        value: its class, MODULE:CLASS: another interpreter may not know the package that registers it.
        file: the artifact; "" for none.
        asked: how it is to be executed, or which target is meant, as JSON.
    """

    def open_session() -> tuple[Mapping[str, object], Compute]:
        runtime = RUNTIMES.load(name, value)
        how = json.loads(asked)
        if not file:
            about = RUNTIMES.guard(name, lambda: about_target(runtime, how["device"], how["options"]))
            return asdict(about), lambda _arrays, _question: {}
        companions = {name: Path(f"{file}.{number}").read_bytes() for number, name in enumerate(how["companions"])}
        artifact = Artifact(how["format"], Path(file).read_bytes(), how["name"], companions, tuple(how["added"]))
        want = Want(how["device"], how["as_deployed"], how["options"])
        session = runtime.open(artifact, want)  # whatever it raises refuses the file, unless it blames the machine
        description = {
            "signature": session.signature.as_dict(),
            "computes": session.computes,
            "left_to_cpu": session.left_to_cpu,
        }
        return description, lambda arrays, question: RUNTIMES.guard(
            name, lambda: session.run(dict(zip(question["inputs"], arrays, strict=True)), question["outputs"])
        )

    serve(open_session)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The process in which a runtime runs that asks for one of its own: `bnexport.runtimes.isolated` starts it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from bnexport.runtimes.protocols import RUNTIMES, Artifact, Want, open_runtime
from bnexport.system.child_server import Compute, serve


def main(name: str, file: str, asked: str) -> None:
    """Serves an artifact.

    Args:
        name: of the runtime.
        file: the artifact.
        asked: how it is to be executed, as JSON.
    """

    def open_session() -> tuple[Mapping[str, object], Compute]:
        how = json.loads(asked)
        artifact = Artifact(how["format"], Path(file).read_bytes(), how["name"])
        want = Want(how["device"], how["as_deployed"], how["options"])
        session = RUNTIMES.guard(name, lambda: open_runtime(name).open(artifact, want))
        return session.signature.as_dict(), lambda arrays, question: RUNTIMES.guard(
            name, lambda: session.run(dict(zip(question["inputs"], arrays, strict=True)), question["outputs"])
        )

    serve(open_session)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The process in which runtimes say what they are on this machine: `bnexport.runtimes.survey` starts it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from bnexport.errors import reason
from bnexport.runtimes.protocols import RUNTIMES


def main(*registered: str) -> None:
    """Writes a line of JSON for each runtime to stdout.

    Args:
        registered: names and classes, NAME=MODULE:CLASS.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for each in registered:
        name, _, value = each.partition("=")
        try:
            answer: dict[str, object] = {"about": asdict(RUNTIMES.load(name, value).about())}
        except Exception as error:  # noqa: BLE001 - whatever somebody's plug-in raises is the answer
            answer = {"problem": reason(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

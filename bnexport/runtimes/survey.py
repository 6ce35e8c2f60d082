"""What the runtimes that are installed are on this machine, asked in a process of its own: what a plug-in imports, or breaks, stays there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from bnexport.runtimes.protocols import RUNTIMES, About, runtime_names
from bnexport.system.child import name_status

SECONDS = 30.0
"""How long a process may take to say what they are."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A runtime that a package registers.

    Args:
        name: of the runtime.
        about: what it is here; None where it does not say.
        problem: why it does not; "" where it does.
    """

    name: str
    about: About | None
    problem: str = ""


def survey(seconds: float = SECONDS) -> list[Registered]:
    """Every runtime that is installed, in the order of their names.

    All are asked in one process. Where it ends early, another one goes on with the runtime that was being asked; a runtime that
    ends a process in which it is the first has a problem.

    Args:
        seconds: how long a process may take.
    """
    names, registered = runtime_names(), []
    while names:
        answers, ending = _ask(names, seconds)
        registered += answers
        names = names[len(answers) :]
        if names and not answers:
            registered.append(Registered(names.pop(0), None, f"its process ended ({ending})"))
    return registered


def _ask(names: Sequence[str], seconds: float) -> tuple[list[Registered], str]:
    """The answers of some runtimes, as many as there are, and how the process ended."""
    process = subprocess.Popen(  # noqa: S603 - this very program
        [
            *(sys.executable, "-P", "-m", "bnexport.runtimes.survey_child"),
            *(f"{name}={RUNTIMES.value(name)}" for name in names),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ending = ""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        ending = f"a time limit of {seconds:g} s"
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if ending:
        output, _ = process.communicate()
    answers = [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")]
    registered = [
        Registered(name, About.from_dict(answer["about"]) if "about" in answer else None, answer.get("problem", ""))
        for name, answer in zip(names, answers, strict=False)  # as many as there are
    ]
    return registered, ending or name_status(process.returncode)

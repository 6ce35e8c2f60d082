"""Where a target runs that has a process of its own, by the options of its text that are not the runtime's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bnexport.errors import UsageError
from bnexport.results.option_values import parse_size
from bnexport.results.target_names import split_target
from bnexport.runtimes.isolated import Process
from bnexport.system.child import PATIENCE
from bnexport.system.confined import refuse_unusable

PROCESS_OPTIONS = ("python", "timeout", "memory")
"""The interpreter, the seconds that opening or one batch may take, and the memory."""


def process_of(text: str, options: Mapping[str, str], python: Path | None) -> Process:
    """Where a target runs, by the options that are not the runtime's own.

    Raises:
        UsageError: an option is invalid, or the interpreter cannot be started.
    """
    interpreter = Path(options["python"]).expanduser() if "python" in options else python
    if interpreter is not None and not os.access(interpreter, os.X_OK):
        raise UsageError(f"the interpreter of the target {text} cannot be started", found=str(interpreter))
    seconds = PATIENCE
    if "timeout" in options:
        try:
            seconds = float(options["timeout"])
        except ValueError as error:
            raise UsageError(
                f"the time limit of the target {text} is invalid", found=options["timeout"], expected="seconds"
            ) from error
        refuse_unusable(seconds, f"the time limit of the target {text}")
    return Process(interpreter, seconds, parse_size(options.get("memory")))


def process_options(text: str) -> dict[str, str]:
    """The options of a target that say how its process runs.

    >>> process_options("openvino:threads=1:timeout=9")
    {'timeout': '9'}
    """
    return {name: value for name, value in split_target(text).options.items() if name in PROCESS_OPTIONS}

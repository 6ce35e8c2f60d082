"""uv (https://docs.astral.sh/uv), which knows the releases of a package and makes environments: as it is configured on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bnexport.errors import MachineError

OLDEST = (3, 11)
"""The oldest Python in which bnexport runs."""

_NONE_LEFT = "No solution found"
"""What uv says where there is no release that fits,"""

_NOT_ASKED = ("network was disabled", "found in the cache")
"""and where it could not know."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python on this machine.

    Args:
        path: the interpreter.
        version: such as "3.12.1".
    """

    path: Path
    version: str


OWN = Interpreter(Path(sys.executable), ".".join(map(str, sys.version_info[:3])))
"""The one that runs this."""


def find_uv() -> str:
    """The program uv: of the package of that name, or on the PATH.

    Raises:
        MachineError: there is none.
    """
    try:
        from uv import find_uv_bin
    except ImportError:
        program = shutil.which("uv")
    else:
        try:
            program = find_uv_bin()
        except FileNotFoundError:
            program = shutil.which("uv")
    if program is None:
        raise MachineError("uv is not installed", fix="install it with: pip install 'bnexport[matrix]'")
    return str(program)


def run_uv(*arguments: str, given: str | None = None) -> str:
    """What uv prints.

    Args:
        arguments: its arguments.
        given: its standard input.

    Raises:
        MachineError: it is missing or fails; in its own words.
    """
    completed = _run(arguments, given)
    if completed.returncode:
        raise MachineError(f"uv {' '.join(arguments[:2])} failed ({reason_of(completed.stderr)})")
    return completed.stdout


def interpreters() -> list[Interpreter]:
    """The interpreters of this machine that can run bnexport, one for each minor version, this one first.

    Raises:
        MachineError: uv is missing or fails.
    """
    by_minor = {OWN.version.rpartition(".")[0]: OWN}
    for entry in json.loads(run_uv("python", "list", "--only-installed", "--output-format", "json")):
        parts, path = entry["version_parts"], entry["path"]
        usable = entry["implementation"] == "cpython" and entry.get("variant", "default") == "default" and path
        if usable and (parts["major"], parts["minor"]) >= OLDEST and re.fullmatch(r"[\d.]+", entry["version"]):
            by_minor.setdefault(f"{parts['major']}.{parts['minor']}", Interpreter(Path(path), entry["version"]))
    return list(by_minor.values())


def releases(package: str, specifier: str, interpreter: Interpreter) -> Iterator[str]:
    """The releases of a package that have wheels for an interpreter, without pre-releases, the newest first.

    uv has no command for that. It is asked for the newest one, for the newest one below that, and so on.

    Args:
        package: its name.
        specifier: which of them, as in a requirement; "" for all.
        interpreter: the interpreter.

    Raises:
        MachineError: uv is missing, or cannot reach the package index.
    """
    options = ("--only-binary", ":all:", "--no-deps", "--no-header", "--no-annotate", "--prerelease", "disallow")
    below = ""
    while True:
        bounds = ",".join(bound for bound in (specifier, below) if bound)
        completed = _run(
            ("pip", "compile", "-", "-q", *options, "--python", str(interpreter.path)), f"{package}{bounds}\n"
        )
        if completed.returncode:
            if _NONE_LEFT in completed.stderr and not any(words in completed.stderr for words in _NOT_ASKED):
                return
            raise MachineError(
                f"uv cannot list the releases of {package} ({reason_of(completed.stderr)})",
                fix="run the command again where the package index is reachable",
            )
        line = next((line for line in completed.stdout.splitlines() if "==" in line), "")
        release = line.partition("==")[2].partition(";")[0].strip()
        if not release:
            return
        yield release
        below = f"<{release}"


def reason_of(stderr: str) -> str:
    r"""What uv says is wrong, in one line: the last cause.

    >>> reason_of("warning: x\nerror: Request failed after 3 retries\n  cause: Failed to fetch: `http://a/b/`\n  cause: Connection refused (os error 111)\n")
    'Request failed after 3 retries: Failed to fetch: `http://a/b/`'
    >>> reason_of("error: No solution found when resolving dependencies\n  cause: Because there is no version of x==2,\n      we can conclude that it cannot be installed.\n\nhint: y")
    'Because there is no version of x==2, we can conclude that it cannot be installed.'
    """
    text = re.sub(r"^\s*[×╰─▶│]+\s*", "  cause: ", stderr, flags=re.MULTILINE)  # noqa: RUF001 - what uv draws
    parts: list[str] = []
    for line in text.partition("\nhint:")[0].splitlines():
        word, _, rest = line.strip().partition(": ")
        if word in ("error", "cause") and rest:
            parts.append(rest)
        elif parts and line.strip() and word != "warning":
            parts[-1] += f" {line.strip()}"
    if parts and parts[0].startswith(_NONE_LEFT):
        parts = parts[1:]
    return ": ".join(parts[:2])[:400] or next(
        (line for line in reversed(stderr.splitlines()) if line.strip()), "no reason"
    )


def _run(arguments: tuple[str, ...], given: str | None) -> subprocess.CompletedProcess[str]:
    plain = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
    environment = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PYTHON")
    } | plain
    return subprocess.run(  # noqa: S603 - uv, with arguments that were checked
        [find_uv(), *arguments], input=given or "", capture_output=True, text=True, env=environment, check=False
    )

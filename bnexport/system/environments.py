"""Environments of their own for releases of a package, made by uv and kept in the cache: an environment that is there is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bnexport.errors import MachineError
from bnexport.system import cache
from bnexport.system.uv import Interpreter, run_uv

FOLDER = "environments"
"""Where they are, in the folder of the cache."""

RECORD = "bnexport.json"
"""What is in an environment: this record, beside it."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed in an environment.

    Args:
        package: the package.
        release: its release.
        requirements: what is installed beside it and what it needs itself.
        interpreter: the interpreter that it was made from.
        version: of that interpreter.
    """

    package: str
    release: str
    requirements: tuple[str, ...]
    interpreter: str
    version: str

    @property
    def name(self) -> str:
        """The name of its folder."""
        digest = hashlib.sha256(json.dumps([*self.requirements, self.interpreter]).encode()).hexdigest()
        return f"{self.package}-{self.release}-py{self.version}-{digest[:8]}"


def environment_of(package: str, release: str, requirements: Sequence[str], interpreter: Interpreter) -> Environment:
    """The environment of a release for an interpreter."""
    return Environment(package, release, tuple(requirements), str(interpreter.path), interpreter.version)


def folder() -> Path:
    """Where all of them are."""
    return cache.folder() / FOLDER


def python_in(environment: Environment) -> Path | None:
    """The interpreter of an environment; None where it was not made, or the interpreter it was made from is gone."""
    path = _python(folder() / environment.name)
    return path if os.access(path, os.X_OK) else None


def make(environment: Environment) -> Path:
    """The interpreter of an environment, which uv makes where it is not there.

    It is made beside its place and takes it in one step. Where another process was faster, that one's environment counts.

    Raises:
        MachineError: uv is missing or cannot install the release, or the cache cannot be written.
    """
    if (ready := python_in(environment)) is not None:
        return ready
    root = folder()
    whole, temporary = root / environment.name, root / f".making-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        run_uv("venv", "--no-project", "--python", environment.interpreter, str(temporary))
        wanted = [f"{environment.package}=={environment.release}", *environment.requirements]
        arguments = ("--only-binary", ":all:", "--no-progress", "--python", str(_python(temporary)))
        run_uv("pip", "install", *arguments, *wanted)
        (temporary / RECORD).write_text(json.dumps(asdict(environment)), "utf-8")
        if whole.exists() and python_in(environment) is None:
            shutil.rmtree(whole, ignore_errors=True)
        with contextlib.suppress(OSError):  # somebody else's is there
            temporary.rename(whole)
    except OSError as error:
        raise MachineError(f"cannot write the environment {whole} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if (ready := python_in(environment)) is None:
        raise MachineError(f"cannot write the environment {whole}", fix="run the command again")
    return ready


def kept(package: str = "") -> Iterator[tuple[Environment, Path]]:
    """The environments that are there and can be used, of one package or of all, with their folders."""
    for record in sorted(folder().glob(f"*/{RECORD}")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            values = json.loads(record.read_text("utf-8"))
            environment = Environment(**{**values, "requirements": tuple(values["requirements"])})
            if package in ("", environment.package) and python_in(environment) is not None:
                yield environment, record.parent


def size(path: Path) -> int:
    """How many bytes the files in an environment have. Where uv links them from its own cache, the disk holds them once."""
    total = 0
    for above, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(above, name)).st_size  # noqa: PTH118 - a Path for each of 10,000 files
    return total


def clear() -> tuple[int, int]:
    """Removes all environments, those that were not finished among them; returns how many there were and how many bytes they had."""
    paths = [path for path in folder().glob("*") if path.is_dir()]
    total = sum(map(size, paths))
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder().rmdir()
    return len(paths), total


def _python(path: Path) -> Path:
    return path / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

"""What bnexport promises to Python: its names, their signatures, their types."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import bnexport

SNAPSHOT = Path(__file__).parent / "typing/signatures.txt"
FOREIGN = {"Path", "Unpack", "Sequence", "Mapping", "Iterator", "Any", "NDArray", "None"}
"""Types of other libraries."""


def public() -> list[str]:
    return [name for name in bnexport.__all__ if name != "__version__"]


def signatures() -> str:
    """Every public function, and every field of a public record, with its type."""
    lines = []
    for name in public():
        value = getattr(bnexport, name)
        if inspect.isfunction(value):
            signature = inspect.signature(value)
            lines += [f"{name} -> {signature.return_annotation}"]
            lines += [f"    {parameter} ({parameter.kind.description})" for parameter in signature.parameters.values()]
        elif dataclasses.is_dataclass(value):
            lines += [name, *(f"    {field.name}: {field.type}" for field in dataclasses.fields(value))]
        else:
            lines.append(name)
    return re.sub(r"<bnexport[^>]*>|<[^>]* object at 0x[0-9a-f]+>", "...", "\n".join(lines)) + "\n"


def test_signatures_are_those_that_were_agreed_on() -> None:
    """A change of a public signature is made on purpose: BNEXPORT_WRITE_SIGNATURES=1 pytest tests/test_public_api.py."""
    if os.environ.get("BNEXPORT_WRITE_SIGNATURES"):
        SNAPSHOT.write_text(signatures(), encoding="utf-8")
    assert signatures() == SNAPSHOT.read_text(encoding="utf-8")


def test_every_type_that_is_mentioned_is_public() -> None:
    """Who calls a function can import what it takes and returns, and what is in that."""
    without_defaults = re.sub(r" = .*", "", signatures())
    mentioned = set(re.findall(r"\b[A-Z]\w+", without_defaults))
    assert not mentioned - set(public()) - FOREIGN


def test_everything_public_is_documented() -> None:
    """Each function and class has a docstring."""
    for name in public():
        value = getattr(bnexport, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, name


def test_types_are_those_of_the_stub() -> None:
    """Mypy agrees with every assert_type of a session, and every error that is expected there is one."""
    session = Path(__file__).parent / "typing/session.py"
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(session)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

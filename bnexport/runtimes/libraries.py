"""What is common to runtimes that are libraries of their own: whether one is installed, and what its errors say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from bnexport.errors import UsageError
from bnexport.runtimes.protocols import About
from bnexport.system.suggestions import suggest


def library_version(module: str, distributions: Sequence[str]) -> str:
    """The version of a library by its package's metadata, without importing it; "" where it is not installed.

    Args:
        module: what it is imported as.
        distributions: the packages that bring it.
    """
    if find_spec(module) is None:
        return ""
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "of unknown version"


def about_library(module: str, distributions: Sequence[str], extra: str) -> About:
    """What a runtime is that has a process of its own: the version of its library, or how to install it.

    Args:
        module: what it is imported as.
        distributions: the packages that bring it.
        extra: bnexport's extra that brings it.
    """
    version = library_version(module, distributions)
    if version:
        return About(version, isolated=True)
    return About("", f"{module} is not installed", f"pip install 'bnexport[{extra}]'", isolated=True)


def refuse_unknown_options(runtime: str, options: Mapping[str, str], offered: Collection[str]) -> None:
    """Makes sure that a runtime has all options that were given.

    Raises:
        UsageError: it lacks one.
    """
    if unknown := sorted(options.keys() - set(offered)):
        raise UsageError(
            f"the runtime {runtime} has no option {unknown[0]}",
            expected=" or ".join(sorted(offered)) or "none",
            fix=suggest(unknown[0], offered),
        )


def first_line(text: str, skipped: Sequence[str] = ()) -> str:
    r"""The first line of an error that says what happened.

    Args:
        text: the error.
        skipped: beginnings of lines that say where it happened.

    >>> first_line("Exception from core.cpp:117:\nDevice X is unknown\n\n", ["Exception from"])
    'Device X is unknown'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith(tuple(skipped))), lines[0] if lines else "no reason")

"""The releases of a runtime that can be tried on this machine: those for which uv finds wheels, or those that are kept where it cannot ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points

from packaging.utils import canonicalize_name
from packaging.version import Version

from bnexport.bundles.release_range import ReleaseRange, sort_releases
from bnexport.errors import MachineError, UsageError
from bnexport.progress import Progress
from bnexport.runtimes.protocols import GROUP
from bnexport.system import environments, uv
from bnexport.system.environments import Environment
from bnexport.system.suggestions import suggest
from bnexport.system.uv import Interpreter

RUNTIMES = {
    "onnxruntime": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
    "openvino": "openvino",
    "opencv-python-headless": "opencv",
    "opencv-python": "opencv",
    "opencv-contrib-python-headless": "opencv",
    "opencv-contrib-python": "opencv",
    "mnn": "mnn",
    "tract": "tract",
    "ai-edge-litert": "litert",
}
"""The runtime that each package brings; those of plug-ins are named by the package that registers them."""

BESIDE = {"onnxruntime": (("numpy",), ("numpy<2",))}
"""What is installed beside a runtime. Where that does not run, what is tried next: old releases are built for an old NumPy."""

BESIDE_OTHERS = (("numpy", "onnx"), ("numpy<2", "onnx"))
"""The same for all others, whose files are read with onnx first."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release that may run here.

    Args:
        version: the release.
        environments: where it may run; the first one that does counts.
    """

    version: Version
    environments: tuple[Environment, ...]


def runtime_of(package: str) -> str:
    """The runtime that a package brings.

    Raises:
        UsageError: it brings none that bnexport knows.
    """
    registered = {
        str(canonicalize_name(entry.dist.name)): entry.name
        for entry in entry_points(group=GROUP)
        if entry.dist is not None and entry.dist.name != "bnexport"
    }
    runtimes = registered | RUNTIMES
    if package not in runtimes:
        names = sorted(runtimes)
        raise UsageError(
            f"the package {package} of --matrix brings no runtime",
            expected=" or ".join(names),
            fix=suggest(package, names),
        )
    return runtimes[package]


def list_candidates(wanted: ReleaseRange, runtime: str, progress: Progress) -> tuple[list[Candidate], str]:
    """The releases that may run here, the oldest first, and how the list came about where it may not be complete.

    Where uv is missing or cannot reach the package index, these are the ones whose environments are kept.

    Raises:
        MachineError: uv is missing or cannot reach the package index, and none is kept.
        UsageError: there is no such release.
    """
    progress.stage(f"listing the releases of {wanted.package}")
    note = ""
    try:
        listed = _ask(wanted)
    except MachineError as error:
        listed = {environment.release: uv.OWN for environment in _kept(wanted)}
        if not listed:
            raise
        note = f"only the releases whose environments are kept are known here: {error}"
    versions = sort_releases(list(listed), wanted)
    if not versions:
        raise UsageError(
            f"no release of {wanted.package} that --matrix asks for has wheels for an interpreter of this machine",
            found=wanted.text,
        )
    beside = BESIDE.get(runtime, BESIDE_OTHERS)
    kept = {(one.release, one.requirements): one for one in _kept(wanted)}
    return [
        Candidate(
            version,
            tuple(
                kept.get((text, requirements))
                or environments.environment_of(wanted.package, text, requirements, listed[text])
                for requirements in beside
            ),
        )
        for version in versions
        for text in [next(text for text in listed if Version(text) == version)]
    ], note


def _kept(wanted: ReleaseRange) -> Iterator[Environment]:
    for environment, _ in environments.kept(wanted.package):
        if sort_releases([environment.release], wanted):
            yield environment


def _ask(wanted: ReleaseRange) -> dict[str, Interpreter]:
    """The releases that uv finds, each with its interpreter: this one, and another one for releases before and after what this one can install."""
    listed: dict[str, Interpreter] = {}
    for part in map(str, wanted.parts):
        own = list(uv.releases(wanted.package, part, uv.OWN))
        listed |= dict.fromkeys(own, uv.OWN)
        for other in uv.interpreters()[1:]:
            bounds = [f">{own[0]}", f"<{own[-1]}"] if own else [""]
            for bound in bounds:
                more = uv.releases(wanted.package, ",".join(filter(None, (part, bound))), other)
                listed = dict.fromkeys(more, other) | listed
    return listed

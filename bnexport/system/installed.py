"""Which packages bring onnxruntime: `onnxruntime` and `onnxruntime-gpu` write the same files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.errors import MachineError

if TYPE_CHECKING:
    from importlib import metadata


def packages() -> dict[str, str]:
    """The installed packages that bring onnxruntime, with their versions; two of them write the same files."""
    from importlib import metadata  # imports the whole of email

    entries = [entry for entry in metadata.distributions() if _name(entry).startswith("onnxruntime")]
    return {
        _name(entry): entry.version
        for entry in entries
        if any(str(path) == "onnxruntime/__init__.py" for path in entry.files or ())
    }


def mixture(packages: Mapping[str, str]) -> tuple[str, str]:
    """What is wrong where several packages bring onnxruntime, and the command that repairs it."""
    names = " and ".join(f"{name} {version}" for name, version in packages.items())
    kept = "onnxruntime-gpu" if "onnxruntime-gpu" in packages else next(iter(packages))
    return (
        f"{names} are installed and write the same files: what runs is a mixture",
        f"pip uninstall -y {' '.join(packages)} && pip install {kept}",
    )


def _name(entry: metadata.Distribution) -> str:
    return str(entry.metadata["Name"] or "").lower().replace("_", "-")


def refuse_mixture() -> None:
    """Makes sure, before onnxruntime is used, that one package brings it.

    Raises:
        MachineError: several do.
    """
    if _may_be_mixed() and len(several := packages()) > 1:
        what, fix = mixture(several)
        raise MachineError(what, fix=f"repair it with: {fix}")


def _may_be_mixed() -> bool:
    """Whether more than one folder beside onnxruntime's looks like the metadata of a package of it, which costs less than reading it."""
    spec = find_spec("onnxruntime")
    if spec is None or not spec.submodule_search_locations:
        return False
    beside = Path(spec.submodule_search_locations[0]).parent
    return len(list(beside.glob("onnxruntime*.dist-info"))) > 1

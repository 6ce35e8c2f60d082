"""Keras on another backend as a target: the same file, in the same modes, beside the reference (`--target keras:jax`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bnexport.comparison.reference import Reference
from bnexport.comparison.sides import Runner
from bnexport.errors import UsageError
from bnexport.frameworks.keras.elsewhere import KerasElsewhere
from bnexport.frameworks.keras.installed import EXTRAS, TITLES, backend_name, refuse_absence
from bnexport.frameworks.registry import Recognised, recognise
from bnexport.progress import Progress
from bnexport.results.runs import Role
from bnexport.system.suggestions import suggest


@dataclass(frozen=True, slots=True)
class BackendTarget:
    """A backend of Keras that is compared with the one of the reference.

    Args:
        name: of the backend.
    """

    name: str

    @property
    def versions(self) -> dict[str, str]:
        """The version of the backend."""
        from importlib.metadata import version

        return {self.name: version(self.name)}

    def runs(self, reference: Reference, progress: Progress) -> list[Runner]:
        """The file of a reference on this backend, a run for each mode."""
        framework = KerasElsewhere(self.name)
        recognition = Recognised("keras", reference.recognition.format, framework, framework.about())
        other = Reference(recognition, reference.path, reference.want, reference.store, progress)
        return [
            Runner(replace(other.spec(mode), role=Role.CANDIDATE), partial(other.run, mode), model=other)
            for mode in reference.modes
        ]


def split_backends(targets: Sequence[str]) -> tuple[list[str], list[str]]:
    """The backends of Keras among some targets, and the other targets.

    >>> split_backends(["keras:jax", "onnx-reference"])
    (['jax'], ['onnx-reference'])
    """
    backends = [target.partition(":")[2] for target in targets if target.partition(":")[0] == "keras"]
    return list(dict.fromkeys(backends)), [target for target in targets if target.partition(":")[0] != "keras"]


def open_backends(names: Sequence[str], model: Path, reference: str) -> list[BackendTarget]:
    """The backends of these names as targets; nothing is imported.

    Args:
        names: of the backends.
        model: the file that is checked.
        reference: the reference that is asked for.

    Raises:
        UsageError: there is no such backend, it is the one of the reference, or the reference is not Keras.
        MachineError: it is not installed.
    """
    for name in names:
        if name not in EXTRAS:
            raise UsageError(
                "the target keras requires a backend",
                found=name or "none",
                expected=" or ".join(f"keras:{n}" for n in EXTRAS),
                fix=suggest(f"keras:{name}", [f"keras:{n}" for n in EXTRAS]) if name else "",
            )
        if reference != "keras" or recognise(model).name != "keras":
            raise UsageError(
                f"the target keras:{name} requires a Keras file and Keras 3 as the reference", found=str(model)
            )
        if name == backend_name():
            raise UsageError(
                f"the reference already runs on {TITLES[name]}",
                found=f"keras:{name}",
                expected=" or ".join(f"keras:{other}" for other in EXTRAS if other != name),
                fix=f"name another backend, or state the one of the reference with KERAS_BACKEND, which is {name} now",
            )
        refuse_absence(name)
    return [BackendTarget(name) for name in names]

"""Keras on another backend than this process' own, in a child process: a process has one backend (no framework enters this one)."""

from __future__ import annotations

from pathlib import Path

from bnexport.frameworks.keras.architecture import architecture_of
from bnexport.frameworks.keras.custom_modules import NAME_MODULE, imported_modules
from bnexport.frameworks.keras.installed import TITLES, refuse_absence
from bnexport.frameworks.keras.reference import Keras
from bnexport.frameworks.models import installed_version, refuse_unknown
from bnexport.frameworks.protocols import About, ModelInfo, Outputs, Signature, Tensors, Want
from bnexport.results.runs import Mode
from bnexport.system.child import Child


class KerasElsewhere:
    """The framework `keras` on a backend of its own.

    Args:
        backend: its name.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def about(self) -> About:
        """The version of Keras and the backend; neither is imported."""
        title = f"Keras on {TITLES[self.backend]}"
        return About(
            installed_version("keras"), title=title, runs_as="keras", device=self.backend, architectures=True, kept=True
        )

    def recognises(self, source: object) -> str:
        """The files that Keras reads."""
        return Keras().recognises(source)

    def digest_beside(self, source: Path, want: Want) -> str:
        """The hash of the architecture of a file that has weights only."""
        architecture = architecture_of(source, want)
        return architecture.sha256 if architecture else ""

    def load(self, source: Path, want: Want) -> ModelElsewhere:
        """The model in a process of its own, which ends with it.

        Raises:
            InputError: the file cannot be read.
            MachineError: Keras or the backend is not installed.
        """
        refuse_absence(self.backend)
        modules = imported_modules(trust=want.trust)
        arguments = [str(source.resolve()), "trust" if want.trust else "safe", want.architecture, *modules]
        environment = {"KERAS_BACKEND": self.backend}
        title = self.about().title
        fix = NAME_MODULE if want.trust and not modules else ""
        return ModelElsewhere(
            Child("bnexport.frameworks.keras.child", arguments, environment, path=source, title=title, fix=fix)
        )


class ModelElsewhere:
    """A Keras model in a child process, with its inference and its training pass."""

    modes: tuple[Mode, ...] = ("inference", "training")

    def __init__(self, child: Child) -> None:
        self._child, about = child, child.description
        self.signature = Signature.from_dict(about)
        self.info = ModelInfo(versions=about["versions"], sha256=about["sha256"])

    def forward(self, x: Tensors, *, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        """One pass over one batch (`bnexport.frameworks.keras.passes`)."""
        refuse_unknown(mode, self.modes, dtype, ("float32", "float64"))
        self.signature.refuse_misfit(x)
        arrays = [x[port.name] for port in self.signature.inputs]
        return self._child.ask(arrays, mode=mode, dtype=dtype, seed=seed)

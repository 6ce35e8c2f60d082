"""Keras as a framework, on any of its backends (keras, through `keras_model` and `keras_passes`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bnexport.errors import refusing
from bnexport.frameworks.formats import format_of
from bnexport.frameworks.keras import file as keras_file, model as keras_model
from bnexport.frameworks.keras.architecture import architecture_of
from bnexport.frameworks.keras.installed import backend_name
from bnexport.frameworks.keras.model import LoadedModel
from bnexport.frameworks.keras.passes import Passes
from bnexport.frameworks.models import installed_version, refuse_unknown
from bnexport.frameworks.protocols import (
    About,
    FileDescription,
    Layer,
    ModelInfo,
    Outputs,
    Port,
    Signature,
    Tensors,
    Want,
)
from bnexport.keras_files.layers import UnclearFile
from bnexport.results.runs import Mode
from bnexport.results.signature import dtype_named
from bnexport.system.exclusive import PROCESS
from bnexport.system.files import Format
from bnexport.types import Array


class Keras:
    """The framework `keras`: .h5, .hdf5 and .keras files, and models in memory that save themselves as such."""

    suffix = ".keras"

    def about(self) -> About:
        """The version of Keras, which is not imported, and the backend that it runs on."""
        return About(installed_version("keras"), title="Keras", device=backend_name(), architectures=True, kept=True)

    def recognises(self, source: object) -> str:
        """HDF5 or a Keras archive, or an object that can be saved as one."""
        kind = format_of(source)
        if kind in (Format.HDF5, Format.KERAS):
            return str(kind)
        return str(Format.KERAS) if not isinstance(source, Path) and hasattr(source, "save") else ""

    def describe(self, source: Path, want: Want) -> FileDescription | None:
        """What the file says about the model; Keras is not imported."""
        try:
            return keras_file.describe(source, architecture_of(source, want))
        except UnclearFile:
            return None

    def digest_beside(self, source: Path, want: Want) -> str:
        """The hash of the architecture of a file that has weights only."""
        architecture = architecture_of(source, want)
        return architecture.sha256 if architecture else ""

    def rewrite(self, source: Path, want: Want, values: Mapping[str, Array], target: Path) -> bool:
        """A copy of the file with other statistics; Keras is not imported."""
        return keras_file.rewrite(source, architecture_of(source, want), values, target)

    def load(self, source: Path, want: Want) -> KerasModel:
        """The model, not compiled (`bnexport.frameworks.keras.model.load`)."""
        with PROCESS:  # Keras reads one model at a time
            return KerasModel(keras_model.load(source, trust=want.trust, architecture=architecture_of(source, want)))

    def write(self, model: Any, path: Path) -> None:
        """Saves a `keras.Model`, or another that saves itself so."""
        model.save(str(path))


class KerasModel:
    """A Keras model, with its inference and its training pass."""

    modes: tuple[Mode, ...] = ("inference", "training")

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self.passes = loaded, Passes(loaded)
        self.info = ModelInfo(
            parameters=loaded.parameters,
            layers=loaded.layers,
            frozen=loaded.frozen,
            dtype=loaded.dtype,
            iterations=loaded.iterations,
            repairs=loaded.repairs,
            random_layers=tuple(self.passes.random_layers()),
            versions=keras_model.versions(),
            sha256=loaded.sha256,
        )
        outputs = zip(loaded.outputs, loaded.keras.outputs, strict=True)
        self.signature = Signature(
            tuple(Port(t.name, t.shape, dtype_named(t.dtype)) for t in loaded.inputs),
            tuple(Port(name, tuple(t.shape), dtype_named(str(t.dtype))) for name, t in outputs),
        )

    def forward(self, x: Tensors, *, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        """One pass over one batch (`bnexport.frameworks.keras.passes`)."""
        refuse_unknown(mode, self.modes, dtype, ("float32", "float64"))
        self.signature.refuse_misfit(x)
        if dtype == "float64":
            return self.passes.run_in_float64(mode, x)
        with refusing(f"Keras cannot run {self.loaded.path}"):
            return self.passes.run(mode, x) if seed is None else self.passes.drawn(x, seed)

    def layers(
        self, x: Tensors, *, mode: Mode, dtype: str = "float32", most_bytes: int = 512 << 20
    ) -> Iterator[tuple[Layer, Array]]:
        """What every layer computes, the layers of nested models included."""
        return self.passes.layers(mode, x, float64=dtype == "float64", most_bytes=most_bytes)

    def save_with(self, values: Mapping[str, Array], path: Path) -> None:
        """Writes the model with new values in some of its weights."""
        keras_model.save_with(self.loaded, values, path)

"""Keras 2 as a framework (tf_keras in a child process, through `keras2`): asked by its name only, since Keras 3 knows the same files."""

from __future__ import annotations

from pathlib import Path

from bnexport.errors import InputError
from bnexport.frameworks.formats import format_of
from bnexport.frameworks.keras import keras2
from bnexport.frameworks.models import installed_version, refuse_unknown
from bnexport.frameworks.protocols import About, ModelInfo, Outputs, Port, Signature, Tensors, Want
from bnexport.results.runs import Mode
from bnexport.results.signature import dtype_named
from bnexport.system.files import Format, model_format, sha256


class Keras2:
    """The framework `keras2`."""

    def about(self) -> About:
        """The version of tf_keras, which is not imported."""
        return About(installed_version("tf_keras"), title="Keras 2", device="tensorflow", kept=True)

    def recognises(self, source: object) -> str:
        """The files that Keras 3 reads."""
        kind = format_of(source)
        return str(kind) if kind in (Format.HDF5, Format.KERAS) else ""

    def load(self, source: Path, want: Want) -> Keras2Model:
        """The model in a process of its own, which ends with it."""
        if (kind := model_format(source)) not in (Format.HDF5, Format.KERAS):
            raise InputError(f"{source} is not a Keras file", found=str(kind), expected="h5 or keras")
        keras2.refuse_absence()
        digest = sha256(source)
        return Keras2Model(keras2.Model(source, digest, trust=want.trust), digest)


class Keras2Model:
    """A model in Keras 2: its inference pass, run as a whole."""

    modes: tuple[Mode, ...] = ("inference",)

    def __init__(self, model: keras2.Model, digest: str) -> None:
        self._model = model
        self.info = ModelInfo(parameters=model.interface.parameters, versions=keras2.versions(), sha256=digest)
        inputs, outputs = (
            tuple(Port(name, shape, dtype_named(dtype)) for name, shape, dtype in listed)
            for listed in (model.interface.inputs, model.interface.outputs)
        )
        self.signature = Signature(inputs, outputs)

    def forward(self, x: Tensors, *, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        """What the model computes in Keras 2."""
        refuse_unknown(mode, self.modes, dtype, ("float32",))
        if seed is not None:
            raise InputError("random layers cannot be switched on in Keras 2")
        self.signature.refuse_misfit(x)
        return self._model.run([x[port.name] for port in self.signature.inputs])

"""TensorFlow as a framework: SavedModel folders, of which one signature is run (tensorflow, through `saved_model`)."""

from __future__ import annotations

from pathlib import Path

from bnexport.errors import InputError
from bnexport.frameworks.formats import format_of
from bnexport.frameworks.keras import model as keras_model
from bnexport.frameworks.models import installed_version, refuse_unknown
from bnexport.frameworks.protocols import About, ModelInfo, Outputs, Port, Signature, Tensors, Want
from bnexport.frameworks.saved_model import model as saved_model
from bnexport.frameworks.saved_model.model import SavedModel
from bnexport.results.runs import Mode
from bnexport.results.signature import dtype_named
from bnexport.system.files import Format


class SavedModels:
    """The framework `saved-model`."""

    def about(self) -> About:
        """The version of TensorFlow, which is not imported."""
        return About(
            installed_version("tensorflow"),
            title="TensorFlow",
            runs_as="tensorflow",
            device="tensorflow",
            signatures=True,
            kept=True,
        )

    def recognises(self, source: object) -> str:
        """A folder with a saved_model.pb."""
        kind = format_of(source)
        return str(kind) if kind == Format.SAVED_MODEL else ""

    def load(self, source: Path, want: Want) -> SavedModelReference:
        """One signature (`bnexport.frameworks.saved_model.model.load`)."""
        keras_model.load_framework("tensorflow")
        return SavedModelReference(saved_model.load(source, signature=want.signature, trust=want.trust))


class SavedModelReference:
    """One signature of a SavedModel: a graph, which knows no layers and no modes."""

    modes: tuple[Mode, ...] = ("inference",)

    def __init__(self, saved: SavedModel) -> None:
        self.saved = saved
        self.info = ModelInfo(
            parameters=saved.parameters, versions=keras_model.versions("tensorflow"), sha256=saved.sha256
        )
        outputs = zip(saved.outputs, saved.function.outputs, strict=True)
        self.signature = Signature(
            tuple(Port(name, shape, dtype_named(dtype)) for name, shape, dtype in saved.inputs),
            tuple(
                Port(name, () if t.shape.rank is None else tuple(t.shape.as_list()), dtype_named(t.dtype.name))
                for name, t in outputs
                if not name.endswith("/logits")
            ),
        )

    def forward(self, x: Tensors, *, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        """What the signature computes."""
        if dtype == "float64":
            raise InputError("a SavedModel has no separate layers or modes, and a fixed precision")
        refuse_unknown(mode, self.modes, dtype, ("float32",))
        if seed is not None:
            raise InputError("a SavedModel has no random layers to switch on")
        self.signature.refuse_misfit(x)
        return self.saved.run(x)

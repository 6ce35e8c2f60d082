"""What a Keras file computes in Keras 2, as the reference of a check: Keras 3 reads some old files as other models, and says nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.comparison.description import Description
from bnexport.comparison.reference import Feeds, Reference
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import ExportError, InputError, UsageError
from bnexport.frameworks.keras import keras2
from bnexport.frameworks.protocols import Outputs, Want
from bnexport.frameworks.registry import framework_named, recognise
from bnexport.progress import Progress
from bnexport.results.runs import Mode
from bnexport.system.cache import Cache

if TYPE_CHECKING:
    import onnx


class Keras2Reference(Reference):
    """A Keras model file whose inference pass is that of Keras 2. Its export, and how far rounding moves it, are those of Keras 3.

    Args:
        path, want, store, progress: those of `Reference`.

    Raises:
        MachineError: tf_keras is not installed.
        UsageError: it is not a Keras file.
    """

    def __init__(self, path: Path, want: Want, store: Cache, progress: Progress) -> None:
        keras3 = recognise(path)
        if keras3.name != "keras":
            raise UsageError(
                "the reference keras2 requires a Keras file",
                found=str(path),
                fix="omit --reference",
            )
        keras2.refuse_absence()
        super().__init__(framework_named("keras2", keras3.format), path, want, store, progress)
        self.keras3 = Reference(keras3, path, want, store, progress)

    def _describe(self) -> Description:
        own = super()._describe()
        try:
            other = self.keras3.description()
        except InputError as error:
            self._progress.note(f"Keras 3 cannot load the file, so only Keras 2 is run ({error})")
            return own
        if (len(other.inputs), len(other.outputs)) != (len(own.inputs), len(own.outputs)):
            raise InputError(
                f"Keras 3 loads {self.path} as another model than Keras 2",
                found=f"{len(other.inputs)} inputs and {len(other.outputs)} outputs",
                expected=f"{len(own.inputs)} inputs and {len(own.outputs)} outputs",
                fix="export it in Keras 2 and check that file with --deployed",
            )
        info = replace(other.info, random_layers=(), versions={**other.info.versions, **own.info.versions})
        return replace(other, info=info, modes=own.modes)

    def graph(self, model_sidecar: Sidecar | None) -> tuple[onnx.ModelProto, bytes | None]:
        """The inference graph that is made of the file through Keras 3.

        Raises:
            ExportError: Keras 3 cannot read it, or it cannot be written as ONNX.
        """
        try:
            return self.keras3.graph(model_sidecar)
        except ExportError:
            raise
        except InputError as error:
            raise ExportError(
                f"{self.path} cannot be exported because Keras 3 cannot load it ({error})",
                fix="export it in Keras 2 and check that file with --deployed",
            ) from error

    def _forward(self, feeds: Feeds, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        description, signature = self.description(), self.model.signature
        places = zip(signature.inputs, description.inputs, strict=True)
        arrays = super()._forward({port.name: feeds[name] for port, (name, _, _) in places}, mode, dtype, seed)
        ours = {
            port.name: name for port, name in zip(signature.outputs, description.outputs, strict=True)
        }  # Keras 3 may call them otherwise
        names = ours | {f"{name}/logits": f"{own}/logits" for name, own in ours.items()}
        return {names[name]: value for name, value in arrays.items()}

    def run_in_float32(self, mode: Mode, feeds: Feeds) -> Outputs:
        """The pass of Keras 3, which is what `run_in_float64` is compared with.

        Raises:
            InputError: Keras 3 cannot read the file.
        """
        return self.keras3.run(mode, feeds)

    def run_in_float64(self, mode: Mode, feeds: Feeds) -> Outputs:
        """The pass of Keras 3 in float64: Keras 2 does not compute in it.

        Raises:
            InputError: Keras 3 cannot read the file, or the model does not compute in float64.
        """
        return self.keras3.run_in_float64(mode, feeds)

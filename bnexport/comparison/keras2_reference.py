"""What a Keras file computes in Keras 2, as the reference of a check: Keras 3 reads some old files as other models, and says nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bnexport.comparison.reference import Outputs, Reference
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import ExportError, InputError, UsageError
from bnexport.frameworks import keras2
from bnexport.frameworks.description import Description, without_layers
from bnexport.frameworks.keras_passes import Passes
from bnexport.progress import Progress
from bnexport.results.runs import Mode
from bnexport.system import files
from bnexport.system.cache import Cache
from bnexport.system.files import Format

if TYPE_CHECKING:
    import onnx


class Keras2Reference(Reference):
    """A Keras model file whose inference pass is that of Keras 2. Its export, and how far rounding moves it, are those of Keras 3.

    Args:
        path, known, store, trust, progress: those of `Reference`.

    Raises:
        MachineError: tf_keras is not installed.
        UsageError: it is not a Keras file.
    """

    modes = ("inference",)
    runtime = "keras2"
    _keras2: keras2.Model | None = None

    def __init__(self, path: Path, known: Sidecar | None, store: Cache, *, trust: bool, progress: Progress) -> None:
        if files.model_format(path) in (Format.ONNX, Format.SAVED_MODEL):
            raise UsageError(
                "--reference keras2 runs a Keras file in Keras 2",
                found=f"{path}, which is none",
                fix="leave out --reference",
            )
        versions = keras2.versions()
        super().__init__(path, known, store, trust=trust, progress=progress)
        self._key = json.dumps([self._key, "keras2", versions, trust])
        self.keras3 = Reference(path, known, store, trust=trust, progress=progress)

    @property
    def keras2(self) -> keras2.Model:
        """The model in Keras 2.

        Raises:
            InputError: Keras 2 cannot read it.
            MachineError: its process came to an end.
        """
        if self._keras2 is None:
            self._progress.stage("loading the model in Keras 2")
            self._keras2 = keras2.Model(self.path, self.sha256, trust=self._trust)
        return self._keras2

    @property
    def passes(self) -> Passes:
        """There are none: Keras 2 is run as a whole.

        Raises:
            InputError: always.
        """
        raise InputError("the reference is Keras 2, which is run as a whole, without its layers")

    def _described(self) -> Description:
        interface, versions = self.keras2.interface, keras2.versions()
        try:
            found = self.keras3.description()
        except InputError as error:
            self._progress.note(f"Keras 3 does not read the file ({error}): only Keras 2 is run")
            form = str(files.model_format(self.path))
            return without_layers(form, interface.inputs, interface.outputs, interface.parameters, versions)
        if (len(found.inputs), len(found.outputs)) != (len(interface.inputs), len(interface.outputs)):
            raise InputError(
                f"Keras 3 reads {self.path} as another model than Keras 2",
                found=f"{len(found.inputs)} inputs and {len(found.outputs)} outputs",
                expected=f"{len(interface.inputs)} and {len(interface.outputs)}",
                fix="export it in Keras 2, and check the export with --deployed",
            )
        return replace(found, random_layers=[], versions={**found.versions, **versions})

    def graph(self) -> tuple[onnx.ModelProto, bytes]:
        """The inference graph that is made of the file through Keras 3.

        Raises:
            ExportError: Keras 3 cannot read it, or it cannot be written as ONNX.
        """
        try:
            return self.keras3.graph()
        except ExportError:
            raise
        except InputError as error:
            raise ExportError(
                f"Keras 3 cannot read {self.path}, so that bnexport cannot export it ({error})",
                fix="export it in Keras 2, and check the export with --deployed",
            ) from error

    def _computed(self, mode: Mode, feeds: Mapping[str, NDArray[Any]]) -> Outputs:  # noqa: ARG002 - there is one
        description, model = self.description(), self.keras2
        found = model.run([feeds[name] for name, _, _ in description.inputs])
        ours = dict(zip(model.interface.outputs, description.outputs, strict=True))  # Keras 3 may call them otherwise
        names = ours | {f"{name}/logits": f"{own}/logits" for name, own in ours.items()}
        return {names[name]: value for name, value in found.items()}

    def run_in_float32(self, mode: Mode, feeds: Mapping[str, NDArray[Any]]) -> Outputs:
        """The pass of Keras 3, which is what `run_in_float64` is compared with.

        Raises:
            InputError: Keras 3 cannot read the file.
        """
        return self.keras3.run(mode, feeds)

    def run_in_float64(self, mode: Mode, feeds: Mapping[str, NDArray[Any]]) -> Outputs:
        """The pass of Keras 3 in float64: Keras 2 does not compute in it.

        Raises:
            InputError: Keras 3 cannot read the file, or the model does not compute in float64.
        """
        return self.keras3.run_in_float64(mode, feeds)

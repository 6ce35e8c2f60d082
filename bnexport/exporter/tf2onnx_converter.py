"""tf2onnx as a converter of Keras models and SavedModels (through `conversion`)."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import ExportError
from bnexport.exporter import conversion, tf2onnx_convert
from bnexport.exporter.protocols import Source
from bnexport.frameworks.keras import model as keras_model
from bnexport.frameworks.keras.reference import KerasModel
from bnexport.frameworks.saved_model.reference import SavedModelReference

if TYPE_CHECKING:
    import onnx


class Tf2Onnx:
    """The converter `tf2onnx`."""

    frameworks = frozenset({"keras", "saved-model"})

    def versions(self) -> dict[str, str]:
        """The version of tf2onnx, which is not imported."""
        return {"tf2onnx": importlib.metadata.version("tf2onnx")}

    def convert(self, source: Source, model_sidecar: Sidecar | None) -> onnx.ModelProto:
        """The inference graph, complete with weights and metadata."""
        model = source.model
        tf2onnx_convert.load_framework()
        keras_model.load_framework("tensorflow")
        match model:
            case KerasModel():
                return conversion.graph_of(model.loaded, model_sidecar)
            case SavedModelReference():
                return conversion.saved_graph_of(model.saved, model_sidecar)
        raise ExportError("tf2onnx cannot convert this model", found=type(model).__name__)

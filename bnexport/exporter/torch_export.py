"""torch.onnx as a converter of PyTorch modules (through `bnexport.frameworks.torch.export`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import ExportError
from bnexport.exporter.protocols import Source
from bnexport.frameworks.models import installed_version
from bnexport.frameworks.torch.model import TorchModel
from bnexport.onnx_graph import metadata
from bnexport.onnx_graph.layers import module_of

if TYPE_CHECKING:
    import onnx


class TorchOnnx:
    """The converter `torch-onnx`."""

    frameworks = frozenset({"torch"})

    def versions(self) -> dict[str, str]:
        """The versions of PyTorch and of onnxscript, which are not imported."""
        return {"torch": installed_version("torch"), "onnxscript": installed_version("onnxscript")}

    def convert(self, source: Source, model_sidecar: Sidecar | None) -> onnx.ModelProto:
        """The inference graph; frozen layers are marked as such."""
        model = source.model
        if not isinstance(model, TorchModel) or model.graph is None:
            raise ExportError(
                "torch.onnx exports the module only where no file is given",
                fix="check the deployed file with --deployed model.onnx",
            )
        graph = model.graph()
        for node in graph.graph.node:
            if node.op_type == "BatchNormalization" and ".".join(module_of(node)) in model.frozen:
                metadata.write(node, {"frozen": True})
        metadata.write(graph, sidecar.for_metadata(model_sidecar))
        return graph

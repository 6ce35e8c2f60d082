"""What a converter is: it makes an ONNX graph of a model that a framework has loaded.

Plug-ins are found by their entry point:

    [project.entry-points."bnexport.converters"]
    my-converter = "my_package.module:MyConverter"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

from bnexport.datasets.sidecar import Sidecar
from bnexport.frameworks.protocols import ReferenceModel
from bnexport.system.plugins import Plugins

if TYPE_CHECKING:
    import onnx


@runtime_checkable
class Converter(Protocol):
    """What makes ONNX graphs."""

    frameworks: frozenset[str]
    """Whose models it converts."""

    def versions(self) -> dict[str, str]:
        """The versions of what it is made of."""
        ...

    def convert(self, model: ReferenceModel, model_sidecar: Sidecar | None) -> onnx.ModelProto:
        """The inference graph, with the model's inputs and outputs in its order, and `model_sidecar` in its metadata.

        Raises:
            ExportError: it cannot be written as ONNX.
            MachineError: a library is not installed.
        """
        ...


def _is_converter(plugin: object) -> TypeGuard[Converter]:
    return isinstance(plugin, Converter)


CONVERTERS = Plugins(
    "bnexport.converters",
    "converter",
    _is_converter,
    "frameworks, versions and convert",
    {"tf2onnx": "bnexport.exporter.tf2onnx_converter:Tf2Onnx"},
)
"""The converters that are installed."""


def converter_of(framework: str) -> tuple[str, Converter] | None:
    """The first converter of a framework's models, and its name; None where there is none.

    Raises:
        MachineError: a plug-in cannot be loaded.
    """
    for name in CONVERTERS.each():
        converter = CONVERTERS.open(name)
        if framework in converter.frameworks:
            return name, converter
    return None

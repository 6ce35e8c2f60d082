"""What a converter is: it makes an ONNX graph of a model file, or of the model that a framework loads from it.

Plug-ins are found by their entry point:

    [project.entry-points."bnexport.converters"]
    my-converter = "my_package.module:MyConverter"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import ExportError, MachineError
from bnexport.frameworks.protocols import ReferenceModel, Want
from bnexport.onnx_graph import metadata
from bnexport.onnx_graph.finish import InvalidGraph
from bnexport.progress import Progress
from bnexport.system.plugins import Plugins
from bnexport.version import __version__

if TYPE_CHECKING:
    import onnx


class NotConverted(Exception):  # noqa: N818 - no error: the next converter is tried
    """A converter does not cover a model, and another one may.

    Args:
        missing: what is not covered, by the layer it is in; as a user reads it.
    """

    def __init__(self, missing: Mapping[str, str]) -> None:
        super().__init__("; ".join(missing.values()))
        self.missing = dict(missing)


class Source(Protocol):
    """What is converted."""

    @property
    def path(self) -> Path:
        """The file or folder."""
        ...

    @property
    def want(self) -> Want:
        """How it is to be loaded."""
        ...

    @property
    def model(self) -> ReferenceModel:
        """The model, which its framework loads when this is first asked for.

        Raises:
            InputError: it cannot be read.
            MachineError: the framework is not installed.
        """
        ...


@runtime_checkable
class Converter(Protocol):
    """What makes ONNX graphs."""

    frameworks: frozenset[str]
    """Whose models it converts."""

    def versions(self) -> dict[str, str]:
        """The versions of what it is made of."""
        ...

    def convert(self, source: Source, model_sidecar: Sidecar | None) -> onnx.ModelProto:
        """The inference graph, with the model's inputs and outputs in its order, and `model_sidecar` in its metadata.

        Raises:
            NotConverted: this converter does not cover the model; the next one is tried.
            InvalidGraph: ONNX refuses its graph; the next one is tried.
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
    {
        "keras-file": "bnexport.exporter.native:KerasFiles",
        "tf2onnx": "bnexport.exporter.tf2onnx_converter:Tf2Onnx",
        "torch-onnx": "bnexport.exporter.torch_export:TorchOnnx",
    },
)
"""The converters that are installed, in the order in which they are tried."""


WAYS_OUT = (
    "register a function for the layer (bnexport.register_emitter), cut the model before it, or check another exporter's "
    "file with bnexport check MODEL --deployed FILE"
)


def converters_of(framework: str) -> Iterator[tuple[str, Converter]]:
    """The converters of a framework's models, with their names.

    Raises:
        MachineError: a plug-in cannot be loaded.
    """
    for name in CONVERTERS.each():
        converter = CONVERTERS.open(name)
        if framework in converter.frameworks:
            yield name, converter


def convert(source: Source, framework: str, model_sidecar: Sidecar | None, progress: Progress) -> onnx.ModelProto:
    """The inference graph, by the first converter that covers the model.

    Args:
        source: what is converted.
        framework: whose model it is.
        model_sidecar: what travels into the graph.
        progress: notified where the first converter does not cover the model.

    Raises:
        ExportError: it cannot be written as ONNX.
        InputError: it cannot be read.
        MachineError: a library is not installed.
    """
    missing: dict[str, str] = {}
    refused: InvalidGraph | None = None
    for name, converter in converters_of(framework):
        if missing:
            progress.note(f"not covered by bnexport's own exporter: {list_missing(missing)}; {name} exports the model")
        try:
            return _convert(name, converter, source, model_sidecar)
        except NotConverted as reason:
            missing |= reason.missing
        except InvalidGraph as error:  # the framework says what is wrong where it does not load the model
            refused = refused or error
            missing |= {refused.layer: refused.description}
        except MachineError as error:
            if not missing:
                raise
            raise MachineError(
                f"the model cannot be exported on this machine: {list_missing(missing)} ({error})"
            ) from error
    if missing:
        raise ExportError(
            f"EX002: bnexport cannot export the model: {list_missing(missing)}",
            fix=refused.advice if refused else WAYS_OUT,
        )
    raise ExportError(
        f"no installed converter exports models of the framework {framework}",
        fix="check the deployed file with --deployed model.onnx",
    )


def _convert(name: str, converter: Converter, source: Source, model_sidecar: Sidecar | None) -> onnx.ModelProto:
    graph = CONVERTERS.guard(name, lambda: converter.convert(source, model_sidecar))
    if not metadata.read(graph, "versions"):
        metadata.write(graph, {"versions": {"bnexport": __version__, **converter.versions()}})
    return graph


def list_missing(missing: Mapping[str, str]) -> str:
    """What is not covered, in words: a reason once, with the layers it holds for."""
    layers: dict[str, list[str]] = {}
    for layer, reason in missing.items():
        layers.setdefault(reason, []).append(layer)
    named = {reason: [path for path in paths if path] for reason, paths in layers.items()}
    return "; ".join(
        f"{reason} ({', '.join(paths[:3])}{' ...' if len(paths) > 3 else ''})" if paths else reason
        for reason, paths in named.items()
    )

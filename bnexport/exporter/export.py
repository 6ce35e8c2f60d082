"""`bnexport export`: a Keras model as an ONNX file that keeps its BatchNormalization nodes, and says where it comes from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bnexport.datasets import sidecar
from bnexport.datasets.label_file import add_class_names
from bnexport.errors import ExportError, InputError
from bnexport.exporter.protocols import CONVERTERS, Converter, converter_of
from bnexport.frameworks.protocols import ReferenceModel, Want
from bnexport.frameworks.registry import FRAMEWORKS, Recognised, recognised, refuse_needless_signature
from bnexport.onnx_graph import metadata
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.sites import sites
from bnexport.progress import Progress
from bnexport.system import files


@dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Args:
        path: the ONNX file.
        nodes: how many nodes its graph has.
        batch_normalization: how many of them are BatchNormalization.
        seconds: from the loaded model to the written file.
        inputs: name and shape of each input, None for an open axis.
        outputs: the names of the outputs.
        logits: for each output that ends in softmax or sigmoid, the tensor before it.
    """

    path: Path
    nodes: int
    batch_normalization: int
    seconds: float
    inputs: dict[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    logits: dict[str, str]


def export(
    model: Path | str, output: Path | str, *, trust: bool = False, signature: str = "", progress: Progress | None = None
) -> Export:
    """Writes the inference graph of a Keras model as ONNX.

    Args:
        model: .h5, .hdf5 or .keras, or a SavedModel folder; its sidecar, or the class names in a labels.txt, travels into the ONNX file.
        output: .onnx, written whole or not at all.
        trust: load the model even where it holds code of its own.
        signature: which function of a SavedModel is meant; "" for "serving_default", or the only one.
        progress: notified of each stage.

    Raises:
        InputError: the model cannot be read.
        ExportError: it has an operation that cannot be written as ONNX.
        MachineError: TensorFlow or tf2onnx is not installed, or the disk is full.
    """
    progress = progress or Progress()
    model, output = Path(model), files.writable(Path(output), (".onnx",))
    model_sidecar = sidecar.read(model)
    source = recognised(model)
    loaded, name, converter = _load(source, model, Want(trust, signature), progress)
    begun = time.perf_counter()
    progress.stage("exporting")
    graph = CONVERTERS.guard(name, lambda: converter.convert(loaded, model_sidecar))
    add_class_names(model, graph, model_sidecar, progress)
    content = serialise(graph)
    files.write_bytes(output, content)
    return Export(
        path=output,
        nodes=len(graph.graph.node),
        batch_normalization=len(sites(graph)),
        seconds=time.perf_counter() - begun,
        inputs={port.name: port.shape for port in loaded.signature.inputs},
        outputs=tuple(port.name for port in loaded.signature.outputs),
        logits=metadata.read(graph, "logits", {}),
    )


def _load(source: Recognised, path: Path, want: Want, progress: Progress) -> tuple[ReferenceModel, str, Converter]:
    """The model, and the converter with its name."""
    refuse_needless_signature(source, path, want)
    title = source.about.title or source.name
    converter = converter_of(source.name)
    if converter is None:
        if source.about.executable:
            raise InputError(f"{path} is an ONNX file", expected="a Keras model (.h5, .hdf5 or .keras)")
        raise ExportError(f"no installed converter exports models of {title}", found=str(path))
    progress.stage(f"loading the model in {title}")
    return FRAMEWORKS.guard(source.name, lambda: source.framework.load(path, want)), *converter

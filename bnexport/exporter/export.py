"""`bnexport export`: a Keras model as an ONNX file that keeps its BatchNormalization nodes, and says where it comes from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bnexport.datasets import sidecar
from bnexport.datasets.label_file import add_class_names
from bnexport.exporter import conversion, tf2onnx_convert
from bnexport.frameworks import keras_model, saved_model
from bnexport.frameworks.keras_model import LoadedModel
from bnexport.frameworks.saved_model import SavedModel
from bnexport.frameworks.saved_model_files import refuse_needless_signature
from bnexport.onnx_graph import metadata
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.sites import sites
from bnexport.progress import Progress
from bnexport.system import files
from bnexport.system.exclusive import PROCESS
from bnexport.system.files import Format


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
    loaded = _load(model, trust=trust, signature=signature, progress=progress)
    tf2onnx_convert.load_framework()
    begun = time.perf_counter()
    progress.stage("exporting")
    if isinstance(loaded, LoadedModel):
        graph = conversion.graph_of(loaded, model_sidecar)
        inputs = {tensor.name: tuple(tensor.shape) for tensor in loaded.inputs}
    else:
        graph = conversion.saved_graph_of(loaded, model_sidecar)
        inputs = {name: tuple(shape) for name, shape, _ in loaded.inputs}
    add_class_names(model, graph, model_sidecar, progress)
    content = serialise(graph)
    files.write_bytes(output, content)
    return Export(
        path=output,
        nodes=len(graph.graph.node),
        batch_normalization=len(sites(graph)),
        seconds=time.perf_counter() - begun,
        inputs=inputs,
        outputs=tuple(name for name in loaded.outputs if not name.endswith("/logits")),
        logits=metadata.logits(graph),
    )


def _load(path: Path, *, trust: bool, signature: str, progress: Progress) -> LoadedModel | SavedModel:
    refuse_needless_signature(path, signature)
    progress.stage("loading TensorFlow and the model")
    if files.model_format(path) == Format.SAVED_MODEL:
        keras_model.load_framework()
        return saved_model.load(path, signature=signature, trust=trust)
    with PROCESS:  # Keras reads one model at a time
        return keras_model.load(path, trust=trust)

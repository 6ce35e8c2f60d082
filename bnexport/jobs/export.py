"""`bnexport export`: a Keras model as an ONNX file that keeps its BatchNormalization nodes, and says where it comes from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport import __version__, files, sidecar
from bnexport.errors import InputError
from bnexport.graph import finish, metadata, weights
from bnexport.graph.sites import sites
from bnexport.jobs.progress import Progress
from bnexport.runtimes import keras_model, keras_trace, tf2onnx_convert
from bnexport.runtimes.keras_model import LoadedModel
from bnexport.sidecar import Sidecar

if TYPE_CHECKING:
    import onnx


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


def export(model: Path, output: Path, *, progress: Progress | None = None) -> Export:
    """Writes the inference graph of a Keras model as ONNX.

    Args:
        model: .h5, .hdf5 or .keras; its sidecar travels into the ONNX file.
        output: .onnx, written whole or not at all.
        progress: told of each stage.

    Raises:
        InputError: the model cannot be read.
        ExportError: it has an operation that cannot be written as ONNX.
        MachineError: TensorFlow or tf2onnx is not installed, or the disk is full.
    """
    progress = progress or Progress()
    files.writable(output, (".onnx",))
    known = sidecar.read(model)
    progress.stage("loading TensorFlow and the model")
    loaded = keras_model.load(model)
    tf2onnx_convert.load_framework()
    progress.stage("exporting")
    begun = time.perf_counter()
    graph = graph_of(loaded, known)
    content = serialised(graph)
    files.write_bytes(output, content)
    return Export(
        path=output,
        nodes=len(graph.graph.node),
        batch_normalization=len(sites(graph)),
        seconds=time.perf_counter() - begun,
        inputs={t.name: t.shape for t in loaded.inputs},
        outputs=loaded.outputs,
        logits=metadata.read(graph, "logits", {}),
    )


def graph_of(loaded: LoadedModel, known: Sidecar | None) -> onnx.ModelProto:
    """The inference graph of a loaded model, complete with weights and metadata."""
    traced = keras_trace.trace(loaded.keras, loaded.weights, [t.name for t in loaded.inputs], loaded.outputs)
    model = tf2onnx_convert.convert(traced)
    weights.attach(model, traced.weights)
    finish.finish(
        model,
        name=loaded.keras.name,
        producer_version=__version__,
        hidden=traced.logits,
        nodes={
            site.name: {"momentum": site.momentum, "frozen": site.frozen, "axis": site.axis} for site in traced.sites
        },
        properties={
            "source": {"file": loaded.path.name, "format": str(loaded.format), "sha256": loaded.sha256},
            "versions": {"bnexport": __version__, **keras_model.versions(), **tf2onnx_convert.versions()},
            **sidecar.travelling(known),
        },
    )
    return model


def serialised(model: onnx.ModelProto) -> bytes:
    """The model as bytes.

    Raises:
        InputError: it is larger than the 2 GiB that one protobuf message can hold.
    """
    try:
        content: bytes = model.SerializeToString()
    except Exception as error:
        raise InputError("the graph is larger than 2 GiB, more than one ONNX file can hold") from error
    return content

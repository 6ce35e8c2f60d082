"""`bnexport export`: a Keras model as an ONNX file that keeps its BatchNormalization nodes, and says where it comes from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bnexport.datasets import sidecar
from bnexport.datasets.label_file import add_class_names
from bnexport.errors import InputError
from bnexport.exporter.protocols import convert
from bnexport.frameworks.protocols import ReferenceModel, Want
from bnexport.frameworks.registry import FRAMEWORKS, Recognised, recognise, refuse_needless
from bnexport.onnx_graph import metadata, protobuf, tensors
from bnexport.onnx_graph.sites import sites
from bnexport.onnx_graph.tasks import output_tasks
from bnexport.progress import Progress
from bnexport.system import files


@dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Args:
        path: the ONNX file.
        nodes: how many nodes its graph has.
        batch_normalization: how many of them are BatchNormalization.
        seconds: from the beginning to the written file, without the time that packages take to import.
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
    model: Path | str,
    output: Path | str,
    *,
    trust: bool = False,
    signature: str = "",
    architecture: str | Path = "",
    progress: Progress | None = None,
) -> Export:
    """Writes the inference graph of a Keras model as ONNX.

    Args:
        model: .h5, .hdf5 or .keras, or a SavedModel folder; its sidecar, or the class names in a labels.txt, travels into the ONNX file.
        output: .onnx, written whole or not at all.
        trust: load the model even where it holds code of its own.
        signature: which function of a SavedModel is meant; "" for "serving_default", or the only one.
        architecture: of a Keras file that has weights only: a JSON file that `model.to_json()` wrote, or the name of a network of keras.applications;
            "" for model.json or config.json beside it.
        progress: notified of each stage.

    Raises:
        InputError: the model cannot be read, or its sidecar names an output that it does not have.
        ExportError: it has an operation that cannot be written as ONNX.
        MachineError: TensorFlow or tf2onnx is not installed, or the disk is full.
    """
    progress = progress or Progress()
    model, output = Path(model), files.writable(Path(output), (".onnx",))
    model_sidecar = sidecar.read(model)
    source = _File(recognise(model), model, Want(trust, signature, str(architecture)), progress)
    begun = time.perf_counter()
    progress.stage("exporting")
    graph = convert(source, source.recognition.name, model_sidecar, progress)
    model_sidecar = add_class_names(model, graph, model_sidecar, progress)
    output_tasks(graph, model_sidecar.outputs if model_sidecar else {}, sidecar.path_for(model).name)
    with files.whole(output) as temporary:
        protobuf.write(graph, temporary)
    return Export(
        path=output,
        nodes=len(graph.graph.node),
        batch_normalization=len(sites(graph)),
        seconds=time.perf_counter() - begun,
        inputs={port.name: port.shape for port in tensors.ports(tensors.inputs(graph))},
        outputs=tuple(info.name for info in graph.graph.output),
        logits=metadata.read(graph, "logits", {}),
    )


class _File:
    """A model file, which its framework loads when the model is asked for."""

    def __init__(self, source: Recognised, path: Path, want: Want, progress: Progress) -> None:
        refuse_needless(source, path, want)
        if source.about.executable:
            raise InputError(f"{path} is an ONNX file", expected="a Keras model (.h5, .hdf5 or .keras)")
        self.recognition, self.path, self.want, self._progress = source, path, want, progress

    @cached_property
    def model(self) -> ReferenceModel:
        """The model in its framework."""
        framework = self.recognition.framework
        with self._progress.stage_within(
            f"loading the model in {self.recognition.about.title or self.recognition.name}"
        ):
            return FRAMEWORKS.guard(self.recognition.name, lambda: framework.load(self.path, self.want))

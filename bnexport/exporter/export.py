"""`bnexport export`: a Keras model as an ONNX file that keeps its BatchNormalization nodes, and says where it comes from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.datasets import sidecar
from bnexport.datasets.arrays.fit import shape_text
from bnexport.datasets.label_file import add_class_names
from bnexport.datasets.preparation import Preparation, prepare
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, UsageError
from bnexport.exporter.protocols import convert
from bnexport.frameworks.protocols import ReferenceModel, Want
from bnexport.frameworks.registry import FRAMEWORKS, Recognised, recognise, refuse_needless
from bnexport.onnx_graph import metadata, protobuf, tensors
from bnexport.onnx_graph.image_input import take_pixels
from bnexport.onnx_graph.sites import sites
from bnexport.onnx_graph.tasks import output_tasks
from bnexport.progress import Progress
from bnexport.results.actions import spell_options
from bnexport.results.overrides import Overrides
from bnexport.results.preprocessing import Order, Preprocessing, Scaling
from bnexport.system import files

if TYPE_CHECKING:
    import onnx


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
        embedded: how the file prepares the pixels that it takes; None where it takes what the model takes.
    """

    path: Path
    nodes: int
    batch_normalization: int
    seconds: float
    inputs: dict[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    logits: dict[str, str]
    embedded: Preprocessing | None = None


def export(
    model: Path | str,
    output: Path | str,
    *,
    trust: bool = False,
    signature: str = "",
    architecture: str | Path = "",
    embed_preprocessing: bool = False,
    overrides: Overrides | None = None,
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
        embed_preprocessing: the file takes the pixels of images, uint8, R G B, of the model's size and layout, and scales them itself.
        overrides: what is set about the preparation of images otherwise than in the sidecar; it travels into the file, too.
        progress: notified of each stage.

    Raises:
        InputError: the model cannot be read, its sidecar names an output that it does not have, or it takes no images and their preparation is set.
        UsageError: preprocessing is to be embedded, and nothing says how images are scaled.
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
    embedded = _prepare_images(graph, model, model_sidecar, overrides or Overrides(), embed=embed_preprocessing)
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
        embedded=embedded,
    )


def _prepare_images(
    graph: onnx.ModelProto, model: Path, model_sidecar: Sidecar | None, overrides: Overrides, *, embed: bool
) -> Preprocessing | None:
    """Writes how images are prepared into a file's metadata, or into the graph itself, in place; what is in the graph then."""
    if not embed and not overrides.given:
        return None
    name, preparation = _preparation(graph, model_sidecar, overrides)
    spec = preparation.spec
    if embed and "scaling" in preparation.assumed:
        raise UsageError(
            "nothing says how images are scaled for the model, so that the file cannot scale them",
            fix=f"state it, for example with {spell_options(scaling='unit')}, or in {sidecar.path_for(model).name}",
        )
    if embed:
        take_pixels(graph, name, spec)
    taken = spec.changed(scaling=Scaling.NONE, order=Order.RGB) if embed else spec
    metadata.write(graph, {"preprocessing": taken.as_dict()})
    return spec if embed else None


def _preparation(
    graph: onnx.ModelProto, model_sidecar: Sidecar | None, overrides: Overrides
) -> tuple[str, Preparation]:
    """The input that takes images, and how they are prepared for it."""
    inputs = tensors.ports(tensors.inputs(graph))
    images = [port for port in inputs if len(port.shape) == 4 and port.dtype == np.float32]
    if len(images) != 1:
        raise InputError(
            "the model does not take images in one input, so that their preparation cannot be put into the file",
            found=", ".join(f"{port.name} of shape {shape_text(port.shape)}, {port.dtype}" for port in inputs),
            expected="one input of float32 with four axes",
        )
    return images[0].name, prepare(images[0].shape, model_sidecar, "sidecar", overrides)


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

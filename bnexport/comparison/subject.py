"""What is checked: a model in its framework with its export, or a graph alone, brought to one form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport import datasets
from bnexport.comparison.keras2_reference import Keras2Reference
from bnexport.comparison.reference import Reference
from bnexport.comparison.references import open_reference
from bnexport.datasets import sidecar
from bnexport.datasets.arrays.opening import Data, open_arrays
from bnexport.datasets.arrays.picture_sets import are_sets, open_sets
from bnexport.datasets.feeds import Pictures, Source
from bnexport.datasets.label_file import add_class_names
from bnexport.datasets.npz import Shape, only_input
from bnexport.datasets.preparation import Preparation, fit_dtype, prepare
from bnexport.datasets.reader import Prepared
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import ExportError, UsageError
from bnexport.frameworks.names import is_name
from bnexport.frameworks.onnx_file import learn_ranks, read_onnx
from bnexport.frameworks.protocols import ShowsWeights, Want
from bnexport.onnx_graph import metadata, outputs, tensors
from bnexport.onnx_graph.selections import selected_outputs
from bnexport.onnx_graph.sites import sites
from bnexport.onnx_graph.tasks import output_tasks
from bnexport.progress import Progress
from bnexport.results.actions import spell_options
from bnexport.results.facts import ModelFacts
from bnexport.results.heads import Heads, Selection
from bnexport.results.overrides import Overrides
from bnexport.results.signature import dtype_named
from bnexport.results.tasks import OutputTask
from bnexport.system import machine
from bnexport.system.cache import NOTHING_KEPT, Cache
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Subject:
    """One model, ready to be checked.

    Args:
        facts: what a report says about it.
        graph: its inference graph.
        whole: the same serialise, with the logits among its outputs; None where it was not serialise yet.
        shapes: the shape of each input by name, None for an open axis.
        model_sidecar: what travels with it, from the sidecar or the ONNX metadata; class names also from a labels.txt.
        origin: which of sidecar and metadata.
        reference: the model in its framework; an ONNX file as it is written.
        iterations: how many updates the optimizer in the file has made; None where the file has none.
        random_layers: those that compute something else at each call in training mode.
        repairs: what had to be changed in the file's configuration before Keras could read it.
        store: what was computed before.
        half: whether it computes in half precision.
        versions: of what made and runs it.
        notes: what is unusual in an ONNX file, or was changed in memory.
        tasks: what its outputs are for, where that is stated or the graph shows it.
        selections: the tensors whose number of rows depends on the data.
    """

    facts: ModelFacts
    graph: onnx.ModelProto
    whole: bytes | None
    shapes: dict[str, Shape]
    model_sidecar: Sidecar | None
    origin: str
    reference: Reference
    iterations: int | None
    random_layers: list[str]
    repairs: list[str]
    store: Cache
    half: bool
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    tasks: Mapping[str, OutputTask] = field(default_factory=dict)
    selections: Mapping[str, Selection] = field(default_factory=dict)

    @property
    def dtypes(self) -> dict[str, np.dtype[np.generic]]:
        """What the graph's inputs and outputs are made of, where that is a type of numbers."""
        return tensors.dtypes([*tensors.inputs(self.graph), *self.graph.graph.output])

    @property
    def input_dtypes(self) -> dict[str, np.dtype[np.generic]]:
        """What the inputs take; object for text."""
        stated = {name: dtype_named(dtype) for name, _, dtype in self.reference.description().inputs}
        return stated | {name: dtype for name, dtype in self.dtypes.items() if name in stated}

    @property
    def weights(self) -> onnx.ModelProto | Mapping[str, Array]:
        """What holds the weights of the reference: its graph, or itself where bnexport does not export it."""
        if self.reference.graph_itself or not isinstance(model := self.reference.model, ShowsWeights):
            return self.graph
        return model.weights()

    def heads(self, classes: tuple[str, ...]) -> Heads:
        """What it gives out, with the classes that it or the images name."""
        return Heads(
            tuple(output.name for output in self.graph.graph.output),
            {output: kind for output, (_, kind) in outputs.squashing_functions(self.graph).items()},
            classes,
            bool(self.model_sidecar and self.model_sidecar.classes),
            outputs.bounded_outputs(self.graph),
            frozenset(outputs.selections(self.graph)),
            frozenset([*outputs.selection_sources(self.graph), *outputs.selection_indices(self.graph)]),
            self.tasks,
            self.selections,
            tuple(outputs.sources(self.graph)),
        )


AS_USUAL = Want()
"""No code of the file is run, and its usual function is meant."""


def open_subject(
    model: Path,
    progress: Progress,
    *,
    store: Cache = NOTHING_KEPT,
    want: Want = AS_USUAL,
    deployed: Path | None = None,
    reference: str = "keras",
    pictures: Iterable[datasets.Listing | None] = (),
    preload: bool = False,
) -> Subject:
    """The subject in a model file.

    Args:
        model: .h5, .hdf5, .keras or .onnx.
        progress: notified of each stage.
        store: what was computed before.
        want: how it is loaded.
        deployed: an ONNX file of this model by another exporter, whose graph is taken where bnexport cannot export the model.
        reference: "keras", or "keras2" for what the file computes in Keras 2.
        pictures: what it will be run on; a labels.txt beside the model is taken only where it has all of their labels.
        preload: the model is going to be run in its framework, which takes seconds to import: it is loaded beside the export.

    Raises:
        InputError: it cannot be read, or its sidecar names an output that it does not have.
        UsageError: a SavedModel has no such signature, or another model none at all.
        ExportError: it is a Keras model that cannot be written as ONNX.
        MachineError: it is a Keras model and TensorFlow is not installed.
    """
    subject = _open(model, want, store, deployed, progress, reference, preload=preload)
    beside = add_class_names(model, subject.graph, subject.model_sidecar, progress, pictures)
    tasks = output_tasks(subject.graph, beside.outputs if beside else {}, sidecar.path_for(model).name)
    return replace(subject, model_sidecar=beside, tasks=tasks, selections=selected_outputs(subject.graph))


def _open(
    model: Path, want: Want, store: Cache, deployed: Path | None, progress: Progress, reference: str, *, preload: bool
) -> Subject:
    opens = Keras2Reference if reference == "keras2" else open_reference
    made = opens(model, want, store, progress)
    beside = deployed if deployed is not None and is_name(model) else model
    model_sidecar = None if made.graph_itself else sidecar.read(beside)  # before anything is loaded
    description = made.description()
    if preload:
        made.preload()
    info = description.info
    stated = any(info.stated.values())
    if stated:
        model_sidecar = sidecar.from_values(dict(info.stated), str(model))
        own = sidecar.read(model)
        if own is not None and own.outputs:
            model_sidecar = replace(model_sidecar, outputs={**model_sidecar.outputs, **own.outputs})
    elif made.graph_itself:
        model_sidecar = sidecar.read(model)
    store = made.store
    whole: bytes | None
    try:
        graph, whole = made.graph(model_sidecar)
    except ExportError as error:
        if deployed is None:
            raise
        progress.note(f"bnexport cannot export this model, so its own graph is not compared ({error})")
        graph, whole = read_onnx(deployed).graph, None
        tensors.rename_outputs(graph, description.outputs)
        store = NOTHING_KEPT  # entries are keyed by the model, not by the deployed file
    return Subject(
        facts=ModelFacts(str(model), made.sha256, made.recognition.format, info.parameters, info.layers, info.frozen),
        graph=graph,
        whole=whole,
        shapes={name: tuple(shape) for name, shape, _ in description.inputs},
        model_sidecar=model_sidecar,
        origin="onnx metadata" if stated else "sidecar",
        reference=made,
        iterations=info.iterations,
        random_layers=list(info.random_layers),
        repairs=list(info.repairs),
        store=store,
        half=info.dtype in ("float16", "bfloat16"),
        versions={
            **(info.versions or {made.recognition.name: made.recognition.about.version}),
            **_converter_versions(graph),
        },
        notes=info.notes,
    )


def _converter_versions(graph: onnx.ModelProto) -> dict[str, str]:
    """The versions of what made an exported graph, as its metadata has them."""
    versions = metadata.read(graph, "versions", {})
    if not isinstance(versions, dict):
        return {}
    return {str(name): str(version) for name, version in versions.items() if name != "bnexport"}


def open_feeds(
    subject: Subject,
    pictures: datasets.Listing | None,
    inputs: Data | None,
    overrides: Overrides,
    batch_size: int,
    keep: int = 0,
    *,
    labels: Path | None = None,
) -> tuple[Source, Preparation | None]:
    """What the subject is run on: arrays where `inputs` are given, else the pictures, with how they are prepared.

    Args:
        subject: the model.
        pictures: the images.
        inputs: a file or folder of arrays, or arrays in memory, in their place.
        overrides: what is known better than the sidecar about preprocessing.
        batch_size: the largest batch.
        keep: so many bytes of prepared images stay in memory.
        labels: of a folder of arrays: a CSV file with the columns file and label.

    Raises:
        InputError: the arrays do not fit the model, or the model does not take images.
        UsageError: what was given about preprocessing does not fit.
    """
    feeds: Source
    preparation = None
    if inputs is not None:
        if overrides.given:
            raise UsageError(
                "arrays are not preprocessed", found="preprocessing options", fix="omit these options with --arrays"
            )
        beside, rate = subject.model_sidecar, metadata.sample_rate(subject.graph)
        feeds = open_arrays(inputs, subject.shapes, subject.input_dtypes, beside, batch_size, labels, rate)
    elif pictures is not None:
        feeds, preparation = _open_pictures(subject, pictures, overrides, batch_size, keep)
    else:
        raise UsageError(
            "there is no data to run the model on", fix=f"pass a folder of images or {spell_options(inputs='data.npz')}"
        )
    if {site.x for site in sites(subject.graph)} - set(tensors.ranks(subject.graph)):
        first = next(iter(feeds)).inputs
        if {
            info.name for info in tensors.inputs(subject.graph)
        } <= first.keys():  # another exporter may have renamed them
            learn_ranks(subject.graph, first)
    return feeds, preparation


def _open_pictures(
    subject: Subject, pictures: datasets.Listing, overrides: Overrides, batch_size: int, keep: int
) -> tuple[Source, Preparation]:
    dtypes, beside = subject.input_dtypes, subject.model_sidecar
    kept = Prepared(keep)
    if are_sets(pictures, subject.shapes):
        return open_sets(pictures, subject.shapes, dtypes, beside, subject.origin, overrides, batch_size, kept)
    name, shape = only_input(subject.shapes, {name: dtype.name for name, dtype in dtypes.items()})
    overrides, notes = fit_dtype(name, dtypes.get(name), overrides)
    preparation = prepare(shape, beside, subject.origin, overrides)
    reader = datasets.Reader(pictures, preparation.spec, batch_size, machine.threads(), kept=kept)
    return Pictures(pictures, reader, beside, name, notes), preparation

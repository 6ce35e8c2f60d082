"""Where a graph leaves Keras: every layer's output against the graph's tensor of the same layer, onnxruntime's optimisations off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnexport.comparison.reference import Reference
from bnexport.errors import InputError
from bnexport.frameworks.protocols import Layer
from bnexport.numerics import depth
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.layers import LayerTensors
from bnexport.onnx_graph.protobuf import serialise
from bnexport.progress import Progress
from bnexport.results.runs import Mode
from bnexport.results.verdict import LayerError
from bnexport.runtimes import ort_session
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

Feeds = Mapping[str, Array]

MOST_BYTES = 256 << 20
"""So much of the layers' outputs is held at a time, on each side."""


def layer_errors(
    reference: Reference,
    graph: onnx.ModelProto,
    mode: Mode,
    provider: ort_session.Provider,
    feeds: Feeds,
    given: Feeds,
    progress: Progress,
) -> list[LayerError]:
    """The error of every layer, from the input to the output.

    Args:
        reference: the Keras model.
        graph: the graph, or its training-mode graph.
        mode: which Keras pass it is held against.
        provider: where it runs.
        feeds: a batch for Keras.
        given: the same batch as the graph takes it.
        progress: notified of the stage.
    """
    progress.stage("comparing layer by layer")
    exact = _exact(reference, mode, feeds)
    errors: list[LayerError] = []
    runs = None
    for layer, rounded in reference.layers(mode, feeds, most_bytes=MOST_BYTES):
        runs = runs or _Runs(graph, provider, given)
        wide = next(exact, None)
        floor = depth.floor(rounded, wide) if wide is not None else None
        errors.append(_error(layer, rounded, runs.outputs_of(layer.name), floor))
    return errors


def _exact(reference: Reference, mode: Mode, feeds: Feeds) -> Iterator[Array]:
    try:
        for _, value in reference.layers(mode, feeds, dtype="float64", most_bytes=MOST_BYTES):
            yield value
    except InputError:
        return  # no float64 pass: the tolerance of each layer is a stated one


class _Runs:
    """The tensors of a graph on one batch, a part of them at a time."""

    def __init__(self, graph: onnx.ModelProto, provider: ort_session.Provider, feeds: Feeds) -> None:
        self._graph, self._provider, self._feeds = graph, provider, feeds
        made = [output for node in graph.graph.node for output in node.output if output]
        self._order = {name: index for index, name in enumerate(made)}
        self._layers, self._groups = LayerTensors(graph), dict[str, list[list[str]]]()
        self._session = ort_session.Session(
            serialise(tensors.with_outputs(graph, _floats(graph, made))), provider, optimized=False
        )
        self._known = set(_floats(graph, made)) | {o.name for o in graph.graph.output}
        images = len(next(iter(feeds.values())))
        self._bytes = {
            info.name: 4 * math.prod(images if axis == 0 or side is None else side for axis, side in enumerate(shape))
            for info in [*graph.graph.value_info, *graph.graph.output]
            if (shape := tensors.shape(info)) is not None
        }
        self._held: dict[str, Array] = {}

    def outputs_of(self, layer: str) -> list[list[tuple[str, Array]]]:
        """What may be the layer's output: for each node scope that may be the layer its tensors, the last one first."""
        path, _, nth = layer.partition("#")
        if path not in self._groups:
            self._groups[path] = [
                kept
                for group in self._layers.groups(path)
                if (kept := [n for n in reversed(group) if n in self._known])
            ]
        groups = self._groups[path]
        if nth and len(groups) >= int(nth):
            groups = [groups[int(nth) - 1]]
        wanted = [name for group in groups for name in group]
        if any(name not in self._held for name in wanted):
            self._fetch(wanted)
        return [[(name, self._held[name]) for name in group] for group in groups]

    def _fetch(self, wanted: Sequence[str]) -> None:
        """Runs the graph for these tensors, and for those behind them as far as memory allows."""
        following = sorted(self._known & self._order.keys(), key=self._order.__getitem__)
        start = min(self._order[name] for name in wanted)
        left, ahead = MOST_BYTES, []
        for name in following:
            if self._order[name] >= start:
                left -= self._bytes.get(name, MOST_BYTES)
                if left < 0:
                    break
                ahead.append(name)
        self._held.clear()
        self._held = self._session.run(self._feeds, list(dict.fromkeys([*wanted, *ahead])))


def _floats(graph: onnx.ModelProto, made: Sequence[str]) -> list[str]:
    """The tensors that hold floating point numbers; those of unknown type too."""
    kinds = {info.name: info.type.tensor_type.elem_type for info in [*graph.graph.value_info, *graph.graph.output]}
    return [name for name in made if kinds.get(name, 1) in (0, 1, 10, 11, 16)]


def _error(
    layer: Layer, reference: Array, groups: Sequence[Sequence[tuple[str, Array]]], floor: float | None
) -> LayerError:
    """The error of the tensor that is the layer's output: the last one of its shape; where several scopes may be the layer, the nearest."""
    comparable = []
    for group in groups:
        for name, actual in group:
            apart = depth.distance(actual, reference)
            if not math.isnan(apart):
                comparable.append((apart, name))
                break
    if comparable:
        apart, name = min(comparable)
        return LayerError(layer.name, layer.kind, layer.inputs, name, apart, floor)
    name, problem = _incomparable(reference, [entry for group in groups for entry in group])
    return LayerError(layer.name, layer.kind, layer.inputs, name, math.nan, floor, problem)


def _incomparable(reference: Array, candidates: Sequence[tuple[str, Array]]) -> tuple[str, str]:
    """The tensor that ought to be the layer's output, and why it cannot be compared; "" where there is none."""
    for name, actual in candidates:
        if not np.isfinite(actual).all():
            return name, "it is not finite"
        if actual.ndim == reference.ndim and actual.ndim > 1 and len(actual) == len(reference):
            return name, f"its shape is {actual.shape}, in the model {reference.shape}"
    return "", "no tensor of the graph is named after it"

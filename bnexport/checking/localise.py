"""Where a graph leaves its reference: every layer's output, or every node's, against the graph's tensor of the same layer, onnxruntime's optimisations off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnexport.checking.matching import match_tensors, sample
from bnexport.comparison.reference import Reference
from bnexport.errors import InputError
from bnexport.frameworks.protocols import Layer
from bnexport.numerics import depth
from bnexport.onnx_graph.layers import LayerTensors
from bnexport.progress import Progress
from bnexport.results.runs import Mode
from bnexport.results.verdict import LayerError
from bnexport.runtimes import ort_session
from bnexport.runtimes.inner import MOST_BYTES, InnerTensors, OpenWith
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

Feeds = Mapping[str, Array]

Candidates = Sequence[tuple[str, Array]]
"""Tensors of a graph that may be one layer's output, the likeliest first."""


def layer_errors(
    reference: Reference,
    graph: onnx.ModelProto,
    mode: Mode,
    provider: ort_session.Provider,
    feeds: Feeds,
    given: Feeds,
    progress: Progress,
    outputs: Mapping[str, str],
    open_with: OpenWith | None = None,
) -> list[LayerError]:
    """The error of every layer, from the input to the output.

    Args:
        reference: the model.
        graph: the graph, or its training-mode graph.
        mode: which pass of the reference it is held against.
        provider: where it runs.
        feeds: a batch for the reference.
        given: the same batch as the graph takes it.
        progress: notified of the stage.
        outputs: the graph's name of each output of the reference.
        open_with: opens the graph on another runtime; None for onnxruntime with its optimisations off.
    """
    progress.stage("comparing node by node" if reference.graph_itself else "comparing layer by layer")
    inner = InnerTensors(graph, provider, given, open_with=open_with)
    if reference.graph_itself:
        kinds = {output: node.op_type for node in graph.graph.node for output in node.output}
        return _node_errors(reference, mode, feeds, inner, {a: b for a, b in outputs.items() if b in inner}, kinds)
    groups = _Groups(graph, inner)
    errors: dict[str, LayerError] = {}
    for layer, rounded, floor in with_floors(reference, mode, feeds):
        error = error_of_layer(layer, rounded, groups.outputs_of(layer.name), floor)
        for earlier in () if error.known else depth.off_before(layer.inputs, errors, set()):
            matched = f"folded into {earlier.name}"
            folded = error_of_layer(layer, rounded, groups.outputs_of(earlier.name), floor, matched)
            if folded.known and not folded.off:
                error, problem = folded, f"its tensor is that of {layer.name}, which is folded into it"
                errors[earlier.name] = replace(earlier, tensor="", max_rel=math.nan, problem=problem, reordered="")
                break
        errors[layer.name] = error
    return list(errors.values())


def with_floors(reference: Reference, mode: Mode, feeds: Feeds) -> Iterator[tuple[Layer, Array, float | None]]:
    """Each layer with what it computes and how far rounding moves that; None where that is not known."""
    noise = _noise(reference, mode, feeds)
    for layer, rounded in reference.layers(mode, feeds, most_bytes=MOST_BYTES):
        others = next(noise, ())
        yield layer, rounded, max((depth.floor(rounded, x) for x in others), default=None)


def _node_errors(
    reference: Reference,
    mode: Mode,
    feeds: Feeds,
    inner: InnerTensors,
    renamed: Mapping[str, str],
    kinds: Mapping[str, str],
) -> list[LayerError]:
    """The error of every node of a reference file, by the names of tensors; by their values where names do not say which is which.

    Names do where most tensors of a name are equal, or where all are made by the same operators (`kinds`).
    """
    errors = []
    for node, rounded, floor in with_floors(reference, mode, feeds):
        name = renamed.get(node.name, node.name)
        errors.append(error_of_layer(node, rounded, [[(name, inner[name])]] if name in inner else [], floor))
    alike = all(kinds.get(error.tensor) == error.kind for error in errors)
    if all(error.known for error in errors) and (alike or 2 * sum(error.off for error in errors) <= len(errors)):
        return errors
    floors = {error.name: error.noise_floor for error in errors}
    nodes = [(node, x.shape, sample(x)) for node, x in reference.layers(mode, feeds, most_bytes=MOST_BYTES)]
    matches = match_tensors(nodes, inner, renamed)
    return [
        error_of_layer(node, x, [[(match.tensor, inner[match.tensor])]], floors[node.name], match.described)
        if (match := matches.get(node.name)) is not None
        else error_of_layer(node, x, [], floors[node.name])
        for node, x in reference.layers(mode, feeds, most_bytes=MOST_BYTES)
    ]


def _noise(reference: Reference, mode: Mode, feeds: Feeds) -> Iterator[Sequence[Array]]:
    try:
        yield from reference.layer_noise(mode, feeds, most_bytes=MOST_BYTES)
    except InputError:
        return  # no float64 pass: the tolerance of each layer is a stated one


class _Groups:
    """The tensors of a graph by the layers of a Keras model that made them."""

    def __init__(self, graph: onnx.ModelProto, inner: InnerTensors) -> None:
        self._layers, self._inner = LayerTensors(graph), inner
        self._groups: dict[str, list[list[str]]] = {}

    def outputs_of(self, layer: str) -> list[Candidates]:
        """What may be the layer's output: for each node scope that may be the layer its tensors, the last one first."""
        path, _, nth = layer.partition("#")
        if path not in self._groups:
            self._groups[path] = [
                kept
                for group in self._layers.groups(path)
                if (kept := [n for n in reversed(group) if n in self._inner])
            ]
        groups = self._groups[path]
        if nth and len(groups) >= int(nth):
            groups = [groups[int(nth) - 1]]
        values = self._inner.all_of([name for group in groups for name in group]) if groups else {}
        return [[(name, values[name]) for name in group] for group in groups]


def error_of_layer(
    layer: Layer, reference: Array, groups: Sequence[Candidates], floor: float | None, matched: str = ""
) -> LayerError:
    """The error of the tensor that is the layer's output: the last one of its shape; where several scopes may be the layer, the nearest."""
    comparable, discrete = [], reference.dtype.kind in "biu"
    for group in groups:
        for name, actual in group:
            apart = depth.distance(actual, reference)
            if not math.isnan(apart):
                comparable.append((apart, name))
                break
    if comparable:
        apart, name = min(comparable)
        error = LayerError(layer.name, layer.kind, layer.inputs, name, apart, floor, matched=matched, discrete=discrete)
        values = dict(entry for group in groups for entry in group)[name]
        return (
            replace(error, reordered=depth.describe_other_order(values, reference, error.tolerance))
            if error.off
            else error
        )
    name, problem = _incomparable(reference, [entry for group in groups for entry in group])
    return LayerError(layer.name, layer.kind, layer.inputs, name, math.nan, floor, problem, matched)


def _incomparable(reference: Array, candidates: Candidates) -> tuple[str, str]:
    """The tensor that ought to be the layer's output, and why it cannot be compared; "" where there is none."""
    for name, actual in candidates:
        if not np.isfinite(actual).all():
            return name, "it is not finite"
        if actual.ndim == reference.ndim and actual.ndim > 1 and len(actual) == len(reference):
            return name, f"its shape is {actual.shape}, in the reference {reference.shape}"
    return "", "no tensor of the graph is named after it"

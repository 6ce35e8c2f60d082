"""Whether layers that later ones undo on the data are undone for other values, too: a channel that is always cut off there hides what its weights are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph import subgraphs
from bnexport.onnx_graph.other_values import find_partners
from bnexport.onnx_graph.parts import cut_out
from bnexport.onnx_graph.protobuf import serialise
from bnexport.results.verdict import LayerError
from bnexport.runtimes import ort_session
from bnexport.runtimes.inner import InnerTensors
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

SPREADS = (1.0, 1e3)
"""Random values are spread so many times as far as those of the data: far enough that channels pass that never do on the data."""

ROUNDED = 1e-3
"""Outputs are equal up to this share of their largest value: far more than rounding explains between a few layers."""


def find_undone_on_data(
    actual: onnx.ModelProto,
    reference: onnx.ModelProto,
    layers: Sequence[LayerError],
    explained: Collection[str],
    given: Mapping[str, Array],
) -> tuple[LayerError, float] | None:
    """The first layer that undoes others on the data and not on random values, and how far it is off there, relative to its scale.

    None where there is none, and where the graphs are not built in the same way.

    Args:
        actual: the graph.
        reference: the graph it must be equal to.
        layers: all layers that were compared.
        explained: the tensors of `actual` that are off and undone later, and those that agree behind them.
        given: a batch of the data.
    """
    partner = {
        theirs: ours
        for a, b in find_partners(actual, reference)
        for names in ((a.input, b.input), (a.output, b.output))
        for ours, theirs in zip(*names, strict=True)
    }
    agreeing = {layer.tensor for layer in layers if layer.known and not layer.off}
    undoing = [layer for layer in layers if layer.tensor in agreeing & set(explained)]
    if not partner or not undoing:
        return None
    inner = InnerTensors(actual, "cpu", given)
    rng = np.random.default_rng(0)
    for layer in undoing:
        nodes, inputs = _before(actual, layer.tensor, agreeing)
        values = {
            name: given[name] if name in given else inner[name] for name in inputs if name in given or name in inner
        }
        if len(values) < len(inputs):
            continue
        same, _ = _before(reference, partner[layer.tensor], {partner[name] for name in agreeing if name in partner})
        ours = {partner[name]: value for name, value in values.items()}
        part, right = (
            ort_session.Session(serialise(cut_out(graph, those, shapes, [output])), "cpu")
            for graph, those, shapes, output in (
                (actual, nodes, values, layer.tensor),
                (reference, same, ours, partner[layer.tensor]),
            )
        )
        for spread in SPREADS:
            drawn = {name: _draw(value, spread, rng) for name, value in values.items()}
            [a] = part.run(drawn, [layer.tensor]).values()
            [r] = right.run({partner[name]: value for name, value in drawn.items()}, [partner[layer.tensor]]).values()
            scale = float(np.abs(r).max(initial=0.0))
            apart = float(np.abs(np.asarray(a, np.float64) - np.asarray(r, np.float64)).max(initial=0.0))
            if np.isfinite(scale) and not apart <= ROUNDED * scale:
                return layer, apart / scale if scale else np.inf
    return None


def _before(graph: onnx.ModelProto, tensor: str, stops: Collection[str]) -> tuple[list[int], list[str]]:
    """The positions of the nodes between some tensors and one that is computed from them, and which of those and of the graph's inputs they read."""
    makers = {output: index for index, node in enumerate(graph.graph.node) for output in node.output}
    stored = {info.name for info in graph.graph.initializer}
    nodes, inputs, waiting = set[int](), dict[str, None](), [tensor]
    while waiting:
        name = waiting.pop()
        if name in stored or not name:
            continue
        if name not in makers or (name in stops and name != tensor):
            inputs[name] = None
        elif makers[name] not in nodes:
            nodes.add(makers[name])
            waiting += subgraphs.reads(graph.graph.node[makers[name]])
    return sorted(nodes), list(inputs)


def _draw(value: Array, spread: float, rng: np.random.Generator) -> Array:
    """Random values in place of floating point ones."""
    if value.dtype.kind != "f":
        return value
    return np.asarray(
        rng.normal(size=value.shape) * float(np.std(np.asarray(value, np.float64)) or 1.0) * spread, value.dtype
    )

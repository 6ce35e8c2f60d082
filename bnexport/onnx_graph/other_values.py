"""Weights that differ between two graphs of the same operators: values that some data do not show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph import weights
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

WEIGHTED = frozenset(
    (
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "BatchNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "GRU",
        "LSTM",
        "RNN",
        "PRelu",
    )
)
"""The operators whose weights are compared: what others read may be anything that is large or small enough."""

ROUNDED = 1e-3
"""Weights are the same up to this share of their largest value: float16 rounds less."""


@dataclass(frozen=True, slots=True)
class OtherValues:
    """A weight that has other values in another graph.

    Args:
        name: in the reference.
        operator: that reads it.
        apart: the largest difference.
        size: the largest value in the reference.
    """

    name: str
    operator: str
    apart: float
    size: float


def find_other_values(
    actual: onnx.ModelProto, reference: onnx.ModelProto, explained: Collection[str] = ()
) -> list[OtherValues]:
    """The weights of the reference that are nowhere in another graph of the same operators, attributes and edges.

    None where graphs are built otherwise: there, weights may be folded, scaled or moved. Means and variances of channels that a
    BatchNormalization multiplies by zero are left out, since they never matter.

    Args:
        actual: the other graph.
        reference: the graph whose weights are looked for.
        explained: tensors of the other graph; the weights of the last nodes before them that have any are left out.
    """
    nodes = find_partners(actual, reference)
    last = _last_weighted(actual, explained)
    ours, theirs = weights.initializers(reference), weights.initializers(actual)
    others: dict[str, OtherValues] = {}
    for node, partner in nodes:
        if not last.isdisjoint(partner.output):
            continue
        for nth, (name, other) in enumerate(zip(node.input, partner.input, strict=True)):
            r, a = ours.get(name), theirs.get(other)
            if node.op_type not in WEIGHTED or r is None or a is None or r.dtype.kind != "f" or a.shape != r.shape:
                continue
            if node.op_type == "BatchNormalization" and nth > 2:
                used = (ours.get(node.input[1], r) != 0) | (theirs.get(partner.input[1], a) != 0)
                r, a = r[used], a[used]
            apart = _apart(a, r)
            size = float(np.abs(r).max(initial=0.0))
            if not apart <= ROUNDED * size and _count(ours[name], ours) > _count(ours[name], theirs):
                others[name] = OtherValues(name, node.op_type, apart, size)
    return list(others.values())


def _last_weighted(graph: onnx.ModelProto, tensors: Collection[str]) -> set[str]:
    """The outputs of the nodes with weights between these tensors and the next nodes before them that have weights, too."""
    makers = {output: node for node in graph.graph.node for output in node.output}
    stored = {tensor.name for tensor in graph.graph.initializer}
    last, waiting, seen = set[str](), list(tensors), set[str]()
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in WEIGHTED and not stored.isdisjoint(node.input):
            last.update(node.output)
        else:
            waiting += node.input
    return last


def _apart(a: Array, r: Array) -> float:
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(r, np.float64)).max(initial=0.0))


def _count(value: Array, stored: Mapping[str, Array]) -> int:
    """How many of the stored arrays have these values."""
    limit = ROUNDED * float(np.abs(value).max(initial=0.0))
    alike = [x for x in stored.values() if x.shape == value.shape and x.dtype.kind == "f"]
    return sum(_apart(x, value) <= limit for x in alike)


def find_partners(actual: onnx.ModelProto, reference: onnx.ModelProto) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """The nodes of the reference with those of the other graph, where both are built in the same way; none otherwise."""
    ours, theirs = ([n for n in model.graph.node if n.op_type != "Constant"] for model in (reference, actual))
    if [(n.domain, n.op_type, len(n.input), len(n.output)) for n in ours] != [
        (n.domain, n.op_type, len(n.input), len(n.output)) for n in theirs
    ]:
        return []
    inputs = ([i.name for i in model.graph.input] for model in (reference, actual))
    partner = dict(zip(*inputs, strict=False))
    for a, b in zip(ours, theirs, strict=True):
        if any(_wired_otherwise(x, y, partner) for x, y in zip(a.input, b.input, strict=True)) or not _same_settings(
            a, b
        ):
            return []
        partner |= dict(zip(a.output, b.output, strict=True))
    return list(zip(ours, theirs, strict=True))


def _wired_otherwise(ours: str, theirs: str, partner: Mapping[str, str]) -> bool:
    return bool(ours) != bool(theirs) or partner.get(ours, theirs) != theirs


def _same_settings(ours: onnx.NodeProto, theirs: onnx.NodeProto) -> bool:
    """Whether the attributes that both nodes have are equal, and none is a graph."""
    there = {attribute.name: attribute for attribute in theirs.attribute}
    return not any(
        attribute.HasField("g") or attribute.graphs or there.get(attribute.name, attribute) != attribute
        for attribute in ours.attribute
    )

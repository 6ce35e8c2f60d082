"""What nodes with graphs inside (Loop, Scan, If) read from the graph around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes; none for most nodes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def reads(node: onnx.NodeProto) -> list[str]:
    """Every tensor that a node needs: its inputs, and what the graphs inside it capture from outside, at any depth."""
    names = dict.fromkeys(name for name in node.input if name)
    for graph in graphs(node):
        names.update(dict.fromkeys(_captures(graph)))
    return list(names)


def rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Gives tensors that a node reads other names, in place, those that the graphs inside it capture too."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for graph in graphs(node):
        own = _own(graph)
        outer = {old: new for old, new in names.items() if old not in own}
        for inner in graph.node:
            rename(inner, outer)
        for info in graph.output:
            info.name = outer.get(info.name, info.name)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph, and those of the graphs inside them."""
    for node in graph.node:
        yield node
        for inner in graphs(node):
            yield from nodes(inner)


def inner_normalisations(model: onnx.ModelProto) -> list[str]:
    """The BatchNormalization nodes inside loops and branches, by name: their inputs cannot be measured from outside."""
    inside = (node for outer in model.graph.node for graph in graphs(outer) for node in nodes(graph))
    return [node.name or node.output[0] for node in inside if node.op_type == "BatchNormalization" and not node.domain]


def _own(graph: onnx.GraphProto) -> set[str]:
    own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    return own | {tensor.values.name for tensor in graph.sparse_initializer} | {o for n in graph.node for o in n.output}


def _captures(graph: onnx.GraphProto) -> list[str]:
    own = _own(graph)
    wanted = [name for node in graph.node for name in reads(node)] + [info.name for info in graph.output]
    return [name for name in wanted if name not in own]

"""The order of a graph's nodes: ONNX wants a node behind every node that it reads from, and some tools write it otherwise."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from bnexport.errors import InputError
from bnexport.onnx_graph import subgraphs

if TYPE_CHECKING:
    import onnx


def sort_nodes(graph: onnx.GraphProto) -> int:
    """Sorts the nodes of a graph and of its subgraphs topologically, in place; nodes keep their order where they can.

    Returns:
        In how many of these graphs the order was changed.

    Raises:
        InputError: nodes read from each other in a circle.
    """
    changed = sum(sort_nodes(inner) for node in graph.node for inner in subgraphs.graphs(node))
    maker = {output: index for index, node in enumerate(graph.node) for output in node.output if output}
    reads = [{maker[name] for name in subgraphs.reads(node) if name in maker} for node in graph.node]
    if all(source < index for index, sources in enumerate(reads) for source in sources):
        return changed
    readers: dict[int, list[int]] = {}
    for index, sources in enumerate(reads):
        for source in sources:
            readers.setdefault(source, []).append(index)
    missing = [len(sources) for sources in reads]
    ready = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, []):
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(reads):
        stuck = next(graph.node[index] for index, count in enumerate(missing) if count)
        raise InputError("the graph contains a cycle", found=f"{stuck.op_type} {stuck.name}".strip())
    nodes = [graph.node[index] for index in order]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return changed + 1

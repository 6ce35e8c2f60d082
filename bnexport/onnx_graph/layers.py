"""Which tensors of a graph are the outputs of which Keras layers. Names survive export: every exporter keeps the layer's name in the names of its nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def tensors_of(model: onnx.ModelProto, layers: Iterable[str]) -> dict[str, list[list[str]]]:
    """For each layer the groups of tensors that may be its output, in the graph's order.

    The parts of a layer's path ("inner/conv") stand one after the other in the names of its nodes ("net_1/inner_1/conv_1/BiasAdd"), each perhaps with a
    number behind it that makes it unique. Nodes with the same beginning are one call of the layer, hence one group. An exporter may also have
    named the tensor itself.

    Args:
        model: the graph.
        layers: paths of layers.

    Returns:
        Groups by layer, each not empty; a layer that is not found has none.
    """
    parts = {layer: layer.split("/") for layer in layers}
    made: list[tuple[list[str], str]] = []
    first: dict[str, list[int]] = {}
    for node in model.graph.node:
        for output in node.output:
            if not output:
                continue
            names = _split(node.name) if node.name else _split(output)
            for piece in {_plain(p) for p in names} | set(names):
                first.setdefault(piece, []).append(len(made))
            made.append((names, output))
    by_layer: dict[str, list[list[str]]] = {}
    for layer, path in parts.items():
        groups: dict[str, list[str]] = {}
        for index in first.get(path[-1], []):
            names, output = made[index]
            end = _ends(names, path)
            if end:
                groups.setdefault("/".join(names[:end]), []).append(output)
        by_layer[layer] = list(groups.values())
    return by_layer


def _split(name: str) -> list[str]:
    return name.split(":")[0].split("/")


def _plain(part: str) -> str:
    return re.sub(r"[_#]\d+$", "", part)


def _ends(names: list[str], path: list[str]) -> int:
    """Where the path ends among the parts of a name; 0 where it is not there."""
    for start in range(len(names) - len(path) + 1):
        if all(wanted in (part, _plain(part)) for part, wanted in zip(names[start:], path, strict=False)):
            return start + len(path)
    return 0

"""Which tensors of a graph are the outputs of which layers. Names survive export: every exporter keeps them in the names of its nodes, or in their metadata."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import groupby
from typing import TYPE_CHECKING

from bnexport.onnx_graph import subgraphs

if TYPE_CHECKING:
    import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata of nodes: a list of the modules that a node is in, the outer ones first, and of the operation."""

_INSERTED = re.compile(r"__\d+$")
"""The end of the names that tf2onnx gives to nodes of its own: a Transpose at the input has the name of the layer that it was moved away from."""


class LayerTensors:
    """The tensors of a graph by layer.

    The parts of a layer's path ("inner/conv") stand one after the other in the names of its nodes ("net_1/inner_1/conv_1/BiasAdd"), each
    perhaps with a number behind it that makes it unique. Nodes with the same beginning are one call of the layer, hence one group. An
    exporter may also have named the tensor itself.

    torch.onnx states the module ("blocks.0.conv") that a node is in. Such nodes that follow each other are one call.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        read = {name for node in model.graph.node for name in subgraphs.reads(node)}
        read |= {info.name for info in model.graph.output}
        self._modules = [(module_of(node), _outputs_of(node, read)) for node in model.graph.node]
        self._of_torch = any(path for path, _ in self._modules)
        self._made: list[tuple[list[str], str]] = []
        self._first: dict[str, list[int]] = {}
        inputs = {info.name for info in model.graph.input}
        for node in model.graph.node:
            if node.op_type == "Transpose" and node.input[0] in inputs and _INSERTED.search(node.name):
                continue  # only the input, in the other layout
            for output in _outputs_of(node, read):
                names = _split(node.name) if node.name else _split(output)
                for piece in {_plain(p) for p in names} | set(names):
                    self._first.setdefault(piece, []).append(len(self._made))
                self._made.append((names, output))

    def groups(self, layer: str) -> list[list[str]]:
        """The groups of tensors that may be the output of the layer with this path, in the graph's order; none is empty."""
        if self._of_torch:
            return self._groups_of_module(layer.split("."))
        path, groups = layer.split("/"), dict[str, list[str]]()
        for index in self._first.get(path[-1], []):
            names, output = self._made[index]
            end = _ends(names, path)
            if end:
                groups.setdefault("/".join(names[:end]), []).append(output)
        return list(groups.values())

    def _groups_of_module(self, path: list[str]) -> list[list[str]]:
        runs = groupby(self._modules, lambda node: _is_within(node[0], path))
        groups = ([output for _, made in run for output in made] for inside, run in runs if inside)
        return [group for group in groups if group]


def _outputs_of(node: onnx.NodeProto, read: Collection[str]) -> list[str]:
    """The outputs of a node that something reads; all of them where nothing reads any."""
    outputs = [output for output in node.output if output]
    return [output for output in outputs if output in read] or outputs


def module_of(node: onnx.NodeProto) -> list[str]:
    """The path of the module of PyTorch that a node is in: as its metadata says, or its name ("/blocks.0/conv/Conv"); [] where neither does."""
    stated = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    if stated:
        scopes = re.findall(r"'([^']*)'", stated)
        return scopes[-2].split(".") if len(scopes) > 1 and scopes[-2] else []
    path = ""
    for part in node.name.split("/")[1:-1] if node.name.startswith("/") else []:
        path = part if part.startswith(f"{path}.") or not path else f"{path}.{part}"
    return path.split(".") if path else []


def _is_within(inner: list[str], path: list[str]) -> bool:
    """Whether a module is the one of a path, or in it; numbers behind names count the calls of a module."""
    return len(inner) >= len(path) and all(
        wanted in (part, _plain(part)) for part, wanted in zip(inner, path, strict=False)
    )


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

"""Sizes that a graph has as constants: where they are, and the same graph with others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph.constants import Constants
from bnexport.onnx_graph.parts import node_title

if TYPE_CHECKING:
    import onnx

_SHAPES = {
    "Reshape": (1,),
    "Expand": (1,),
    "ConstantOfShape": (0,),
    "Tile": (1,),
    "Slice": (1, 2),
    "Resize": (3,),
    "Split": (1,),
    "Range": (1,),
    "Gather": (1,),
    "OneHot": (1,),
    "CenterCropPad": (1,),
    "Pad": (1,),
    "TopK": (1,),
}
"""The inputs that hold sizes, by operator."""

LONGEST = 16
"""A longer constant is no shape."""


@dataclass(frozen=True, slots=True)
class SizeConstant:
    """A size in a constant that a node reads.

    Args:
        node: its position in the graph.
        title: its operator and name.
        name: its name, or what it makes where it has none.
        operand: which of its inputs.
        position: where in the constant.
        value: the size.
    """

    node: int
    title: str
    name: str
    operand: int
    position: int
    value: int


def size_constants(model: onnx.ModelProto, size: int, *, first: bool = False) -> list[SizeConstant]:
    """The constants that hold a size or a multiple of it, those that hold just it first.

    Args:
        model: the graph.
        size: the size.
        first: only in first position, and for the batch, where a size of 1 counts too.
    """
    constants = list(_candidates(model, size, first=first))
    return sorted(constants, key=lambda constant: constant.value != size)


def _candidates(model: onnx.ModelProto, size: int, *, first: bool) -> Iterator[SizeConstant]:
    values = Constants(model)
    for nth, node in enumerate(model.graph.node):
        if node.domain:
            continue
        for operand in _SHAPES.get(node.op_type, ()):
            if operand >= len(node.input) or not node.input[operand]:
                continue
            value = values.value(node.input[operand])
            if value is None or value.dtype.kind not in "iu" or not 0 < value.size <= LONGEST or value.ndim > 1:
                continue
            for position, entry in enumerate(value.ravel().tolist()):
                fits = entry == size if size == 1 else entry > 0 and entry % size == 0
                if fits and (size > 1 or first) and not (first and size == 1 and position):
                    title, name = node_title(node), node.name or node.output[0]
                    yield SizeConstant(nth, title, name, operand, position, int(entry))


def with_sizes(model: onnx.ModelProto, changes: Sequence[tuple[SizeConstant, int]]) -> onnx.ModelProto:
    """A copy of a graph in which some constants hold other sizes; nodes that share a constant keep theirs."""
    import onnx
    from onnx import numpy_helper

    values = Constants(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    replaced: dict[tuple[int, int], np.ndarray] = {}
    for constant, size in changes:
        key = constant.node, constant.operand
        if key not in replaced:
            value = values.value(model.graph.node[constant.node].input[constant.operand])
            if value is None:
                continue
            replaced[key] = np.array(value)
        replaced[key].reshape(-1)[constant.position] = size
    for nth, ((node, operand), value) in enumerate(replaced.items()):
        name = f"{copy.graph.node[node].input[operand]}/size{nth}"
        copy.graph.initializer.append(numpy_helper.from_array(value, name))
        copy.graph.node[node].input[operand] = name
    del copy.graph.value_info[:]
    return copy

"""The nodes of a graph that draw random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnexport.onnx_graph import subgraphs
from bnexport.onnx_graph.constants import Constants
from bnexport.onnx_graph.parts import node_title

if TYPE_CHECKING:
    import onnx

DRAWING = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


def random_nodes(model: onnx.ModelProto) -> list[str]:
    """The operator and name of each, those inside loops, branches and functions too; Dropout where it is in training mode."""
    constants = Constants(model)
    nodes = [*subgraphs.nodes(model.graph), *(node for function in model.functions for node in function.node)]
    return [
        node_title(node)
        for node in nodes
        if not node.domain and (node.op_type in DRAWING or (node.op_type == "Dropout" and _trains(node, constants)))
    ]


def _trains(node: onnx.NodeProto, constants: Constants) -> bool:
    """Whether a Dropout node drops values: its third input may also be computed."""
    if len(node.input) < 3 or not node.input[2]:
        return False
    value = constants.value(node.input[2])
    return value is None or bool(value.any())

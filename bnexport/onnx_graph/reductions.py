"""Reductions over the first axis, by which a graph may normalise by the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnexport.onnx_graph.constants import Constants
from bnexport.onnx_graph.tensors import ranks

if TYPE_CHECKING:
    import onnx

_REDUCTIONS = {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2"}
"""Operators of which means and variances are made."""


def normalises_by_batch(model: onnx.ModelProto) -> bool:
    """Whether something in the graph may normalise by the batch.

    That is BatchNormalization in training mode, or a mean or sum over the first axis, also where the axis is counted from the end or
    where no axes are stated. Axes that depend on the graph's inputs may be any.
    """
    constants, rank_of = Constants(model), ranks(model)
    for node in model.graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type == "BatchNormalization" and "training_mode" in attributes and attributes["training_mode"].i:
            return True
        if node.op_type in _REDUCTIONS:
            axes = _axes(node, attributes, constants)
            if axes is None or 0 in axes or -rank_of.get(node.input[0], 0) in axes:
                return True
    return False


def _axes(node: onnx.NodeProto, attributes: dict[str, onnx.AttributeProto], constants: Constants) -> set[int] | None:
    """The axes of a reduction as they are stated; None for all of them, or for what the graph's inputs decide."""
    if "axes" in attributes:
        return set(attributes["axes"].ints)
    value = constants.value(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    if value is not None and value.size:
        return {int(axis) for axis in value.ravel()}
    keeps_all = value is not None or len(node.input) < 2 or not node.input[1]
    return (
        set() if keeps_all and "noop_with_empty_axes" in attributes and attributes["noop_with_empty_axes"].i else None
    )

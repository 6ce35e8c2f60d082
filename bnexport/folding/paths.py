"""The way from an affine node to the linear operator beside it, and why there is none.

On the way lie operators that only move values (`bnexport.onnx_graph.movers`), and behind a MatMul the Add that is its bias. Every tensor on
the way is read by the next node alone, so that what is done to the operator reaches nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnexport.numerics.linear import LINEAR, Linear
from bnexport.onnx_graph.movers import axis_after, axis_before, is_mover
from bnexport.onnx_graph.patterns import Affine, View, name_of

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Bias:
    """The Add or Sub of a constant that stands for the bias of a MatMul.

    Args:
        node: the Add or Sub.
        affine: what it computes.
        axis: the axis of the channels of its input; -1 where every axis is the same.
    """

    node: onnx.NodeProto
    affine: Affine
    axis: int


@dataclass(frozen=True, slots=True)
class Way:
    """A linear operator that an affine map can be folded into, as far as its axis and its readers say.

    Args:
        node: the operator.
        linear: its weights.
        bias: the bias of a MatMul, where the way leads past one.
    """

    node: onnx.NodeProto
    linear: Linear
    bias: Bias | None = None


def to_maker(view: View, affine: Affine) -> Way | str:
    """The operator that makes the input of an affine node; a reason where there is none."""
    tensor, axis = affine.x, affine.axis
    bias: Bias | None = None
    while (maker := view.maker.get(tensor)) is not None:
        shift = view.affine(maker) if maker.op_type in ("Add", "Sub") and bias is None else None
        if maker.op_type not in LINEAR and not is_mover(maker) and (shift is None or (shift.s != 1).any()):
            break
        if not view.alone(tensor):
            return _other_reader(view, maker, tensor)
        if shift is not None:
            if -1 not in (axis, shift.axis) and axis != shift.axis:
                return f"{name_of(maker)} adds along another axis"
            axis = max(axis, shift.axis)
            bias, tensor = Bias(maker, shift, axis), shift.x
            continue
        if is_mover(maker):
            before = axis_before(view, maker, axis)
            if before is None:
                return f"its channels are no axis of the input of {name_of(maker)}, or the shapes there are not known"
            tensor, axis = maker.input[0], before
            continue
        linear = view.linear(maker)
        if linear is None:
            return f"the weight of {name_of(maker)} is not a constant in the file"
        if (channels := view.channel_axis(maker, tensor)) is None:
            return f"the rank of the output of {name_of(maker)} is not known"
        sizes = {affine.s.size, 1 if bias is None else bias.affine.s.size}
        if axis not in (-1, channels) or not sizes <= {1, linear.outputs}:
            return f"its scale is not along the output channels of {name_of(maker)}"
        if bias is not None and maker.op_type != "MatMul":
            break  # that Add is no bias: it would have been folded
        return Way(maker, linear, bias)
    return "its input is an input of the graph" if maker is None else f"its input comes from {_last(view, affine.x)}"


def to_reader(view: View, node: onnx.NodeProto, affine: Affine) -> Way | str:
    """The operator that reads the output of an affine node; a reason where there is none."""
    tensor, axis = node.output[0], affine.axis
    if node.op_type != "BatchNormalization" and affine.s.size > 1:
        sides = view.shape.get(affine.x, ())
        if axis >= len(sides) or sides[axis] != affine.s.size:  # one channel may become several
            return "the number of channels of its input is not known, or another one than that of its scale"
    while True:
        if tensor in view.outputs:
            return "its output is an output of the graph"
        readers = view.users(tensor)
        if len(readers) != 1:
            return f"its output has {len(readers)} readers"
        [reader] = readers
        if is_mover(reader) and reader.input[0] == tensor:
            after = axis_after(view, reader, axis)
            if after is None:
                return f"its channels are no axis of the output of {name_of(reader)}, or the shapes there are not known"
            tensor, axis = reader.output[0], after
            continue
        if reader.op_type not in LINEAR:
            return f"its output is the input of {reader.op_type}"
        linear = view.linear(reader)
        if linear is None or reader.input[0] != tensor:
            return f"the weight of {name_of(reader)} is not a constant in the file"
        if (channels := view.channel_axis(reader, tensor)) is None:
            return f"the rank of the input of {name_of(reader)} is not known"
        if axis not in (-1, channels) or affine.s.size not in (1, linear.inputs) or linear.attributes.get("transA"):
            return f"its scale is not along the input channels of {name_of(reader)}"
        if linear.pads and (linear.op != "Conv" or affine.t.any()):
            return f"{name_of(reader)} pads its input with zeros, which would have to be shifted too"
        return Way(reader, linear)


def has_bias(view: View, product: onnx.NodeProto) -> bool:
    """Whether a constant of one value for each channel is added to the output of a MatMul at once."""
    if not view.alone(product.output[0]):
        return False
    added = view.affine(view.users(product.output[0])[0])
    axis = view.channel_axis(product, product.output[0])
    return added is not None and added.axis in (-1, axis) and bool((added.s == 1).all())


def _other_reader(view: View, maker: onnx.NodeProto, tensor: str) -> str:
    if tensor in view.outputs:
        return f"the output of {name_of(maker)} is an output of the graph"
    return f"the output of {name_of(maker)} has several readers"


def _last(view: View, tensor: str) -> str:
    """The operator that makes a tensor, or of what it moves."""
    maker = view.maker[tensor]
    while is_mover(maker) and maker.input[0] in view.maker:
        maker = view.maker[maker.input[0]]
    return str(maker.op_type)

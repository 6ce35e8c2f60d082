"""Operators that move values and change none, and where the axis of the channels is before and after one.

A Transpose between a convolution and its Mul and Add, a Squeeze behind a convolution over one axis, or a Reshape behind a MatMul:
a scale and shift for each channel commutes with each of them, as long as the channels stay an axis of their own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bnexport.onnx_graph.patterns import View, attributes_of

if TYPE_CHECKING:
    import onnx

Axes = tuple[int | None, ...]
"""For each axis of an output the axis of the input that it is; None where it is no single one."""

MOVERS = ("Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


def is_mover(node: onnx.NodeProto) -> bool:
    """Whether a node gives out values of its first input, in another order or another shape."""
    return node.op_type in MOVERS and not node.domain


def axis_before(view: View, node: onnx.NodeProto, axis: int) -> int | None:
    """Which axis of a mover's input becomes the axis `axis` of its output; -1, every axis, stays what it is."""
    if axis == -1:
        return -1
    axes = _axes(view, node)
    return axes[axis] if axes is not None and axis < len(axes) else None


def axis_after(view: View, node: onnx.NodeProto, axis: int) -> int | None:
    """Which axis of a mover's output the axis `axis` of its input becomes; -1, every axis, stays what it is."""
    if axis == -1:
        return -1
    axes = _axes(view, node)
    return axes.index(axis) if axes is not None and axis in axes else None


def _axes(view: View, node: onnx.NodeProto) -> Axes | None:
    x, y = node.input[0], node.output[0]
    if node.op_type in ("Reshape", "Flatten"):
        return _axes_of_reshape(view, node)
    rank = view.rank.get(x)
    if rank is None:
        return None
    match node.op_type:
        case "Transpose":
            return tuple(attributes_of(node).get("perm", reversed(range(rank))))
        case "Identity":
            return tuple(range(rank))
        case "Squeeze":
            removed = _stated_axes(view, node, 1, rank)
            return None if removed is None else tuple(axis for axis in range(rank) if axis not in removed)
        case "Unsqueeze":
            made = view.rank.get(y)
            added = None if made is None else _stated_axes(view, node, 1, made)
            if made is None or added is None or made - len(added) != rank:
                return None
            kept = iter(range(rank))
            return tuple(None if axis in added else next(kept) for axis in range(made))
        case _:
            cut = _stated_axes(view, node, 3, rank)
            return None if cut is None else tuple(None if axis in cut else axis for axis in range(rank))


def _stated_axes(view: View, node: onnx.NodeProto, position: int, rank: int) -> set[int] | None:
    """The axes that a node names, in an attribute or in its input number `position`; None where it names none that is known."""
    given = attributes_of(node).get("axes")
    if given is None and len(node.input) > position and (value := view.constant(node.input[position])) is not None:
        given = value.ravel().tolist()
    return None if given is None or not rank else {axis % rank for axis in given}


def _axes_of_reshape(view: View, node: onnx.NodeProto) -> Axes | None:
    """An axis stays what it is where its size stays, and as many values as before lie behind each step along it."""
    before, after = view.shape.get(node.input[0]), view.shape.get(node.output[0])
    if before is None or after is None:
        return None
    if node.op_type == "Reshape" and len(node.input) > 1 and after and after[-1] is None:
        after = (*after[:-1], _last_side(view, node.input[1]))
    strides = {stride: axis for axis in range(len(before)) if (stride := _stride(before, axis)) is not None}
    return tuple(
        None if (stride := _stride(after, axis)) is None else strides.get(stride) for axis in range(len(after))
    )


def _stride(sides: tuple[int | None, ...], axis: int) -> tuple[int, int] | None:
    """The size of an axis, and how many values lie behind each step along it; None where one is open, or there is no step."""
    side, behind = sides[axis] or 0, math.prod(side or 0 for side in sides[axis + 1 :])
    return (side, behind) if side > 1 and behind else None


def _last_side(view: View, shape: str) -> int | None:
    """The last entry of a shape that a graph computes; None where it is open."""
    while (value := view.constant(shape)) is None:
        maker = view.maker.get(shape)
        if maker is None or maker.domain or maker.op_type not in ("Cast", "Concat", "Identity"):
            return None
        shape = maker.input[-1]
    entries = value.ravel().tolist()
    return int(entries[-1]) if entries and entries[-1] > 0 else None

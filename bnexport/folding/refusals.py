"""Why a normalisation stays: each BatchNormalization, and each Mul, Div, Add or Sub of one constant for each channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnexport.folding.paths import to_maker, to_reader
from bnexport.onnx_graph.patterns import Affine, View, attributes_of, name_of

if TYPE_CHECKING:
    import onnx

_ARITHMETIC = ("Add", "Div", "Mul", "Sub")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One node that stays, the first of several in a row, and why."""

    name: str
    reason: str


def refusals(view: View) -> Iterator[Refusal]:
    """The normalisations of a graph that nothing more can be folded in, in its order."""
    for node in view.nodes:
        if node.domain:
            continue
        if node.op_type == "BatchNormalization":
            yield Refusal(name_of(node), _normalisation(view, node))
        elif node.op_type in _ARITHMETIC and (reason := _arithmetic(view, node)):
            yield Refusal(name_of(node), reason)


def _normalisation(view: View, node: onnx.NodeProto) -> str:
    affine = view.affine(node)
    if attributes_of(node).get("training_mode"):
        return "it runs in training mode, with the statistics of the batch"
    if affine is None:
        return "its parameters are not stored in the file"
    if not affine.finite:
        return "its scale is not finite: gamma / sqrt(var + epsilon)"
    return _obstacles(view, node, affine, node)


def _arithmetic(view: View, node: onnx.NodeProto) -> str:
    """The reason why a node of arithmetic stays; "" where it is no normalisation, or not the first node of one, or a bias."""
    affine = view.affine(node)
    if affine is None:
        constant = next((c for name in node.input if (c := view.constant(name)) is not None), None)
        unknown = any(name not in view.rank and view.constant(name) is None for name in node.input)
        several = constant is not None and constant.dtype.kind == "f" and constant.size > 1
        return "the rank of its input is not known" if several and unknown else ""
    if affine.s.size == 1:
        return ""
    if not affine.finite:
        return "its scale is not finite"
    if view.alone(affine.x) and _constant_arithmetic(view, view.maker.get(affine.x)):
        return ""
    if not isinstance(to_maker(view, affine), str):
        return ""  # the bias of a MatMul
    last = node
    while view.alone(last.output[0]) and _constant_arithmetic(view, view.users(last.output[0])[0]):
        [last] = view.users(last.output[0])
    return _obstacles(view, node, affine, last)


def _constant_arithmetic(view: View, node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type in _ARITHMETIC and view.affine(node) is not None


def _obstacles(view: View, node: onnx.NodeProto, affine: Affine, last: onnx.NodeProto) -> str:
    after = view.affine(last) if last is not node else affine
    reasons = [to_maker(view, affine), to_reader(view, last, after or affine)]
    return "; ".join(reason for reason in reasons if isinstance(reason, str))

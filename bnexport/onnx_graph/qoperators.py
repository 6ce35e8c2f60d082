"""Operators on quantised values (QLinearConv, QGemm, QLinearAdd) as what they stand for: DequantizeLinear, the float operator, QuantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Quantisation = tuple[int, int, int]
"""The positions of a tensor, its scale and its zero point among the inputs of an operator."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How an operator reads its inputs.

    Args:
        kind: the float operator.
        reads: its quantised inputs.
        scale: the position of the output's scale, which the zero point follows.
        bias: the position of a bias in int32 at the product of the scales of the first two inputs; None where there is none.
        axis: the axis along which a kernel has a scale for each channel.
        dropped: attributes that the float operator does not have.
    """

    kind: str
    reads: tuple[Quantisation, ...]
    scale: int
    bias: int | None = None
    axis: int = 0
    dropped: frozenset[str] = frozenset()


_PAIR = ((0, 1, 2), (3, 4, 5))
_ONE = ((0, 1, 2),)
_LAST = frozenset({"channels_last"})
_FORMS = {
    "QLinearConv": _Form("Conv", _PAIR, 6, bias=8, dropped=_LAST),
    "QLinearMatMul": _Form("MatMul", _PAIR, 6, axis=1),
    "QGemm": _Form("Gemm", _PAIR, 7, bias=6, axis=1),
    "QLinearAdd": _Form("Add", _PAIR, 6),
    "QLinearMul": _Form("Mul", _PAIR, 6),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", _ONE, 3, dropped=_LAST),
    "QLinearAveragePool": _Form("AveragePool", _ONE, 3, dropped=_LAST),
    "QLinearSigmoid": _Form("Sigmoid", _ONE, 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", _ONE, 3),
    "QLinearSoftmax": _Form("Softmax", _ONE, 3, dropped=frozenset({"opset"})),
    "QLinearReduceMean": _Form("ReduceMean", _ONE, 3),
}


def expand(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto] | None:
    """The nodes of a graph with every operator on quantised values written as float operators between DequantizeLinear and QuantizeLinear.

    Returns:
        The nodes in order; None where an operator is not covered.
    """
    expanded: list[onnx.NodeProto] = []
    for node in nodes:
        if node.op_type == "QLinearConcat":
            expanded += _concatenation(node)
        elif node.op_type in _FORMS:
            form = _FORMS[node.op_type]
            if any(a.name == "channels_last" and a.i for a in node.attribute):
                return None
            expanded += _between(node, form)
        elif node.op_type.startswith("QLinear") or (node.domain == "com.microsoft" and node.op_type[:1] == "Q"):
            if node.op_type not in ("QuantizeLinear", "QuickGelu"):
                return None
            expanded.append(node)
        else:
            expanded.append(node)
    return expanded


def _between(node: onnx.NodeProto, form: _Form) -> list[onnx.NodeProto]:
    from onnx import helper

    before, names = [], []
    for nth, (value, scale, zero) in enumerate(form.reads):
        name = f"{node.output[0]}/in{nth}"
        inputs = [node.input[value], node.input[scale], node.input[zero]]
        before.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}/dequantise"))
        if nth:
            before[-1].attribute.append(helper.make_attribute("axis", form.axis))
        names.append(name)
    if form.bias is not None and len(node.input) > form.bias and node.input[form.bias]:
        product, bias = f"{node.output[0]}/bias_scale", f"{node.output[0]}/bias"
        scales = [node.input[scale] for _, scale, _ in form.reads[:2]]
        before.append(helper.make_node("Mul", scales, [product], name=product))
        before.append(helper.make_node("DequantizeLinear", [node.input[form.bias], product], [bias], name=bias, axis=0))
        names.append(bias)
    given = len(node.input) > form.scale and bool(node.input[form.scale])
    made = f"{node.output[0]}/float" if given else node.output[0]
    middle = helper.make_node(form.kind, names, [made], name=node.name)
    middle.attribute.extend(a for a in node.attribute if a.name not in form.dropped)
    after = (
        [helper.make_node("QuantizeLinear", [made, *node.input[form.scale : form.scale + 2]], [node.output[0]])]
        if given
        else []
    )
    return [*before, middle, *after]


def _concatenation(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    from onnx import helper

    before, names = [], []
    for nth in range(2, len(node.input), 3):
        name = f"{node.output[0]}/in{nth}"
        before.append(helper.make_node("DequantizeLinear", node.input[nth : nth + 3], [name], name=name))
        names.append(name)
    made = f"{node.output[0]}/float"
    middle = helper.make_node("Concat", names, [made], name=node.name)
    middle.attribute.extend(node.attribute)
    return [*before, middle, helper.make_node("QuantizeLinear", [made, *node.input[:2]], [node.output[0]])]

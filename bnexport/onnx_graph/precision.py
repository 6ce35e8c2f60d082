"""In what precision a graph computes, as its tensors and operators say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnexport.onnx_graph import subgraphs
from bnexport.onnx_graph.quantised import quantisation
from bnexport.results.runs import Precision

if TYPE_CHECKING:
    import onnx

_HALVES = {10: Precision.FLOAT16, 16: Precision.BFLOAT16}  # onnx.TensorProto
_WORDS = {
    Precision.FLOAT32: "float32",
    Precision.FLOAT16: "float16",
    Precision.BFLOAT16: "bfloat16",
    Precision.QDQ: "quantised with QuantizeLinear and DequantizeLinear around float operators (QDQ)",
    Precision.QOPERATOR: "quantised with operators on integers (QOperator)",
    Precision.DYNAMIC: "quantised dynamically: the ranges of activations are measured on each batch",
    Precision.WEIGHT_ONLY: "weights are quantised, activations are not",
    Precision.MIXED: "quantised in several ways or in part, or mixed with 16 bits",
    Precision.QUANTIZED: "quantised",
}


@dataclass(frozen=True, slots=True)
class StoredPrecision:
    """What a graph is stored in.

    Args:
        precision: of the graph.
        described: in words, with how many operators or weights there are of which.
    """

    precision: Precision
    described: str


def stored_precision(model: onnx.ModelProto) -> StoredPrecision:
    """The precision in which a graph computes."""
    halves = {kind: count for kind in _HALVES if (count := _count(model, kind))}
    quantised = quantisation(model)
    forms = _forms(set(quantised.operators), _quantises_activations(model)) if quantised else set()
    if not forms and not halves:
        return StoredPrecision(Precision.FLOAT32, _WORDS[Precision.FLOAT32])
    kinds = [*forms, *(_HALVES[kind] for kind in halves)]
    precision = kinds[0] if len(kinds) == 1 else Precision.MIXED
    parts = [quantised.described] if quantised else []
    parts += [f"{count} tensors in {_HALVES[kind]}" for kind, count in halves.items()]
    if halves and not quantised and (wide := sum(t.data_type == 1 for t in model.graph.initializer)):
        parts.append(f"{wide} weights in float32")
    return StoredPrecision(precision, f"{_WORDS[precision]}: {', '.join(parts)}")


def _forms(operators: set[str], activations: bool) -> set[Precision]:
    forms = set()
    if any(name.startswith("Dynamic") for name in operators) or operators & {"MatMulInteger", "ConvInteger"}:
        forms.add(Precision.DYNAMIC)
    if any(name.startswith("QLinear") or name == "QGemm" for name in operators):
        forms.add(Precision.QOPERATOR)
    elif activations:
        forms.add(Precision.QDQ)
    if not forms and operators <= {"DequantizeLinear", "MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"}:
        forms.add(Precision.WEIGHT_ONLY)
    return forms or {Precision.QUANTIZED}


def _quantises_activations(model: onnx.ModelProto) -> bool:
    stored = {tensor.name for tensor in model.graph.initializer}
    return any(n.op_type == "QuantizeLinear" and n.input[0] not in stored for n in subgraphs.nodes(model.graph))


def _count(model: onnx.ModelProto, kind: int) -> int:
    """How many weights, inputs, outputs and casts have a type."""
    infos = [*model.graph.input, *model.graph.output]
    return int(
        sum(tensor.data_type == kind for tensor in model.graph.initializer)
        + sum(info.type.tensor_type.elem_type == kind for info in infos)
        + sum(
            attribute.name == "to" and attribute.i == kind
            for node in subgraphs.nodes(model.graph)
            if node.op_type == "Cast"
            for attribute in node.attribute
        )
    )

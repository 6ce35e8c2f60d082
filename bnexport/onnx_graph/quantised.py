"""Whether a graph is quantised, and what its kernels are in floating point."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph import subgraphs
from bnexport.onnx_graph.constants import Constants
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

_INTEGER = {"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
_BLOCKWISE = {"MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"}
_KERNELS = {
    "ConvInteger": (1, 3),
    "MatMulInteger": (1, 3),
    "QLinearConv": (3, 5),
    "QLinearMatMul": (3, 5),
    "DynamicQuantizeMatMul": (1, 3),
    "MatMulIntegerToFloat": (1, 5),
    "QGemm": (3, 5),
}
"""Which inputs of an operator on integers are its kernel and the kernel's zero point."""
_EXACT = {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True, slots=True)
class Quantised:
    """How a graph is quantised.

    Args:
        operators: the operators that quantise or compute with quantised values, and how many there are of each.
        dynamic: whether ranges are measured on each batch, so that outputs depend on it by design.
    """

    operators: dict[str, int]
    dynamic: bool

    @property
    def described(self) -> str:
        """The operators in words."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self.operators.items(), key=lambda e: -e[1])[:4])


def quantisation(model: onnx.ModelProto) -> Quantised | None:
    """How a graph is quantised; None where it is not.

    Quantised are QuantizeLinear and DequantizeLinear, DynamicQuantizeLinear, ONNX' operators on integers (QLinearConv, ConvInteger) and those of
    onnxruntime (com.microsoft: QLinearAdd, QGemm, MatMulNBits).
    """
    counts = Counter(node.op_type for node in subgraphs.nodes(model.graph) if _quantises(node))
    if not counts:
        return None
    return Quantised(dict(counts), any(name.startswith("Dynamic") for name in counts))


def _quantises(node: onnx.NodeProto) -> bool:
    kind = node.op_type
    if node.domain == "com.microsoft" and (kind in _BLOCKWISE or (kind[:1] == "Q" and kind[1:2].isupper())):
        return True
    return kind in _INTEGER | _EXACT or kind == "DynamicQuantizeLinear" or kind.startswith("QLinear")


def dequantise(model: onnx.ModelProto) -> dict[str, Array]:
    """The kernels of a quantised graph in floating point, by the name of the integers they are stored as.

    Read are those behind DequantizeLinear, and those of operators on integers less their zero point: they are right up to a factor for each
    channel, and kernels are compared up to such a factor.
    """
    constants = Constants(model)
    kernels: dict[str, Array] = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            value = constants.value(node.output[0])
            if value is not None and value.ndim > 1:
                kernels[node.input[0]] = value
        elif node.op_type in _KERNELS:
            position, zero_position = _KERNELS[node.op_type]
            value = constants.value(node.input[position])
            given = len(node.input) > zero_position and node.input[zero_position]
            zero = constants.value(node.input[zero_position]) if given else np.zeros((), np.int8)
            if value is not None and zero is not None and value.ndim > 1 and zero.size == 1:
                kernels[node.input[position]] = value.astype(np.float32) - float(zero.ravel()[0])
    return kernels

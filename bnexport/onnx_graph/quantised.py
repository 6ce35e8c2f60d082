"""Whether a graph is quantised, and what its kernels are in floating point."""

from __future__ import annotations

import math
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
_STORED = {2, 3, 21, 22, 25, 26}
"""ONNX' numbers of the types that kernels are stored in: uint8, int8, and those of 4 and 2 bits."""
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

    Read are those behind DequantizeLinear, those of operators on integers less their zero point, and tables that Gather takes rows of for either:
    they are right up to a factor for each channel, and kernels are compared up to such a factor.
    """
    constants = Constants(model)
    tables = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    kernels: dict[str, Array] = {}
    for node in model.graph.node:
        for position, name in enumerate(node.input if _quantises(node) else ()):
            if name in tables:  # what reads integers has their scale and zero point behind them
                kernels |= _less_zero_point(constants, tables[name], node, position + 2)
        if node.op_type == "DequantizeLinear":
            value = constants.value(node.output[0])
            if value is not None and value.ndim > 1:
                kernels[node.input[0]] = value
        elif node.op_type in _KERNELS:
            position, zero_position = _KERNELS[node.op_type]
            kernels |= _less_zero_point(constants, node.input[position], node, zero_position)
        elif node.op_type == "DynamicQuantizeLSTM":  # which has its gates on the last axis
            for position, zero_position in ((1, 9), (2, 11)):
                stored = _less_zero_point(constants, node.input[position], node, zero_position)
                kernels |= {name: value.swapaxes(1, 2) for name, value in stored.items()}
    return kernels


def _less_zero_point(constants: Constants, name: str, node: onnx.NodeProto, zero_position: int) -> dict[str, Array]:
    """Stored integers less the zero points that a node reads for them, one or one for each channel; none where that is not known."""
    value = constants.value(name)
    given = len(node.input) > zero_position and node.input[zero_position]
    zero = constants.value(node.input[zero_position]) if given else np.zeros((), np.int8)
    if value is None or zero is None or value.ndim < 2:
        return {}
    channels = 0 if "Conv" in node.op_type else value.ndim - 1
    if zero.size not in (1, value.shape[channels]):
        return {}
    shape = [-1 if axis == channels else 1 for axis in range(value.ndim)]
    return {name: value.astype(np.float32) - zero.astype(np.float32).reshape(shape)}


def unread_sizes(model: onnx.ModelProto) -> list[range]:
    """How many weights each kernel of 2 to 8 bits may have that `dequantise` does not read: more than one number where several share a byte."""
    if quantisation(model) is None:
        return []
    kernels = dequantise(model)
    packed = {name for node in subgraphs.nodes(model.graph) if node.op_type in _BLOCKWISE for name in node.input}
    sizes = []
    for tensor in model.graph.initializer:
        count = math.prod(tensor.dims)
        if tensor.data_type in _STORED and tensor.name not in kernels:
            sizes.append(range(count // 2, 4 * count + 1) if tensor.name in packed else range(count, count + 1))
    return sizes

"""What the nodes of a graph are to each other: who makes a tensor, who reads it, and which nodes are affine or linear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnexport.numerics.linear import F64, LINEAR, Linear
from bnexport.onnx_graph import metadata, subgraphs, tensors, weights

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Affine:
    """y = s * x + t for each channel of `axis`; s and t of shape (C,), or (1,) for the same in every channel."""

    x: str
    axis: int
    s: F64
    t: F64

    @property
    def finite(self) -> bool:
        """Whether every scale and shift is a number."""
        return bool(np.isfinite(self.s).all() and np.isfinite(self.t).all())


class View:
    """A graph with its tensors indexed; `index` has to be called again after `nodes` changes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.original = model
        self.nodes = list(model.graph.node)
        self.values = weights.initializers(model)
        self.fed = {info.name for info in model.graph.input}
        self.outputs = {info.name for info in model.graph.output}.union(metadata.logits(model).values())
        self.shape = tensors.shapes(model)
        self.rank = {name: len(sides) for name, sides in self.shape.items()}
        self.index()

    def index(self) -> None:
        """Finds out again who makes and who reads each tensor."""
        self.maker = {output: node for node in self.nodes for output in node.output if output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            captured = (name for name in subgraphs.reads(node) if name not in node.input)
            for name in (*node.input, *captured):
                self.readers.setdefault(name, []).append(node)

    def users(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read the values of a tensor: all of its readers but Shape."""
        return [node for node in self.readers.get(tensor, ()) if node.op_type != "Shape" or node.domain]

    def alone(self, tensor: str) -> bool:
        """Whether exactly one node reads the values of a tensor, and nobody outside does."""
        return len(self.users(tensor)) == 1 and tensor not in self.outputs

    def constant(self, name: str) -> Any:
        """The value of a stored constant; None for anything that may be fed or computed."""
        if name in self.values and name not in self.fed:
            return self.values[name]
        node = self.maker.get(name)
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            from onnx import numpy_helper

            return numpy_helper.to_array(node.attribute[0].t)
        return None

    def affine(self, node: onnx.NodeProto) -> Affine | None:
        """What a node does to each channel; None where it does something else."""
        if node.domain:
            return None
        if node.op_type == "BatchNormalization":
            attributes = attributes_of(node)
            stored = [self.constant(name) for name in node.input[1:]]
            if attributes.get("training_mode") or any(value is None for value in stored):
                return None
            gamma, beta, mean, var = (np.asarray(value, np.float64) for value in stored)
            with np.errstate(invalid="ignore", divide="ignore"):
                s = gamma / np.sqrt(var + attributes.get("epsilon", 1e-5))
            return Affine(node.input[0], 1, s, beta - mean * s)
        if node.op_type in ("Mul", "Div", "Add", "Sub"):
            return self._arithmetic(node)
        return None

    def _arithmetic(self, node: onnx.NodeProto) -> Affine | None:
        """Mul, Div, Add or Sub with a constant of one value for each channel."""
        for position in (1, 0):
            value = self.constant(node.input[position])
            x = node.input[1 - position]
            rank = self.rank.get(x)
            if (
                value is None
                or rank is None
                or value.ndim > rank
                or value.dtype.kind != "f"
                or (position == 0 and node.op_type == "Div")
            ):
                continue
            shape = (1,) * (rank - value.ndim) + value.shape
            wide = [axis for axis, side in enumerate(shape) if side != 1]
            if len(wide) > 1:
                continue
            c, one = value.astype(np.float64).reshape(-1), np.ones(max(1, value.size))
            # The same number in every channel goes with whatever axis its neighbour has.
            axis = wide[0] if wide else -1
            match node.op_type:
                case "Mul":
                    return Affine(x, axis, c, 0 * c)
                case "Div":
                    return Affine(x, axis, 1 / c, 0 * c)
                case "Add":
                    return Affine(x, axis, one, c)
                case "Sub":
                    return Affine(x, axis, one, -c) if position == 1 else Affine(x, axis, -one, c)
        return None

    def linear(self, node: onnx.NodeProto | None) -> Linear | None:
        """A linear operator with constant weights; None for anything else."""
        if node is None or node.op_type not in LINEAR or node.domain:
            return None
        weight = self.constant(node.input[1])
        bias = self.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if weight is None or (bias is None and len(node.input) > 2 and node.input[2]) or weight.dtype.kind != "f":
            return None
        if node.op_type in ("Gemm", "MatMul") and weight.ndim != 2:
            return None
        attributes = attributes_of(node)
        scaled = None if bias is None else np.asarray(bias, np.float64) * attributes.get("beta", 1.0)
        return Linear(node.op_type, np.asarray(weight, np.float64), scaled, attributes)

    def channel_axis(self, node: onnx.NodeProto, tensor: str) -> int | None:
        """The axis of the channels of an operator's input or output."""
        if node.op_type in ("Conv", "ConvTranspose"):
            return 1
        rank = self.rank.get(tensor)
        return None if rank is None else rank - 1


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def name_of(node: onnx.NodeProto) -> str:
    """A node's name, or that of its first output where it has none."""
    return node.name or node.output[0]

"""Values that a graph computes from constants alone, with ONNX' own reference evaluator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

LARGEST = 1 << 24
"""No value of more elements is computed."""

_NAMES = """
Abs Add Cast Ceil Clip Concat Constant ConstantOfShape DequantizeLinear Div Exp Expand Flatten Floor Gather
Identity Log Max Min Mul Neg Pow QuantizeLinear Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu
Reshape Shape Sigmoid Slice Softplus Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where
"""
_OPERATORS = frozenset(_NAMES.split())
_SHAPED_BY = {"ConstantOfShape": 0, "Expand": 1}


class Constants:
    """The tensors of a graph whose values follow from initializers and Constant nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._maker = {output: node for node in model.graph.node for output in node.output if output}
        self._values: dict[str, Array | None] = {}

    def value(self, name: str) -> Array | None:
        """The value of a tensor; None where it depends on the graph's inputs, or is not computed here."""
        waiting = [name]
        while waiting:  # an explicit stack: a chain may be longer than Python's
            current = waiting[-1]
            if current in self._values:
                waiting.pop()
                continue
            node = self._maker.get(current)
            if current in self._stored or node is None or node.domain or node.op_type not in _OPERATORS:
                self._values[current] = self._initial(current)
                continue
            missing = [source for source in node.input if source and source not in self._values]
            if missing:
                waiting += missing
                continue
            self._compute(node)
            self._values.setdefault(current, None)
        return self._values[name]

    def _initial(self, name: str) -> Array | None:
        from onnx import numpy_helper

        tensor = self._stored.get(name)
        if tensor is None or math.prod(tensor.dims) > LARGEST:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def _compute(self, node: onnx.NodeProto) -> None:
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        feeds: dict[str, Array] = {}
        for source in node.input:
            value = self._values.get(source) if source else None
            if source and value is None:
                return
            if value is not None:
                feeds[source] = value
        position = _SHAPED_BY.get(node.op_type)
        if position is not None and math.prod(int(side) for side in feeds[node.input[position]].ravel()) > LARGEST:
            return
        outputs = [output for output in node.output if output]
        graph = helper.make_graph(
            [node],
            "constant",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                for name, value in feeds.items()
            ],
            [helper.make_empty_tensor_value_info(output) for output in outputs],
        )
        version = next((e.version for e in self._model.opset_import if e.domain in ("", "ai.onnx")), 18)
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            version = max(version, 19)  # the evaluator knows no older ones, which mean the same
        part = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
        try:
            with np.errstate(all="ignore"):
                values = ReferenceEvaluator(part).run(None, feeds)
        except Exception:  # noqa: BLE001 - the evaluator raises whatever NumPy does; the value then counts as computed by the graph
            return
        self._values.update((name, np.asarray(value)) for name, value in zip(outputs, values, strict=True))

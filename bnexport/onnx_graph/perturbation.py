"""Weights of a graph moved by one unit in the last place, at random: how far that moves the outputs is how far rounding may move them.

Monte Carlo arithmetic (D. S. Parker, 1997) perturbs every operation; perturbing the weights alone needs no other kernels, and gives the same
size: within a factor of four of the distance to float64 on 37 nets (`tests/e2e/test_floors.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph import subgraphs, tensors
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

_EXACT = {"Resize", "Upsample", "Range", "NonMaxSuppression", "QuantizeLinear", "DequantizeLinear", "OneHot", "Cast"}
"""What these operators read are sizes, positions, thresholds and scales, which are meant exactly."""


def with_weights_as_inputs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A copy of a graph whose float32 weights are inputs of it, and the weights by the name of the input."""
    import onnx
    from onnx import numpy_helper

    exact = {name for node in subgraphs.nodes(model.graph) if node.op_type in _EXACT for name in subgraphs.reads(node)}
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in exact
    }
    outside = tensors.with_inputs_for(model, weights.keys())
    outside.graph.sparse_initializer.extend(model.graph.sparse_initializer)
    outside.graph.value_info.extend(model.graph.value_info)
    return outside, weights


def perturb(weights: dict[str, Array], seed: int) -> dict[str, Array]:
    """An eighth of the weights each moved to the next number below and above them; zeros and what is not finite stay.

    That moves the outputs of most nets about as far as rounding does.
    """
    generator = np.random.default_rng(seed)
    moved = {}
    for name, value in weights.items():
        drawn = generator.integers(0, 8, value.shape, np.int8)
        steps = (drawn == 1).astype(np.int8) - (drawn == 0)
        steps *= np.isfinite(value) & (value != 0)
        moved[name] = (np.asarray(value, order="C").view(np.int32) + steps).view(np.float32)
    return moved

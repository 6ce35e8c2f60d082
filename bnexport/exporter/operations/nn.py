"""Nodes of `keras.ops.nn`: activation functions, normalization, attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bnexport.exporter.arithmetic import axis_of, elementwise, matmul, reshape, unary
from bnexport.exporter.axes import permute, reduce_over, repeat, tensor_axis
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers import activations, axis_activations
from bnexport.exporter.layers.attention import not_before
from bnexport.exporter.layers.merging import EPSILON
from bnexport.exporter.operations.axes import axes_of, power_sum
from bnexport.exporter.promotion import Operand, as_value, binary, floating, is_float
from bnexport.exporter.registry import OPERATIONS, emits_operation
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import StoredLayer

NAMES = {
    "HardSilu": "hard_silu",
    "HardSigmoid": "hard_sigmoid",
    "HardTanh": "hard_tanh",
    "LogSigmoid": "log_sigmoid",
    "Relu": "relu",
    "Relu6": "relu6",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "SparsePlus": "sparse_plus",
    "SparseSigmoid": "sparse_sigmoid",
    "TanhShrink": "tanh_shrink",
}
"""The classes that are activation functions without options."""


def _activation(name: str, g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    x = as_value(g, x)
    if not is_float(x.dtype):
        if name == "relu":
            return binary(g, "Max", x, 0, dtype=x.dtype)
        x = g.cast(x, floating(x))
    return activations.activate(g, name, x)


OPERATIONS.update({kind: partial(_activation, name) for kind, name in NAMES.items()})


def _softmax(g: Graph, x: Value, config: Config, *, log: bool) -> Value:
    axis = config.get("axis", -1)
    if axis is None:
        flat = g.node("Softmax", [reshape(g, x, (None,))], (None,), x.dtype, axis=0)
        whole = g.node("Log", [flat], (None,), x.dtype) if log else flat
        return g.node("Reshape", [whole, g.node("Shape", [g.in_keras_order(x)], (x.rank,), "int64")], x.shape, x.dtype)
    if isinstance(axis, list | tuple):
        if log or len(axis) > 1:
            raise NotCovered("softmax over several axes")
        axis = axis[0]
    if log:
        return unary(g, "LogSoftmax", x, axis=tensor_axis(x, int(axis)))
    return activations.softmax(g, x, int(axis))


def _shrink(g: Graph, x: Value, bound: float) -> Value:
    return elementwise(g, "Sub", x, activations.clip(g, x, -bound, bound))


def _hard_shrink(g: Graph, x: Value, bound: float) -> Value:
    outside = elementwise(g, "Greater", unary(g, "Abs", x), bound, dtype="bool")
    return elementwise(g, "Where", outside, x, g.value(0.0, x.dtype), dtype=x.dtype)


def _threshold(g: Graph, x: Value, bound: float, otherwise: float) -> Value:
    above = elementwise(g, "Greater", x, bound, dtype="bool")
    return elementwise(g, "Where", above, x, g.value(otherwise, x.dtype), dtype=x.dtype)


def _squareplus(g: Graph, x: Value, b: float) -> Value:
    root = unary(g, "Sqrt", elementwise(g, "Add", elementwise(g, "Mul", x, x), b))
    return elementwise(g, "Div", elementwise(g, "Add", x, root), 2.0)


WITH_OPTIONS: dict[str, Callable[[Graph, Value, Config], Value]] = {
    "Celu": lambda g, x, c: activations.celu(g, x, alpha=float(c.get("alpha", 1.0))),
    "Elu": lambda g, x, c: unary(g, "Elu", x, alpha=float(c.get("alpha", 1.0))),
    "Gelu": lambda g, x, c: activations.gelu(g, x, approximate=bool(c.get("approximate", True))),
    "Glu": lambda g, x, c: axis_activations.glu(g, x, axis=int(c.get("axis", -1))),
    "HardShrink": lambda g, x, c: _hard_shrink(g, x, float(c.get("threshold", 0.5))),
    "LeakyRelu": lambda g, x, c: unary(g, "LeakyRelu", x, alpha=float(c.get("negative_slope", 0.2))),
    "LogSoftmax": lambda g, x, c: _softmax(g, x, c, log=True),
    "SoftShrink": lambda g, x, c: _shrink(g, x, float(c.get("threshold", 0.5))),
    "Softmax": lambda g, x, c: _softmax(g, x, c, log=False),
    "Sparsemax": lambda g, x, c: axis_activations.sparsemax(g, x, axis=int(c.get("axis", -1))),
    "Squareplus": lambda g, x, c: _squareplus(g, x, float(c.get("b", 4))),
    "Threshold": lambda g, x, c: _threshold(g, x, float(c["threshold"]), float(c["default_value"])),
}
"""Activation functions with options, by class."""


@emits_operation(*WITH_OPTIONS)
def with_options(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """An activation function with options."""
    return WITH_OPTIONS[layer.kind](g, as_value(g, x, floating(x)), layer.config)


@emits_operation("Normalize")
def normalize(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The value divided by its length along an axis.

    Raises:
        NotCovered: the order of the length is no whole number from 1 on.
    """
    x, order = as_value(g, x, floating(x)), layer.config.get("order", 2)
    epsilon = float(layer.config.get("epsilon") or EPSILON)
    axes = axes_of(layer, x)
    if order == 2:
        total = reduce_over(g, "ReduceSum", elementwise(g, "Mul", x, x), axes, keepdims=True)
        inverse = unary(g, "Reciprocal", unary(g, "Sqrt", total))
        return elementwise(g, "Mul", x, elementwise(g, "Min", inverse, 1 / epsilon))
    if not isinstance(order, int) or order < 1:
        raise NotCovered(f"normalize of order {order}")
    total = power_sum(g, x, axes, order, keepdims=True)
    return elementwise(g, "Div", x, elementwise(g, "Max", total, epsilon))


@emits_operation("BatchNorm")
def batch_norm(
    g: Graph,
    layer: StoredLayer,
    x: Operand,
    mean: Operand,
    variance: Operand,
    offset: Operand | None = None,
    scale: Operand | None = None,
) -> Value:
    """(x - mean) / sqrt(variance) * scale + offset along an axis."""
    x = as_value(g, x)
    axis = axis_of(x, int(layer.config["axis"]))
    shape = [x.shape[axis] if position == axis else 1 for position in range(x.rank)]

    def wide(given: Operand) -> Value:
        return reshape(g, as_value(g, given, x.dtype), shape)

    root = unary(g, "Sqrt", elementwise(g, "Add", wide(variance), float(layer.config.get("epsilon", 1e-3))))
    made = elementwise(g, "Div", elementwise(g, "Sub", x, wide(mean)), root)
    made = made if scale is None else elementwise(g, "Mul", made, wide(scale))
    return made if offset is None else elementwise(g, "Add", made, wide(offset))


@emits_operation("LayerNorm", "RMSNorm")
def layer_norm(
    g: Graph,
    layer: StoredLayer,
    x: Operand,
    gamma: Operand | None = None,
    beta: Operand | None = None,
    scale: Operand | None = None,
) -> Value:
    """Each example normalised over an axis, by its mean and variance or by its mean square."""
    x = as_value(g, x)
    dtype = x.dtype
    x = g.cast(x, "float64" if dtype == "float64" else "float32")
    axes = axes_of(layer, x)
    epsilon = float(layer.config.get("epsilon") or EPSILON)
    centred = x
    if layer.kind == "LayerNorm":
        centred = elementwise(g, "Sub", x, reduce_over(g, "ReduceMean", x, axes, keepdims=True))
    square = reduce_over(g, "ReduceMean", elementwise(g, "Mul", centred, centred), axes, keepdims=True)
    x = x if layer.config.get("rms_scaling") else centred
    made = elementwise(g, "Div", x, unary(g, "Sqrt", elementwise(g, "Add", square, epsilon)))
    shape = [x.shape[position] if position in axes else 1 for position in range(x.rank)]
    for op, given in (("Mul", gamma if scale is None else scale), ("Add", beta)):
        if given is not None:
            made = elementwise(g, op, made, reshape(g, as_value(g, given, x.dtype), shape))
    return g.cast(made, dtype)


@emits_operation("DotProductAttention")
def attention(
    g: Graph,
    layer: StoredLayer,
    query: Operand,
    key: Operand,
    value: Operand,
    bias: Operand | None = None,
    mask: Operand | None = None,
    scale: float | None = None,
) -> Value:
    """Softmax of the products of queries and keys, times the values; axes are examples, steps, heads, numbers.

    Raises:
        NotCovered: the logits are capped, or the heads do not share keys evenly.
    """
    q, k, v = (as_value(g, given) for given in (query, key, value))
    config, width = layer.config, q.shape[-1]
    many, few = q.shape[2], k.shape[2]
    if config.get("attn_logits_soft_cap") or width is None or many is None or few is None or many % few:
        raise NotCovered("dot_product_attention with capped logits, or of an open number of heads")
    if 1 < few < many:
        k, v = (repeat(g, part, {2: many // few}) for part in (k, v))
    heads = [permute(g, part, order) for part, order in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))]
    scores = elementwise(g, "Mul", matmul(g, heads[0], heads[1]), float(scale or 1 / np.sqrt(width)))
    if bias is not None:
        scores = elementwise(g, "Add", scores, as_value(g, bias, scores.dtype))
    keep = None if mask is None else as_value(g, mask, "bool")
    if config.get("is_causal"):
        causal = not_before(g, q, 1, k, 1)
        keep = causal if keep is None else elementwise(g, "And", keep, causal)
    if keep is not None:
        lowest = g.value(float(np.finfo(scores.dtype).min), scores.dtype)
        scores = elementwise(g, "Where", keep, scores, lowest, dtype=scores.dtype)
    weights = g.node("Softmax", [scores], scores.shape, scores.dtype, axis=3)
    return permute(g, matmul(g, weights, heads[2]), [0, 2, 1, 3])

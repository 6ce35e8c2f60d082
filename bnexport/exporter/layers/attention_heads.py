"""MultiHeadAttention and GroupedQueryAttention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnexport.exporter.arithmetic import (
    elementwise,
    expand,
    integers,
    matmul,
    reshape,
    size_of,
    sizes_of,
    transpose,
    unary,
)
from bnexport.exporter.graph import Graph, Value, numpy_dtype
from bnexport.exporter.layers.attention import Outputs, not_before, with_axis
from bnexport.exporter.layers.core import refuse_other_axis
from bnexport.exporter.layers.quantised import refuse_quantised
from bnexport.exporter.layers.series import positions
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Nested

LOWEST = -0.7 * 3.38953e38
"""What Keras puts in the place of masked scores where it hands back no scores."""


@dataclass(frozen=True, slots=True)
class Call:
    """How such a layer is called.

    Args:
        query: (N, ..., F).
        value: the same, with other lengths.
        key: the same as the value but for the last axis.
        masks: what limits attention, each of a shape that can be broadcast to (N, queries, keys).
        scores: whether the scores are given too.
    """

    query: Value
    value: Value
    key: Value
    masks: Sequence[Value]
    scores: bool


@emits("MultiHeadAttention", mask="own")
def multi_head_attention(
    g: Graph, layer: StoredLayer, query: Value, value: Value, key: Value | None = None, **options: Nested
) -> Outputs:
    """Each head attends by itself, and what they find is projected back. The inputs lose their masks, as in Keras."""
    config = layer.config
    call = _call(g, layer, query, value, key, {**options, "query_mask": query.mask})
    given = config.get("attention_axes")
    axes = [given] if isinstance(given, int) else list(given or range(1, call.value.rank - 1))
    axes = [axis % call.value.rank for axis in axes]
    result = _attend(g, layer, call, axes, int(config["key_dim"]), 1)
    g.unmasked |= {x.name for x in (query, value, key) if x is not None and x.mask is not None}
    return _with_mask(result, query.mask)


@emits("GroupedQueryAttention", "GroupQueryAttention", mask="own")
def grouped_query_attention(
    g: Graph, layer: StoredLayer, query: Value, value: Value, key: Value | None = None, **options: Nested
) -> Outputs:
    """The same with fewer heads for keys and values than for queries."""
    config = layer.config
    call = _call(g, layer, query, value, key, {"query_mask": query.mask, **options})
    repeats = int(config["num_query_heads"]) // int(config["num_key_value_heads"])
    return _with_mask(_attend(g, layer, call, [1], int(config["head_dim"]), repeats), query.mask)


def _with_mask(result: Outputs, mask: Value | None) -> Outputs:
    if isinstance(result, Value):
        return replace(result, mask=mask)
    return replace(result[0], mask=mask), result[1]


def _call(
    g: Graph, layer: StoredLayer, query: Value, value: Value, key: Value | None, options: dict[str, Nested]
) -> Call:
    """The inputs in Keras' order, and all masks."""
    value_mask = options.get("value_mask") or value.mask
    key_mask = options.get("key_mask") or (key.mask if key is not None else None)
    query, value = g.in_keras_order(query), g.in_keras_order(value)
    pairs = ((options.get("query_mask"), -1), (value_mask, -2), (key_mask, -2))
    masks = [with_axis(g, mask, axis) for mask, axis in pairs if mask is not None]
    if options.get("use_causal_mask"):
        masks.append(expand(g, not_before(g, query, 1, value, 1), 0))
    window = layer.config.get("sliding_window")
    if window is not None:
        masks.append(_window(g, query, value, int(window)))
    if options.get("attention_mask") is not None:
        masks.append(g.cast(g.in_keras_order(options["attention_mask"]), "bool"))
    key = value if key is None else g.in_keras_order(key)
    return Call(query, value, key, masks, bool(options.get("return_attention_scores")))


def _window(g: Graph, query: Value, value: Value, size: int) -> Value:
    """Whether positions are less than `size` apart, (1, queries, keys)."""
    rows, columns = expand(g, positions(g, query, 1), -1), expand(g, positions(g, value, 1), 0)
    apart = unary(g, "Abs", elementwise(g, "Sub", rows, columns))
    return expand(g, elementwise(g, "Less", apart, np.asarray(size), dtype="bool"), 0)


def _attend(g: Graph, layer: StoredLayer, call: Call, axes: list[int], width: int, repeats: int) -> Outputs:
    """Projects, attends over `axes`, and projects back.

    Keras computes differently, with the same result but for rounding and queries whose keys are all masked: it scales the scores
    (in float32) or, where scores are given or dropout would be, the queries.
    """
    gate = unary(g, "Sigmoid", _project(g, layer, "gate_dense", call.query)) if layer.config.get("use_gate") else None
    query = _project(g, layer, "query_dense", call.query)
    key = _project(g, layer, "key_dense", call.key)
    value = _project(g, layer, "value_dense", call.value)
    if repeats > 1:
        key, value = _repeated(g, key, repeats), _repeated(g, value, repeats)
    plain = query.rank == 4 and not call.scores and not layer.config.get("dropout")
    scale = 1.0 / math.sqrt(width)
    if not plain:
        query = elementwise(g, "Mul", query, scale)
    scores = matmul(g, _rows(g, query, axes), _columns(g, key, axes))
    if plain:
        scores = elementwise(g, "Mul", g.cast(scores, _wide(scores.dtype)), scale)
    sides = Sides(query, key, axes)
    weights = g.cast(_weights(g, scores, _mask(g, call.masks, sides), sides, plain=plain), key.dtype)
    result = _arranged(g, matmul(g, weights, _rows(g, value, axes)), query, axes)
    if gate is not None:
        result = elementwise(g, "Mul", result, gate)
    output = _project(g, layer, "output_dense", result, bound=2)
    if not call.scores:
        return output
    return output, reshape(g, replace(weights, mask=None), sides.shape, sides.sizes(g)) if len(axes) > 1 else weights


def _wide(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


@dataclass(frozen=True, slots=True)
class Sides:
    """The axes of the scores, as Keras has them: batch axes, heads, those of the queries, those of the keys."""

    query: Value
    key: Value
    axes: Sequence[int]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The sizes that are known."""
        others = [self.query.shape[axis] for axis in _others(self.query, self.axes)]
        return (*others, *(x.shape[axis] for x in (self.query, self.key) for axis in self.axes))

    def sizes(self, g: Graph) -> list[Value]:
        """All sizes."""
        parts = [size_of(g, self.query, axis) for axis in (*_others(self.query, self.axes), *self.axes)]
        return [*parts, *(size_of(g, self.key, axis) for axis in self.axes)]


def _weights(g: Graph, scores: Value, mask: Value | None, sides: Sides, *, plain: bool) -> Value:
    """The softmax of scores (others, queries, keys), of which masked ones get no weight."""
    if mask is None:
        return unary(g, "Softmax", scores, axis=-1)

    def masked(x: Value, otherwise: float) -> Value:
        wide = reshape(g, x, sides.shape, sides.sizes(g)) if len(sides.axes) > 1 else x
        wide = elementwise(g, "Where", mask, wide, g.value(otherwise, x.dtype), dtype=x.dtype)
        if len(sides.axes) == 1:
            return wide
        return g.node("Reshape", [wide, sizes_of(g, scores, range(scores.rank))], scores.shape)

    lowest = LOWEST if plain else -3e4 if scores.dtype == "float16" else -1e9
    weights = unary(g, "Softmax", masked(scores, lowest), axis=-1)
    return weights if plain else masked(weights, 0.0)


def _mask(g: Graph, masks: Sequence[Value], sides: Sides) -> Value | None:
    """All masks as one that can be broadcast to the scores."""
    if not masks:
        return None
    mask = masks[0]
    for other in masks[1:]:
        mask = elementwise(g, "And", mask, other)
    for _ in range(len(sides.shape) - mask.rank):
        mask = expand(g, mask, -2 * len(sides.axes) - 1)
    return mask


def _project(g: Graph, layer: StoredLayer, name: str, x: Value, *, bound: int = 1) -> Value:
    """The product of the last `bound` axes with the kernel of a part, plus its bias."""
    part = layer.parts[name]
    refuse_quantised(part)
    kernel = part.array("kernel").astype(numpy_dtype(x.dtype), copy=False)
    made = kernel.shape[bound:]
    kept = x.rank - bound
    if bound > 1:
        size = int(np.prod(kernel.shape[:bound]))
        x = g.node("Reshape", [x, integers(*[0] * kept, size)], (*x.shape[:kept], size))
    with g.scope(name.removesuffix("_dense")):
        result = matmul(g, x, g.weight("kernel", kernel.reshape(x.shape[-1] or 1, -1)))
        if "bias" in part.weights:
            refuse_other_axis(layer, (*x.shape[:kept], *made), part.array("bias").shape)
            bias = part.array("bias").reshape(-1).astype(numpy_dtype(x.dtype), copy=False)
            result = elementwise(g, "Add", result, g.weight("bias", bias))
        if len(made) == 1:
            return result
        return g.node("Reshape", [result, integers(*[0] * kept, *made)], (*result.shape[:kept], *made))


def _repeated(g: Graph, x: Value, count: int) -> Value:
    """(N, S, heads, D) with each head `count` times."""
    heads, width = x.shape[2] or 0, x.shape[3] or 0
    wide = g.node("Expand", [expand(g, x, 3), integers(1, 1, 1, count, 1)], (*x.shape[:2], heads, count, width))
    return g.node("Reshape", [wide, integers(0, 0, heads * count, width)], (*x.shape[:2], heads * count, width))


def _others(x: Value, axes: Sequence[int]) -> list[int]:
    """The axes that are not attended over, but for the last one: the batch and the heads among them."""
    return [axis for axis in range(x.rank - 1) if axis not in axes]


def _rows(g: Graph, x: Value, axes: Sequence[int]) -> Value:
    """(N, ..., heads, D) as (others, attended, D); several attended axes become one."""
    others, last = _others(x, axes), x.rank - 1
    x = transpose(g, x, [*others, *axes, last])
    if len(axes) == 1:
        return x
    shape = (*x.shape[: len(others)], None, x.shape[last])
    return g.node("Reshape", [x, integers(*[0] * len(others), -1, x.shape[last] or 0)], shape)


def _columns(g: Graph, x: Value, axes: Sequence[int]) -> Value:
    """The same as (others, D, attended)."""
    others, last = _others(x, axes), x.rank - 1
    width = x.shape[last] or 0
    x = transpose(g, x, [*others, last, *axes])
    if len(axes) == 1:
        return x
    return g.node("Reshape", [x, integers(*[0] * len(others), width, -1)], (*x.shape[: len(others)], width, None))


def _arranged(g: Graph, x: Value, query: Value, axes: Sequence[int]) -> Value:
    """(others, attended, D) with its axes where those of the query are."""
    others, last = _others(query, axes), query.rank - 1
    order = [*others, *axes, last]
    if len(axes) > 1:
        sizes = sizes_of(g, query, axes)
        ends = [g.constant(integers(*[0] * len(others))), sizes, g.constant(integers(x.shape[-1] or 0))]
        shape = (*x.shape[: len(others)], *(query.shape[axis] for axis in axes), x.shape[-1])
        x = g.node("Reshape", [x, g.node("Concat", ends, (len(shape),), "int64", axis=0)], shape)
    return transpose(g, x, [order.index(axis) for axis in range(query.rank)])

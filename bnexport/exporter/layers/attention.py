"""Attention and AdditiveAttention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnexport.exporter.arithmetic import elementwise, expand, matmul, reduce, transpose, unary
from bnexport.exporter.graph import Graph, Value
from bnexport.exporter.layers.core import stored
from bnexport.exporter.layers.series import positions
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer

Outputs = Value | tuple[Value, Value]
"""What is attended to, and the scores where they are asked for."""


@emits("Attention", "AdditiveAttention", mask="own")
def attention(
    g: Graph,
    layer: StoredLayer,
    inputs: Sequence[Value],
    mask: Sequence[Value | None] | None = None,
    *,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Outputs:
    """softmax(scores) V; the scores are products of queries and keys, or sums of tanh(q + k)."""
    query, value, *rest = [g.in_keras_order(x) for x in inputs]
    key = rest[0] if rest else value
    query_mask, value_mask = list(mask)[:2] if mask is not None else [x.mask for x in inputs[:2]]
    scores = _scores(g, layer, query, key)
    keep = None if value_mask is None else with_axis(g, value_mask, -2)
    if use_causal_mask:
        causal = expand(g, not_before(g, query, query.rank - 2, key, key.rank - 2), 0)
        keep = causal if keep is None else elementwise(g, "And", keep, causal)
    if keep is not None:
        hidden = elementwise(g, "Sub", scores, 65504.0 if scores.dtype == "float16" else 1.0e9)
        scores = elementwise(g, "Where", keep, scores, hidden, dtype=scores.dtype)
    weights = unary(g, "Softmax", scores, axis=-1)
    result = matmul(g, weights, value)
    if query_mask is not None:
        kept = with_axis(g, query_mask, -1)
        result = elementwise(g, "Where", kept, result, g.value(0.0, result.dtype), dtype=result.dtype)
    result = replace(result, mask=query_mask)
    return (result, replace(weights, mask=None)) if return_attention_scores else result


def with_axis(g: Graph, mask: Value, axis: int) -> Value:
    """A mask as bool, with one more axis."""
    return expand(g, g.cast(g.in_keras_order(mask), "bool"), axis)


def _scores(g: Graph, layer: StoredLayer, query: Value, key: Value) -> Value:
    """(..., queries, keys)."""
    scale = stored(g, layer, "scale", query.dtype) if layer.config.get("use_scale", layer.kind != "Attention") else None
    additive = layer.kind == "AdditiveAttention"
    if not additive and layer.config.get("score_mode", "dot") == "dot":
        axes = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
        scores = matmul(g, query, transpose(g, key, axes))
        return scores if scale is None else elementwise(g, "Mul", scores, scale)
    sums = elementwise(g, "Add", expand(g, query, -2), expand(g, key, -3))
    if scale is not None and not additive:
        sums = elementwise(g, "Mul", sums, scale)
    values = unary(g, "Tanh", sums)
    if scale is not None and additive:
        values = elementwise(g, "Mul", values, scale)
    total = reduce(g, "ReduceSum", values, [-1])
    return total if additive else elementwise(g, "Mul", total, stored(g, layer, "concat_score_weight", query.dtype))


def not_before(g: Graph, queries: Value, axis: int, keys: Value, other: int) -> Value:
    """Whether the position of a query is not before that of a key, (queries, keys): what a causal mask keeps."""
    rows, columns = expand(g, positions(g, queries, axis), -1), expand(g, positions(g, keys, other), 0)
    return elementwise(g, "GreaterOrEqual", rows, columns, dtype="bool")

"""Embeddings that also go back from vectors to the numbers of tokens."""

from __future__ import annotations

from bnexport.exporter.arithmetic import elementwise, matmul, transpose, unary
from bnexport.exporter.graph import Graph, Value
from bnexport.exporter.layers import quantised
from bnexport.exporter.layers.core import embedding, stored
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer


@emits("ReversibleEmbedding", mask="own")
def reversible_embedding(g: Graph, layer: StoredLayer, inputs: Value, *, reverse: bool = False) -> Value:
    """The rows of a table by number, or the products with all rows (or with another table), perhaps within a soft limit."""
    if not reverse:
        made: Value = embedding(g, layer, inputs)
        return made
    dtype = str(layer.config.get("reverse_dtype") or inputs.dtype)
    if quantised.is_quantised(layer):
        logits = _quantised_logits(g, layer, inputs)
    elif layer.config.get("tie_weights", True):
        table = stored(g, layer, "embeddings", inputs.dtype)
        kernel = transpose(g, g.cast(table, dtype), [1, 0])  # in the graph, so that the file has the table once
        logits = matmul(g, g.cast(inputs, dtype), kernel)
    else:
        kernel = g.cast(stored(g, layer, "reverse_embeddings", inputs.dtype), dtype)
        logits = matmul(g, g.cast(inputs, dtype), kernel)
    limit = layer.config.get("logit_soft_cap")
    if limit is None:
        return logits
    return elementwise(g, "Mul", unary(g, "Tanh", elementwise(g, "Div", logits, float(limit))), float(limit))


def _quantised_logits(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    name = "embeddings" if layer.config.get("tie_weights", True) else "reverse_embeddings"
    kernel = quantised.weight(g, layer, name, "float32")
    if name == "embeddings":
        kernel = transpose(g, kernel, [1, 0])
    scale = stored(g, layer, f"{name}_scale", inputs.dtype)
    return quantised.product(g, layer, inputs, [-1], scale, lambda x: matmul(g, x, kernel), lambda factor: factor)

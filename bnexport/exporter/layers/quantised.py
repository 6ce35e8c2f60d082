"""Layers whose weights Keras quantised to 8 bits (`model.quantize("int8")`), which mostly quantise their inputs, too.

Products are sums of whole numbers below 2^14, which float32 holds; the file has the weights in 8 bits. That is what Keras
computes, and every runtime computes it alike: for MatMulInteger some CPUs have kernels that saturate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bnexport.exporter.arithmetic import elementwise, expand, reduce, squeeze, transpose, unary
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import quantisation_mode

_RANGE, _EPSILON = (-127, 127), 1e-7
"""What `keras.quantizers.AbsMaxQuantizer` has where a file says nothing."""


def is_quantised(layer: StoredLayer) -> bool:
    """Whether the weights of a layer are quantised to 8 bits.

    Raises:
        NotCovered: they are quantised otherwise.
    """
    mode = quantisation_mode(layer.config)
    if mode is None and not any(name.endswith("_scale") for name in layer.weights):
        return False
    if mode != "int8":
        raise NotCovered(
            f"weights quantised by {mode or 'a mode that the file does not name'} (the layer {layer.path})"
        )
    return True


def refuse_quantised(layer: StoredLayer) -> None:
    """Leaves layers with quantised weights to Keras, which quantises their inputs too.

    Raises:
        NotCovered: it is one.
    """
    if any(name.endswith("_scale") for name in layer.weights):
        raise NotCovered(f"the quantised weights of the layer {layer.path}")


def weight(g: Graph, layer: StoredLayer, name: str, dtype: str) -> Value:
    """A quantised weight as a number of another dtype, in the graph, so that the file has 8 bits."""
    return g.cast(g.weight(name, layer.array(name)), dtype)


def product(
    g: Graph,
    layer: StoredLayer,
    x: Value,
    axes: Sequence[int],
    scale: Value,
    multiply: Callable[[Value], Value],
    align: Callable[[Value], Value],
) -> Value:
    """A product of an input with a quantised weight.

    Args:
        g: the graph.
        layer: the layer.
        x: the input.
        axes: of the input over which sums are taken.
        scale: of the weight, as it fits the result.
        multiply: gives the product of an input in float32 with the weight.
        align: makes the scale of the input, whose summed axes have one number, fit the result.
    """
    dtype = x.dtype
    quantizer = _inputs_quantizer(layer)
    if quantizer is not None:
        low, high = quantizer.get("value_range") or _RANGE
        size = elementwise(
            g,
            "Add",
            reduce(g, "ReduceMax", unary(g, "Abs", x), axes, keepdims=True),
            float(quantizer.get("epsilon", _EPSILON)),
        )
        factor = g.node("Div", [g.value(float(high), dtype), size], size.shape)
        x = unary(g, "Round", elementwise(g, "Mul", x, factor))
        x = g.node("Clip", [x, g.value(float(low), dtype), g.value(float(high), dtype)], x.shape)
        scale = elementwise(g, "Mul", align(factor), scale)
    return elementwise(g, "Div", g.cast(multiply(g.cast(x, "float32")), dtype), scale)


def _inputs_quantizer(layer: StoredLayer) -> Config | None:
    """The configuration of what quantises the inputs; None where nothing does."""
    config = layer.config.get("quantization_config")
    if not isinstance(config, dict):  # before Keras 3.13
        return {}
    quantizer = config.get("config", {}).get("activation_quantizer")
    if quantizer is None:
        return None
    inner = quantizer.get("config", {}) if isinstance(quantizer, dict) else None
    if inner is None or quantizer.get("class_name") != "AbsMaxQuantizer" or inner.get("output_dtype", "int8") != "int8":
        raise NotCovered(f"what quantises the inputs of the layer {layer.path}")
    return dict(inner)


def aligned(g: Graph, scale: Value, left: str, result: str) -> Value:
    """The scale of an input with the axes `left`, of which those that are not in `result` have one number, with the axes of `result`."""
    kept = [letter for letter in left if letter in result]
    scale = squeeze(g, scale, *(axis for axis, letter in enumerate(left) if letter not in result))
    scale = transpose(g, scale, sorted(range(len(kept)), key=lambda position: result.index(kept[position])))
    return expand(g, scale, *(axis for axis, letter in enumerate(result) if letter not in kept))


def rows(g: Graph, layer: StoredLayer, name: str, ids: Value, dtype: str) -> Value:
    """The rows of a quantised table by number."""
    table, scale = layer.array(name), layer.array(f"{name}_scale")
    shape = (*ids.shape, table.shape[1])
    picked = g.cast(g.node("Gather", [g.weight(name, table), ids], shape, str(table.dtype)), dtype)
    factor = g.node("Gather", [g.weight(f"{name}_scale", scale.astype(np.float32)), ids], ids.shape, "float32")
    return elementwise(g, "Div", picked, expand(g, g.cast(factor, dtype), -1))

"""Nodes of `keras.ops` with windows: convolutions with constant kernels, patches, pooling."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers import pooling
from bnexport.exporter.layers.convolution import convolve, depthwise_first, outputs_first
from bnexport.exporter.promotion import Operand, as_value
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array


def _constant(g: Graph, kernel: Operand, layer: StoredLayer) -> Array:
    """The numbers of a kernel.

    Raises:
        NotCovered: the graph computes them.
    """
    array = g.array(as_value(g, kernel))
    if array is None:
        raise NotCovered(f"the operation {layer.kind} with a kernel that the graph computes")
    return array


@emits_operation("Conv")
def conv(g: Graph, layer: StoredLayer, inputs: Operand, kernel: Operand) -> Value:
    """A convolution with a constant kernel."""
    x, weights = as_value(g, inputs), _constant(g, kernel, layer)
    channels = x.shape[1] if layer.config.get("data_format") == "channels_first" else x.shape[-1]
    groups = 1 if channels is None else channels // weights.shape[-2]
    return convolve(g, layer, x, outputs_first(weights), bias=False, groups=groups)


@emits_operation("DepthwiseConv")
def depthwise_conv(g: Graph, layer: StoredLayer, inputs: Operand, kernel: Operand) -> Value:
    """One convolution for each channel, with a constant kernel."""
    weights = _constant(g, kernel, layer)
    x = as_value(g, inputs)
    return convolve(g, layer, x, depthwise_first(weights), bias=False, groups=weights.shape[-2])


@emits_operation("SeparableConv")
def separable_conv(
    g: Graph, layer: StoredLayer, inputs: Operand, depthwise_kernel: Operand, pointwise_kernel: Operand
) -> Value:
    """One convolution for each channel, then one across channels."""
    x = depthwise_conv(g, layer, inputs, depthwise_kernel)
    weights = outputs_first(_constant(g, pointwise_kernel, layer))
    return convolve(g, layer, x, weights, bias=False, unit=True, name="pointwise_kernel")


@emits_operation("ExtractPatches")
def extract_patches(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """The pixels of each window as channels.

    Raises:
        NotCovered: it is of volumes, or of a single image.
    """
    x, config = as_value(g, images), dict(layer.config)
    size = config["size"]
    sides = [size, size] if isinstance(size, int) else list(size)
    channels = x.shape[1] if config.get("data_format") == "channels_first" else x.shape[-1]
    if x.rank != len(sides) + 2 or channels is None:
        raise NotCovered("the patches of a single image")
    config["strides"] = config.get("strides") or sides
    count = prod(sides) * channels
    kernel = np.eye(count, dtype=x.dtype).reshape(*sides, channels, count)
    return convolve(g, replace(layer, config=config), x, outputs_first(kernel), bias=False, name="patches")


def _as_layer(layer: StoredLayer, kind: str, x: Value) -> StoredLayer:
    """The layer that computes what an operation does."""
    return replace(layer, kind=f"{kind}Pooling{x.rank - 2}D")


@emits_operation("MaxPool", "AveragePool")
def pool(g: Graph, layer: StoredLayer, inputs: Operand) -> Value:
    """Pooling by windows."""
    x = as_value(g, inputs)
    made: Value = pooling.pooling(g, _as_layer(layer, layer.kind.removesuffix("Pool"), x), x)
    return made


@emits_operation("AdaptiveMaxPool", "AdaptiveAveragePool")
def adaptive_pool(g: Graph, layer: StoredLayer, inputs: Operand) -> Value:
    """Pooling to a fixed size."""
    x = as_value(g, inputs)
    made: Value = pooling.adaptive(g, _as_layer(layer, layer.kind.removesuffix("Pool"), x), x)
    return made

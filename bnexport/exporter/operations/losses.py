"""Nodes of `keras.ops.nn` that are losses, and of `keras.ops.image` that change colours or filter images with fixed kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnexport.exporter.arithmetic import axis_of, elementwise, reduce, reshape, squeeze, unary
from bnexport.exporter.axes import pad, reduce_over, tensor_axis
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.convolution import convolve, depthwise_first
from bnexport.exporter.layers.merging import EPSILON
from bnexport.exporter.layers.preprocessing import one_hot
from bnexport.exporter.promotion import Operand, as_value
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array


def _shares(g: Graph, x: Value) -> Value:
    """Probabilities that have a logarithm."""
    return elementwise(g, "Min", elementwise(g, "Max", x, EPSILON), 1.0 - EPSILON)


def _logits(g: Graph, layer: StoredLayer, output: Operand) -> tuple[Value, bool]:
    """The output, or what went into the softmax or sigmoid that it comes from, which Keras takes instead; and whether it is logits."""
    x = as_value(g, output)
    before = g.logits.get(x.name)
    if before is None:
        return x, bool(layer.config.get("from_logits"))
    return replace(before, shape=x.shape, channels_first=x.channels_first), True


@emits_operation("BinaryCrossentropy")
def binary_crossentropy(g: Graph, layer: StoredLayer, target: Operand, output: Operand) -> Value:
    """-(t log(p) + (1 - t) log(1 - p)), of logits without overflow."""
    x, of_logits = _logits(g, layer, output)
    t = as_value(g, target, x.dtype)
    if of_logits:
        small = unary(g, "Exp", unary(g, "Neg", unary(g, "Abs", x)))
        rest = elementwise(g, "Sub", unary(g, "Relu", x), elementwise(g, "Mul", x, t))
        return elementwise(g, "Add", rest, unary(g, "Log", elementwise(g, "Add", small, 1.0)))
    p, one = _shares(g, x), g.value(1.0, x.dtype)
    hit = elementwise(g, "Mul", t, unary(g, "Log", p))
    miss = elementwise(g, "Mul", elementwise(g, "Sub", one, t), unary(g, "Log", elementwise(g, "Sub", one, p)))
    return unary(g, "Neg", elementwise(g, "Add", hit, miss))


@emits_operation("CategoricalCrossentropy")
def categorical_crossentropy(g: Graph, layer: StoredLayer, target: Operand, output: Operand) -> Value:
    """-sum(t log(p)) over the axis of the classes."""
    x, of_logits = _logits(g, layer, output)
    axis = axis_of(x, int(layer.config.get("axis", -1)))
    if of_logits:
        logs = unary(g, "LogSoftmax", x, axis=tensor_axis(x, axis))
    else:
        total = reduce_over(g, "ReduceSum", x, [axis], keepdims=True)
        logs = unary(g, "Log", _shares(g, elementwise(g, "Div", x, total)))
    products = elementwise(g, "Mul", as_value(g, target, x.dtype), logs)
    return unary(g, "Neg", reduce_over(g, "ReduceSum", products, [axis]))


@emits_operation("SparseCategoricalCrossentropy")
def sparse_crossentropy(g: Graph, layer: StoredLayer, target: Operand, output: Operand) -> Value:
    """The same of the numbers of the classes."""
    given, of_logits = _logits(g, layer, output)
    x, ids = g.in_keras_order(given), as_value(g, target, "int64")
    classes = x.shape[-1]
    if classes is None:
        raise NotCovered("sparse_categorical_crossentropy of an open number of classes")
    if ids.rank == x.rank and ids.shape[-1] == 1:
        ids = squeeze(g, ids, -1)
    logits = x if of_logits else unary(g, "Log", _shares(g, x))
    logs = unary(g, "LogSoftmax", logits, axis=x.rank - 1)
    return unary(g, "Neg", reduce(g, "ReduceSum", elementwise(g, "Mul", one_hot(g, ids, classes, x.dtype), logs), [-1]))


@emits_operation("PSNR")
def signal_to_noise(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """The peak signal-to-noise ratio of two images in decibels."""
    a = as_value(g, x1)
    apart = elementwise(g, "Sub", a, as_value(g, x2, a.dtype))
    error = reduce_over(g, "ReduceMean", elementwise(g, "Mul", apart, apart), range(a.rank))
    decibels = elementwise(g, "Mul", unary(g, "Log", error), float(-10 / np.log(10)))
    return elementwise(g, "Add", decibels, float(20 * np.log10(float(layer.config["max_val"]))))


def _colours(g: Graph, layer: StoredLayer, images: Operand) -> tuple[Value, list[Value], int]:
    """The three channels of images with an axis of size 1, and which axis that is."""
    x = g.in_keras_order(as_value(g, images))
    axis = x.rank - 3 if layer.config.get("data_format") == "channels_first" else x.rank - 1
    shape = [1 if place == axis else side for place, side in enumerate(x.shape)]
    parts = g.node_with_outputs("Split", [x], [(tuple(shape), x.dtype)] * 3, axis=axis, num_outputs=3)
    return x, parts, axis


def _together(g: Graph, x: Value, parts: list[Value], axis: int) -> Value:
    return g.node("Concat", parts, x.shape, x.dtype, axis=axis)


def _where(g: Graph, condition: Value, a: Value, b: Value) -> Value:
    return elementwise(g, "Where", condition, a, b, dtype=a.dtype)


@emits_operation("RGBToHSV")
def to_hue(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """Hue, saturation and value of the colours."""
    x, (red, green, blue), axis = _colours(g, layer, images)
    zero, one = g.value(0.0, x.dtype), g.value(1.0, x.dtype)
    value = elementwise(g, "Max", red, green, blue)
    spread = elementwise(g, "Sub", value, elementwise(g, "Min", red, green, blue))
    bright, coloured = (elementwise(g, "Greater", part, 0.0, dtype="bool") for part in (value, spread))
    saturation = _where(g, bright, elementwise(g, "Div", spread, _where(g, bright, value, one)), zero)
    sixth = elementwise(g, "Div", g.value(1 / 6, x.dtype), _where(g, coloured, spread, one))

    def turned(a: Value, b: Value, start: float) -> Value:
        return elementwise(g, "Add", elementwise(g, "Mul", sixth, elementwise(g, "Sub", a, b)), start)

    is_red, is_green = (elementwise(g, "Equal", part, value, dtype="bool") for part in (red, green))
    hue = _where(g, is_green, turned(blue, red, 2 / 6), turned(red, green, 4 / 6))
    hue = _where(g, coloured, _where(g, is_red, turned(green, blue, 0.0), hue), zero)
    below = elementwise(g, "Less", hue, 0.0, dtype="bool")
    return _together(g, x, [_where(g, below, elementwise(g, "Add", hue, 1.0), hue), saturation, value], axis)


@emits_operation("HSVToRGB")
def from_hue(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """The colours of a hue from 0 to 1, a saturation and a value: value - value * saturation * max(min(k, 4 - k, 1), 0)."""
    x, (hue, saturation, value), axis = _colours(g, layer, images)
    chroma, turn = elementwise(g, "Mul", value, saturation), elementwise(g, "Mul", hue, 6.0)
    parts = []
    for start in (5.0, 3.0, 1.0):
        k = elementwise(g, "Add", turn, start)
        rounds = unary(g, "Floor", elementwise(g, "Div", k, 6.0))
        k = elementwise(g, "Sub", k, elementwise(g, "Mul", rounds, 6.0))
        other = elementwise(g, "Sub", g.value(4.0, x.dtype), k)
        least = elementwise(g, "Min", k, other, g.value(1.0, x.dtype))
        parts.append(elementwise(g, "Sub", value, elementwise(g, "Mul", chroma, elementwise(g, "Max", least, 0.0))))
    return _together(g, x, parts, axis)


def _filtered(g: Graph, layer: StoredLayer, x: Value, kernel: Array, padding: str) -> Value:
    """Each channel of images with the last axis for channels times a kernel (rows, columns, filters)."""
    channels = x.shape[-1]
    if x.rank != 4 or channels is None or layer.config.get("data_format") == "channels_first":
        raise NotCovered(f"{layer.kind} of single images, of an open number of channels, or of channels_first")
    weights = np.repeat(kernel[:, :, None, :], channels, axis=2).astype(x.dtype)
    plain = replace(layer, config={"padding": padding, "strides": 1})
    return convolve(g, plain, x, depthwise_first(weights), bias=False, groups=channels)


@emits_operation("GaussianBlur")
def blur(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """Images times a Gaussian bell."""
    x, config = as_value(g, images), layer.config
    size, sigma = (
        tuple(config.get(name, default)) for name, default in (("kernel_size", (3, 3)), ("sigma", (1.0, 1.0)))
    )
    bells = []
    for side, width in zip(size, sigma, strict=True):
        bell = np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / width) ** 2)
        bells.append(bell / bell.sum())
    kernel = np.outer(bells[1], bells[0]).reshape(int(size[0]), int(size[1]), 1)
    return _filtered(g, layer, x, kernel, "same")


@emits_operation("SobelEdges")
def edges(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """How fast brightness grows downwards and to the right, on a new last axis."""
    x = as_value(g, images)
    down = np.asarray([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    kernel = np.stack([down, down.T], axis=-1)
    wide = pad(g, x, {1: (1, 1), 2: (1, 1)}, mode="reflect")
    made = _filtered(g, layer, wide, kernel, "valid")
    if None in x.shape[1:]:
        raise NotCovered("SobelEdges of images of open size")
    return reshape(g, made, (*x.shape, 2))

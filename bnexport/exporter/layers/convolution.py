"""Convolutions: 1 to 3 axes, transposed, depthwise and separable, in either data format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnexport.exporter.arithmetic import integers
from bnexport.exporter.graph import Graph, Value, numpy_dtype
from bnexport.exporter.layers.core import finish, refuse_other_axis
from bnexport.exporter.layers.quantised import refuse_quantised
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array


def numbers(given: int | Sequence[int], count: int) -> list[int]:
    """One number for each axis; a configuration may give one for all."""
    if isinstance(given, int):
        return [given] * count
    values = [int(value) for value in given]
    return values * count if len(values) == 1 else values


def channels_second(g: Graph, layer: StoredLayer, x: Value) -> tuple[Value, bool]:
    """The input with the channels second in its tensor, and whether that is not Keras' order for this layer."""
    if layer.config.get("data_format") == "channels_first":
        return g.in_keras_order(x), False
    return g.with_channels_first(x), True


def keras_shape(
    batch: int | None, sides: Sequence[int | None], channels: int | None, *, last: bool
) -> tuple[int | None, ...]:
    """The shape of a result in the layer's data format."""
    return (batch, *sides, channels) if last else (batch, channels, *sides)


def sides_of(x: Value, *, last: bool) -> tuple[int | None, ...]:
    """The sides of an image or a series, without batch and channels."""
    return x.shape[1:-1] if last else x.shape[2:]


def window(
    sides: Sequence[int | None], size: Sequence[int], strides: Sequence[int], dilations: Sequence[int], padding: str
) -> tuple[list[int] | None, list[int | None]]:
    """The padding before and behind each axis as TensorFlow has it, and the sides of the result.

    Args:
        sides: of the input, None for open ones.
        size: of the window.
        strides: between windows.
        dilations: between the numbers of a window.
        padding: "valid", "same" or "causal".

    Returns:
        None for the padding where it depends on sizes that are known when the graph runs (ONNX' SAME_UPPER is the same).
    """
    begins: list[int] = []
    ends: list[int] = []
    result: list[int | None] = []
    open_same = False
    for side, length, stride, dilation in zip(sides, size, strides, dilations, strict=True):
        reach = (length - 1) * dilation + 1
        before = after = 0
        if padding == "causal":
            before = reach - 1
        elif padding == "same" and side is None and stride > 1:
            open_same = True
        elif padding == "same":
            total = reach - 1 if side is None else max((-(-side // stride) - 1) * stride + reach - side, 0)
            before, after = total // 2, total - total // 2
        begins.append(before)
        ends.append(after)
        if side is None:
            result.append(None)
        elif padding == "same":
            result.append(-(-side // stride))
        else:
            result.append((side + before + after - reach) // stride + 1)
    return None if open_same else [*begins, *ends], result


def leaps(sides: Sequence[int | None], reach: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether a stride along an axis of open size is longer than the window: SAME_UPPER is wrong there in onnxruntime, which pads by less than 0."""
    axes = zip(sides, reach, strides, strict=True)
    return any(side is None and stride > length for side, length, stride in axes)


def pad_same(
    g: Graph, x: Value, reach: Sequence[int], strides: Sequence[int], *, last: bool, number: float = 0.0
) -> Value:
    """An image that windows cover as TensorFlow's "same" padding has it, by the sizes that are known when the graph runs.

    Args:
        g: the graph.
        x: with the channels second in its tensor.
        reach: how much of each axis a window covers.
        strides: between windows.
        last: whether the channels are last in Keras' order.
        number: what is put around it.
    """
    axes = len(reach)
    length, step, one = integers(*reach), integers(*strides), integers(1)
    sides = g.node("Shape", [x], (axes,), "int64", start=2)
    count = g.node("Div", [g.node("Sub", [g.node("Add", [sides, step], (axes,)), one], (axes,)), step], (axes,))
    covered = g.node("Add", [g.node("Mul", [g.node("Sub", [count, one], (axes,)), step], (axes,)), length], (axes,))
    total = g.node("Max", [g.node("Sub", [covered, sides], (axes,)), integers(0)], (axes,))
    before = g.node("Div", [total, integers(2)], (axes,))
    after = g.node("Sub", [total, before], (axes,))
    none = g.constant(integers(0, 0))
    pads = g.node("Concat", [none, before, none, after], (2 * x.rank,), "int64", axis=0)
    shape = keras_shape(x.shape[0], [None] * axes, x.shape[-1] if last else x.shape[1], last=last)
    return g.node("Pad", [x, pads, g.value(number, x.dtype)], shape, x.dtype, channels_first=last, mode="constant")


def convolve(
    g: Graph,
    layer: StoredLayer,
    x: Value,
    kernel: Array,
    *,
    bias: bool = True,
    groups: int = 1,
    unit: bool = False,
    name: str = "kernel",
) -> Value:
    """One Conv node.

    Args:
        g: the graph.
        layer: where size, strides, dilation, padding and data format come from.
        x: the input.
        kernel: with the output channels first, then the input channels of a group.
        bias: whether the layer's bias is added.
        groups: into how many the channels fall.
        unit: a window of size 1, whatever the layer says (the pointwise part of a separable convolution).
        name: of the weight.
    """
    config = layer.config
    x, last = channels_second(g, layer, x)
    axes = kernel.ndim - 2
    size = list(kernel.shape[2:])
    strides = [1] * axes if unit else numbers(config.get("strides", 1), axes)
    dilations = [1] * axes if unit else numbers(config.get("dilation_rate", 1), axes)
    padding = "valid" if unit else str(config.get("padding", "valid"))
    pads, sides = window(sides_of(x, last=last), size, strides, dilations, padding)
    reach = [(length - 1) * dilation + 1 for length, dilation in zip(size, dilations, strict=True)]
    if pads is None and leaps(sides_of(x, last=last), reach, strides):
        x, pads = pad_same(g, x, reach, strides, last=last), [0] * 2 * axes
    shape = keras_shape(x.shape[0], sides, kernel.shape[0], last=last)
    inputs = [x, g.weight(name, np.ascontiguousarray(kernel.astype(numpy_dtype(x.dtype), copy=False)))]
    if bias and config.get("use_bias", True):
        refuse_other_axis(layer, shape, keras_shape(1, [1] * axes, kernel.shape[0], last=last))
        inputs.append(g.weight("bias", layer.array("bias").reshape(-1).astype(numpy_dtype(x.dtype), copy=False)))
    return g.node(
        "Conv",
        inputs,
        shape,
        channels_first=last,
        kernel_shape=size,
        strides=strides,
        dilations=dilations,
        group=groups,
        pads=pads,
        auto_pad="SAME_UPPER" if pads is None else None,
    )


def outputs_first(kernel: Array) -> Array:
    """A kernel of Keras (window, input channels, output channels) as ONNX has it: output channels, input channels, window."""
    return np.transpose(kernel, (kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2)))


def depthwise_first(kernel: Array) -> Array:
    """A depthwise kernel of Keras (window, channels, multiplier) as ONNX has it: channels times multiplier, 1, window."""
    axes = kernel.ndim - 2
    moved = np.transpose(kernel, (axes, axes + 1, *range(axes)))
    return moved.reshape(-1, 1, *kernel.shape[:axes])


@emits("Conv1D", "Conv2D", "Conv3D", mask="off")
def convolution(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Convolutions in groups, dilated, strided, and causal in one dimension."""
    refuse_quantised(layer)
    groups = int(layer.config.get("groups", 1))
    return finish(g, layer, convolve(g, layer, inputs, outputs_first(layer.array("kernel")), groups=groups))


@emits("DepthwiseConv1D", "DepthwiseConv2D", mask="off")
def depthwise(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """One convolution for each channel."""
    name = "kernel" if "kernel" in layer.weights else "depthwise_kernel"
    kernel = layer.array(name)
    return finish(g, layer, convolve(g, layer, inputs, depthwise_first(kernel), groups=kernel.shape[-2], name=name))


@emits("SeparableConv1D", "SeparableConv2D", mask="off")
def separable(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """One convolution for each channel, then one with a window of size 1 across the channels."""
    first = layer.array("depthwise_kernel")
    x = convolve(g, layer, inputs, depthwise_first(first), bias=False, groups=first.shape[-2], name="depthwise_kernel")
    second = outputs_first(layer.array("pointwise_kernel"))
    return finish(g, layer, convolve(g, layer, x, second, unit=True, name="pointwise_kernel"))


@emits("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", mask="off")
def transposed(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Transposed convolutions, with the output sides that Keras gives them."""
    config = layer.config
    x, last = channels_second(g, layer, inputs)
    kernel = layer.array("kernel")
    axes = kernel.ndim - 2
    size = list(kernel.shape[:axes])
    strides = numbers(config.get("strides", 1), axes)
    dilations = numbers(config.get("dilation_rate", 1), axes)
    spare = config.get("output_padding")
    extra = [None] * axes if spare is None else numbers(spare, axes)
    begins: list[int] = []
    ends: list[int] = []
    longer: list[int] = []
    sides: list[int | None] = []
    for side, length, stride, dilation, more in zip(
        sides_of(x, last=last), size, strides, dilations, extra, strict=True
    ):
        begin, end, added, made = _transposed_side(side, length, stride, dilation, more, str(config["padding"]))
        begins.append(begin)
        ends.append(end)
        longer.append(added)
        sides.append(made)
    # ONNX has the input channels first, as Keras' kernel has after its output channels.
    weight = np.transpose(kernel, (axes + 1, axes, *range(axes)))
    values = [x, g.weight("kernel", np.ascontiguousarray(weight.astype(numpy_dtype(x.dtype), copy=False)))]
    shape = keras_shape(x.shape[0], sides, kernel.shape[-2], last=last)
    if config.get("use_bias", True):
        refuse_other_axis(layer, shape, keras_shape(1, [1] * axes, kernel.shape[-2], last=last))
        values.append(g.weight("bias", layer.array("bias").astype(numpy_dtype(x.dtype), copy=False)))
    result = g.node(
        "ConvTranspose",
        values,
        shape,
        channels_first=last,
        kernel_shape=size,
        strides=strides,
        dilations=dilations,
        pads=[*begins, *ends],
        output_padding=longer if any(longer) else None,
    )
    return finish(g, layer, replace(result, mask=None))


def _transposed_side(
    side: int | None, length: int, stride: int, dilation: int, more: int | None, padding: str
) -> tuple[int, int, int, int | None]:
    """What is cut off before and behind, what is added behind, and the side of the result.

    TensorFlow's transposed convolution is the gradient of a convolution over an image of the result's size, so that "same" padding is
    that of the convolution: half of it before, rounded down.
    """
    reach = (length - 1) * dilation + 1
    if padding == "same":
        surplus = reach - stride if more is None else reach - reach % 2 - more
        before = max(surplus, 0) // 2
    else:
        surplus = -(max(stride - reach, 0) if more is None else more)
        before = 0
    behind = surplus - before
    result = None if side is None else (side - 1) * stride + reach - surplus
    return before, max(behind, 0), max(-behind, 0), result

"""Pooling by windows, adaptive pooling to a fixed size, and over whole images or series."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from bnexport.exporter.arithmetic import elementwise, expand, reduce, squeeze
from bnexport.exporter.axes import reduce_over
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.convolution import (
    channels_second,
    keras_shape,
    leaps,
    numbers,
    pad_same,
    sides_of,
    window,
)
from bnexport.exporter.promotion import QUOTIENTS, widen
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer


@emits(
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    mask="off",
)
def pooling(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The largest number or the mean of each window; padding does not count."""
    config = layer.config
    x, last = channels_second(g, layer, inputs)
    axes = x.rank - 2
    size = numbers(config.get("pool_size", 2), axes)
    strides = numbers(config.get("strides") or size, axes)
    pads, sides = window(sides_of(x, last=last), size, strides, [1] * axes, str(config.get("padding", "valid")))
    channels = x.shape[-1] if last else x.shape[1]
    dtype = x.dtype
    shape = keras_shape(x.shape[0], sides, channels, last=last)
    x = _poolable(g, x)
    largest = layer.kind.startswith("Max")
    op = "MaxPool" if largest else "AveragePool"
    if pads is None and leaps(sides_of(x, last=last), size, strides):
        ones = None if largest else _ones_like(g, x)
        x = pad_same(g, x, size, strides, last=last, number=-np.inf if largest else 0.0)
        made = g.node(op, [x], shape, channels_first=last, kernel_shape=size, strides=strides)
        if ones is not None:  # divided by the share of each window that is inside
            ones = pad_same(g, ones, size, strides, last=last)
            share = g.node(op, [ones], shape, channels_first=last, kernel_shape=size, strides=strides)
            made = elementwise(g, "Div", made, share)
        return g.cast(made, dtype)
    made = g.node(
        op,
        [x],
        shape,
        channels_first=last,
        kernel_shape=size,
        strides=strides,
        pads=pads,
        auto_pad="SAME_UPPER" if pads is None else None,
    )
    return g.cast(made, dtype)


def _ones_like(g: Graph, x: Value) -> Value:
    shape = g.node("Shape", [x], (x.rank,), "int64")
    return g.node("Expand", [g.value(1.0, x.dtype), shape], x.shape, x.dtype, channels_first=x.channels_first)


def _poolable(g: Graph, x: Value) -> Value:
    """The same in a dtype that MaxPool and AveragePool take; integers, whose largest is wanted, in one that holds them.

    Raises:
        NotCovered: no floating-point dtype holds them.
    """
    if x.dtype in ("int64", "uint64"):
        raise NotCovered(f"the pooling of {x.dtype} numbers (cast them to int32 before it)")
    if x.dtype == "bfloat16":
        return g.cast(x, "float32")
    return g.cast(x, "float64") if "int" in x.dtype else x


@emits("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D", mask="off")
@emits("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D", mask="off")
def adaptive(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Pooling to a fixed size: one reduction for each position, of which there are few, or one window where the sides divide."""
    x, last = channels_second(g, layer, inputs)
    sides = sides_of(x, last=last)
    targets = numbers(layer.config["output_size"], len(sides))
    channels = x.shape[-1] if last else x.shape[1]
    if any(side is None for side in sides):
        raise NotCovered(f"the adaptive pooling {layer.path} of images of open size")
    known = [side or 0 for side in sides]
    largest, dtype = layer.kind.startswith("AdaptiveMax"), x.dtype
    if all(side % target == 0 for side, target in zip(known, targets, strict=True)):
        size = [side // target for side, target in zip(known, targets, strict=True)]
        shape = keras_shape(x.shape[0], targets, channels, last=last)
        op = "MaxPool" if largest else "AveragePool"
        x = _poolable(g, x)
        return g.cast(g.node(op, [x], shape, channels_first=last, kernel_shape=size, strides=size), dtype)
    return _adaptive_by_axis(g, x, known, targets, channels, last=last, largest=largest)


def _adaptive_by_axis(
    g: Graph,
    x: Value,
    sides: Sequence[int],
    targets: Sequence[int],
    channels: int | None,
    *,
    last: bool,
    largest: bool,
) -> Value:
    """Axis by axis: what a window covers is cut out, reduced and put together again."""
    done: list[int | None] = list(sides)
    for axis, (side, target) in enumerate(zip(sides, targets, strict=True)):
        parts = []
        done[axis] = 1
        shape = keras_shape(x.shape[0], done, channels, last=last)
        for nth in range(target):
            start, end = nth * side // target, -(-(nth + 1) * side // target)
            bounds = [np.asarray([number], np.int64) for number in (start, end, axis + 2)]
            cut = g.node("Slice", [x, *bounds], shape, channels_first=last)
            op = "ReduceMax" if largest else "ReduceMean"
            parts.append(g.node(op, [cut, bounds[2]], shape, channels_first=last, keepdims=1))
        done[axis] = target
        shape = keras_shape(x.shape[0], done, channels, last=last)
        x = g.node("Concat", parts, shape, channels_first=last, axis=axis + 2)
    return x


@emits(*(f"Global{kind}Pooling{axes}D" for kind, axes in itertools.product(("Average", "Max"), (1, 2, 3))), mask="off")
def over_all(g: Graph, layer: StoredLayer, inputs: Value, mask: Value | None = None) -> Value:
    """The mean or the largest number of each channel; masked steps of a series do not count for the mean."""
    keep = bool(layer.config.get("keepdims", False))
    mean = "Average" in layer.kind
    mask = mask or (inputs.mask if layer.kind == "GlobalAveragePooling1D" else None)
    if mask is not None and mean:
        return _mean_of_kept(g, layer, inputs, mask, keep=keep)
    x, last = channels_second(g, layer, inputs)
    axes = x.rank - 2
    if "int" in x.dtype:
        return _over_integers(
            g, x, list(range(1, axes + 1)) if last else list(range(2, axes + 2)), mean=mean, keep=keep
        )
    channels = x.shape[-1] if last else x.shape[1]
    shape = keras_shape(x.shape[0], [1] * axes, channels, last=last)
    pooled = g.node("GlobalAveragePool" if mean else "GlobalMaxPool", [x], shape, channels_first=last)
    if keep:
        return pooled
    return g.node("Flatten", [pooled], (x.shape[0], channels))


def _over_integers(g: Graph, x: Value, axes: Sequence[int], *, mean: bool, keep: bool) -> Value:
    """The largest number in its dtype, or the mean in float32."""
    if mean:
        return reduce_over(g, "ReduceMean", g.cast(x, "float32"), axes, keepdims=keep)
    return g.cast(reduce_over(g, "ReduceMax", widen(g, x), axes, keepdims=keep), x.dtype)


def _mean_of_kept(g: Graph, layer: StoredLayer, inputs: Value, mask: Value, *, keep: bool) -> Value:
    x = g.in_keras_order(inputs)
    steps = 1 if layer.config.get("data_format") != "channels_first" else 2
    kept = expand(g, g.cast(mask, "bool"), 2 if steps == 1 else 1)
    dtype = QUOTIENTS.get(x.dtype, x.dtype)
    x, weights = g.cast(x, dtype), g.cast(kept, dtype)
    chosen = elementwise(g, "Where", kept, x, g.value(0.0, dtype), dtype=dtype)
    total = reduce(g, "ReduceSum", chosen, [steps], keepdims=True)
    mean = elementwise(g, "Div", total, reduce(g, "ReduceSum", weights, [steps], keepdims=True))
    return mean if keep else squeeze(g, mean, steps)

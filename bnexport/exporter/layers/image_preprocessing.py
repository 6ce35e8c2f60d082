"""Preprocessing of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnexport.exporter.arithmetic import elementwise, integers, reduce, unary
from bnexport.exporter.axes import cut, pad, tensor_axis, with_side
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.keras_graph import write_part
from bnexport.exporter.layers.activations import clip
from bnexport.exporter.layers.regularization import images_of
from bnexport.exporter.layers.reshaping import spatial_axes
from bnexport.exporter.registry import emits
from bnexport.exporter.resizing import FIXED_SIZE, as_pixels, resize
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import compute_dtype


@emits("Resizing", mask="off")
def resizing(g: Graph, layer: StoredLayer, data: object) -> Value:
    """Images in a fixed size, cropped or padded to its proportions before where that is asked for."""
    x = images_of(layer, data)
    made = resize_images(g, x, layer.config, [int(layer.config["height"]), int(layer.config["width"])])
    return as_pixels(g, made, x.dtype)


def resize_images(g: Graph, x: Value, config: Config, size: Sequence[int]) -> Value:
    """`keras.ops.image.resize`.

    Args:
        g: the graph.
        x: images.
        config: the arguments, by their names in Keras.
        size: the new numbers of rows and columns.

    Returns:
        The images, as float32 unless the interpolation is "nearest".
    """
    first = config.get("data_format") == "channels_first"
    axes = [x.rank - 2, x.rank - 1] if first else [x.rank - 3, x.rank - 2]
    if config.get("crop_to_aspect_ratio") or config.get("pad_to_aspect_ratio"):
        height, width = (x.shape[axis] for axis in axes)
        if height is None or width is None:
            raise NotCovered(f"crop_to_aspect_ratio and pad_to_aspect_ratio for images of open size {FIXED_SIZE}")
        if config.get("crop_to_aspect_ratio"):
            x = crop_to_ratio(g, x, axes, (height, width), size)
        else:
            x = _pad_to_ratio(g, x, axes, (height, width), size, float(config.get("fill_value", 0.0)))
    interpolation = str(config.get("interpolation", "bilinear"))
    return resize(g, x, axes, size, interpolation, antialias=bool(config.get("antialias", False)))


def _scale(side: int, factor: int, divisor: int) -> int:
    return int(np.float32(side * factor) / np.float32(divisor))


def crop_to_ratio(g: Graph, x: Value, axes: Sequence[int], sides: tuple[int, int], size: Sequence[int]) -> Value:
    """The middle of the images, in the proportions of another size."""
    height, width = sides
    rows = max(min(height, _scale(width, size[0], size[1])), 1)
    columns = max(min(width, _scale(height, size[1], size[0])), 1)
    bounds = {}
    for axis, side, kept in zip(axes, sides, (rows, columns), strict=True):
        start = (side - kept) // 2
        bounds[axis] = (start, side - start - kept)
    return cut(g, x, bounds)


def _pad_to_ratio(
    g: Graph, x: Value, axes: Sequence[int], sides: tuple[int, int], size: Sequence[int], value: float
) -> Value:
    height, width = sides
    rows = max(height, _scale(width, size[0], size[1]))
    columns = max(width, _scale(height, size[1], size[0]))
    top, left = (rows - height) // 2, (columns - width) // 2
    return pad(g, x, {axes[0]: (top, top), axes[1]: (left, left)}, value=value)


@emits("CenterCrop", mask="off")
def center_crop(g: Graph, layer: StoredLayer, data: object) -> Value:
    """The middle of the images; smaller ones are resized."""
    x = g.cast(images_of(layer, data), compute_dtype(layer.config.get("dtype")))
    axes, size = spatial_axes(layer, x), [int(layer.config["height"]), int(layer.config["width"])]
    height, width = (x.shape[axis] for axis in axes)
    if height is None or width is None:
        return _cut_when_run(g, x, axes, size)
    if height >= size[0] and width >= size[1]:
        bounds = {}
        for axis, side, kept in zip(axes, (height, width), size, strict=True):
            start = (side - kept) // 2
            bounds[axis] = (start, side - start - kept)
        return cut(g, x, bounds)
    x = crop_to_ratio(g, x, axes, (height, width), size)
    return resize(g, x, axes, size, "bilinear")


def _cut_when_run(g: Graph, x: Value, axes: Sequence[int], size: Sequence[int]) -> Value:
    """The middle of images whose size is known when the graph runs; a Reshape fails for smaller ones, which Keras resizes."""
    positions = [tensor_axis(x, axis) for axis in axes]
    sides = g.node("Gather", [g.node("Shape", [x], (x.rank,), "int64"), integers(*positions)], (2,), "int64")
    two = integers(2)
    spare = g.node("Sub", [sides, integers(*size)], (2,), "int64")
    odd = g.node("Mod", [spare, two], (2,), "int64")
    starts = g.node("Div", [g.node("Sub", [spare, odd], (2,), "int64"), two], (2,), "int64")
    ends = g.node("Add", [starts, integers(*size)], (2,), "int64")
    shape = with_side(with_side(x.shape, axes[0], size[0]), axes[1], size[1])
    cut = g.node("Slice", [x, starts, ends, integers(*positions)], shape, x.dtype, channels_first=x.channels_first)
    target = [0] * x.rank
    for position, kept in zip(positions, size, strict=True):
        target[position] = kept
    return g.node("Reshape", [cut, integers(*target)], shape, x.dtype, channels_first=x.channels_first)


@emits("AutoContrast", mask="off")
def auto_contrast(g: Graph, layer: StoredLayer, data: object) -> Value:
    """Each channel of an image stretched to the whole range; a constant one is left as it is."""
    dtype = compute_dtype(layer.config.get("dtype"))
    x = g.cast(images_of(layer, data), dtype)
    low_end, high_end = (float(bound) for bound in layer.config.get("value_range", (0, 255)))
    wide = _into_range(g, x, (low_end, high_end), (0.0, 255.0))
    low = reduce(g, "ReduceMin", wide, [1, 2], keepdims=True)
    high = reduce(g, "ReduceMax", wide, [1, 2], keepdims=True)
    scale = elementwise(g, "Div", g.value(255.0, dtype), elementwise(g, "Sub", high, low))
    offset = elementwise(g, "Mul", unary(g, "Neg", low), scale)
    made = clip(g, elementwise(g, "Add", elementwise(g, "Mul", wide, scale), offset), 0.0, 255.0)
    made = _into_range(g, made, (0.0, 255.0), (low_end, high_end))
    unknown = unary(g, "IsNaN", made)
    return elementwise(
        g, "Where", Value(unknown.name, unknown.shape, "bool", unknown.channels_first), x, made, dtype=dtype
    )


def _into_range(g: Graph, x: Value, before: tuple[float, float], after: tuple[float, float]) -> Value:
    if before == after:
        return x
    part = elementwise(g, "Div", elementwise(g, "Sub", x, before[0]), before[1] - before[0])
    return elementwise(g, "Add", elementwise(g, "Mul", part, after[1] - after[0]), after[0])


@emits("Pipeline", mask="off")
def pipeline(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Layers one after another."""
    x = inputs
    for part in layer.parts.values():
        x = write_part(g, part, x)
    return x

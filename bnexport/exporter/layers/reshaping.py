"""Layers that move, cut, add or repeat numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnexport.exporter.arithmetic import expand, integers, reshape
from bnexport.exporter.axes import cut, pad, permute, repeat
from bnexport.exporter.graph import Graph, Value
from bnexport.exporter.layers.convolution import numbers
from bnexport.exporter.registry import emits
from bnexport.exporter.resizing import as_pixels, resize
from bnexport.keras_files.layers import StoredLayer


@emits("Flatten", mask="off")
def flatten(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Everything but the batch axis as one axis, the channels last."""
    x = inputs
    if x.rank == 1:
        return expand(g, x, 1)
    if layer.config.get("data_format") == "channels_first":
        x = permute(g, x, [0, *range(2, x.rank), 1])
    elif not _one_position(x):
        x = g.in_keras_order(x)
    if x.rank == 2:
        return x
    sides = x.shape[1:]
    whole = None if None in sides else math.prod(side or 0 for side in sides)
    return g.node("Flatten", [x], (x.shape[0], whole), x.dtype)


def _one_position(x: Value) -> bool:
    """Whether the order of the axes says nothing: all but the batch and the channels are 1."""
    return all(side == 1 for side in x.shape[1:-1])


@emits("Reshape", mask="off")
def reshape_layer(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The same numbers in another shape; the channels of one position stay where they are in the tensor."""
    sides = inputs.shape[1:]
    target = resolve(sides, [int(side) for side in layer.config["target_shape"]])
    shape = (inputs.shape[0], *target)
    x = inputs if _one_position(inputs) else g.in_keras_order(inputs)
    if len(target) > 1 and all(side == 1 for side in target[:-1]) and target[-1] is not None:
        return g.node(
            "Reshape",
            [x, integers(-1, target[-1], *[1] * (len(target) - 1))],
            shape,
            x.dtype,
            channels_first=True,
        )
    return reshape(g, Value(x.name, x.shape, x.dtype), shape)


def resolve(sides: Sequence[int | None], target: Sequence[int]) -> tuple[int | None, ...]:
    """The shape that a reshape to `target` (with at most one -1) gives, without the batch axis."""
    if -1 not in target:
        return tuple(target)
    if None in sides:
        return tuple(None if side == -1 else side for side in target)
    rest = math.prod(side for side in target if side != -1)
    missing = math.prod(side or 0 for side in sides) // rest if rest else 0
    return tuple(missing if side == -1 else side for side in target)


@emits("Permute", mask="off")
def permute_layer(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The axes behind the batch axis in another order."""
    return permute(g, inputs, [0, *(int(axis) for axis in layer.config["dims"])])


@emits("RepeatVector", mask="off")
def repeat_vector(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """A vector n times, as a series."""
    count = int(layer.config["n"])
    row = expand(g, inputs, 1)
    return g.node("Expand", [row, integers(1, count, 1)], (row.shape[0], count, row.shape[2]), row.dtype)


def spatial_axes(layer: StoredLayer, x: Value) -> list[int]:
    """The axes of a layer's input that are neither batch nor channels."""
    return list(range(2, x.rank)) if layer.config.get("data_format") == "channels_first" else list(range(1, x.rank - 1))


def pairs(given: int | Sequence[int | Sequence[int]], count: int) -> list[tuple[int, int]]:
    """How much at the beginning and end of each axis: one number for all, one for each, or two for each."""
    if isinstance(given, int):
        return [(given, given)] * count
    if count == 1 and isinstance(given[0], int) and isinstance(given[-1], int):
        return [(given[0], given[-1])]
    return [(part, part) if isinstance(part, int) else (int(part[0]), int(part[1])) for part in given]


@emits("Cropping1D", "Cropping2D", "Cropping3D", mask="off")
def cropping(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Cuts away the edges."""
    axes = spatial_axes(layer, inputs)
    return cut(g, inputs, dict(zip(axes, pairs(layer.config.get("cropping", 1), len(axes)), strict=True)))


@emits("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", mask="off")
def zero_padding(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Zeros around."""
    axes = spatial_axes(layer, inputs)
    return pad(g, inputs, dict(zip(axes, pairs(layer.config.get("padding", 1), len(axes)), strict=True)))


@emits("UpSampling1D", "UpSampling2D", "UpSampling3D", mask="off")
def up_sampling(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Each position several times; images may be interpolated."""
    axes = spatial_axes(layer, inputs)
    size = numbers(layer.config.get("size", 2), len(axes))
    interpolation = str(layer.config.get("interpolation") or "nearest")
    if interpolation == "nearest":
        return repeat(g, inputs, dict(zip(axes, size, strict=True)))
    made = resize(g, inputs, axes, size, interpolation, factors=True)
    return as_pixels(g, made, inputs.dtype)

"""Nodes of `keras.ops` that move numbers: shapes, slices, indices, padding and constants of a value's shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from bnexport.exporter.arithmetic import axis_of, expand, integers, reshape, squeeze
from bnexport.exporter.axes import pad as pad_axes, permute, repeat, tensor_axis, with_side
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.merging import concat
from bnexport.exporter.layers.reshaping import resolve
from bnexport.exporter.promotion import Operand, as_value, result_type
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import policy_name


@emits_operation("Reshape", "Ravel")
def reshape_to(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The same numbers in another shape."""
    x = as_value(g, x)
    given = [-1] if layer.kind == "Ravel" else layer.config["newshape"]
    target = [-1 if side is None else int(side) for side in (given if isinstance(given, Sequence) else [given])]
    if target.count(-1) > 1:
        raise NotCovered("a reshape with several open sides")
    shape = resolve(x.shape, target)
    return reshape(g, Value(x.name, x.shape, x.dtype, x.channels_first), shape)


@emits_operation("Transpose", "Swapaxes", "Moveaxis")
def transpose(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The axes in another order."""
    x, config = as_value(g, x), layer.config
    order = list(range(x.rank))
    if layer.kind == "Transpose":
        axes = config.get("axes")
        order = order[::-1] if axes is None else [axis_of(x, int(axis)) for axis in axes]
    elif layer.kind == "Swapaxes":
        a, b = (axis_of(x, int(config[name])) for name in ("axis1", "axis2"))
        order[a], order[b] = b, a
    else:
        ends = [
            config[name] if isinstance(config[name], Sequence) else [config[name]] for name in ("source", "destination")
        ]
        sources, targets = ([axis_of(x, int(axis)) for axis in axes] for axes in ends)
        rest = iter(axis for axis in order if axis not in sources)
        moved = dict(zip(targets, sources, strict=True))
        order = [moved[position] if position in moved else next(rest) for position in order]
    return permute(g, x, order)


@emits_operation("ExpandDims")
def expand_dims(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """New axes of size 1."""
    axis = layer.config["axis"]
    return expand(g, as_value(g, x), *(int(a) for a in (axis if isinstance(axis, Sequence) else [axis])))


@emits_operation("Squeeze")
def squeeze_axes(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Without some axes of size 1, or without all of them."""
    x, axis = as_value(g, x), layer.config.get("axis")
    if axis is None:
        axis = [position for position, side in enumerate(x.shape) if side == 1]
    axes = [int(a) for a in (axis if isinstance(axis, Sequence) else [axis])]
    return squeeze(g, x, *axes) if axes else x


def alike(g: Graph, given: Sequence[Operand]) -> list[Value]:
    """Values in the dtype that Keras promotes all of them to."""
    values = [as_value(g, value) for value in given]
    dtype = result_type(*values)
    return [g.cast(value, dtype) for value in values]


@emits_operation("Concatenate", "Hstack", "Vstack", "Dstack")
def concatenate(g: Graph, layer: StoredLayer, xs: Sequence[Operand]) -> Value:
    """Values behind each other."""
    values = alike(g, xs)
    if layer.kind == "Concatenate":
        return concat(g, values, int(layer.config.get("axis", 0)))
    least = {"Hstack": 1, "Vstack": 2, "Dstack": 3}[layer.kind]
    if any(value.rank < least for value in values):
        raise NotCovered(f"{layer.kind.lower()} of values with fewer than {least} axes")
    return concat(g, values, {"Hstack": 1 if values[0].rank > 1 else 0, "Vstack": 0, "Dstack": 2}[layer.kind])


@emits_operation("Append")
def append(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """Two values behind each other; flat where no axis is named."""
    values, axis = alike(g, [x1, x2]), layer.config.get("axis")
    if axis is None:
        return concat(g, [reshape(g, value, (None,)) for value in values], 0)
    return concat(g, values, int(axis))


@emits_operation("Stack")
def stack(g: Graph, layer: StoredLayer, x: Sequence[Operand]) -> Value:
    """Values along a new axis."""
    axis = int(layer.config.get("axis", 0))
    return concat(g, [expand(g, value, axis) for value in alike(g, x)], axis)


@emits_operation("Split", "ArraySplit", "Hsplit", "Vsplit", "Dsplit")
def split(g: Graph, layer: StoredLayer, x: Operand) -> list[Value]:
    """Parts along an axis, of one size or between positions."""
    x, given = as_value(g, x), layer.config["indices_or_sections"]
    named = {"Hsplit": 1 if x.rank > 1 else 0, "Vsplit": 0, "Dsplit": 2}
    axis = axis_of(x, named.get(layer.kind, int(layer.config.get("axis", 0))))
    side = x.shape[axis]
    if side is None:
        raise NotCovered("a split along an axis of open size")
    if isinstance(given, int):
        small, larger = divmod(side, given)
        sizes = [small + (nth < larger) for nth in range(given)]
    else:
        ends = [0, *(min(max(int(end) + (side if end < 0 else 0), 0), side) for end in given), side]
        sizes = [max(end - start, 0) for start, end in pairwise(ends)]
    return parts(g, x, axis, sizes)


def parts(g: Graph, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    """Parts of these sizes along an axis."""
    if len(sizes) == 1:
        return [x]
    return g.node_with_outputs(
        "Split",
        [x, integers(*sizes)],
        [(with_side(x.shape, axis, size), x.dtype) for size in sizes],
        channels_first=x.channels_first,
        axis=tensor_axis(x, axis),
    )


@emits_operation("Unstack")
def unstack(g: Graph, layer: StoredLayer, x: Operand) -> list[Value]:
    """The values along an axis, one by one."""
    x = as_value(g, x)
    axis = axis_of(x, int(layer.config.get("axis", 0)))
    side = x.shape[axis] if x.shape[axis] is not None else layer.config.get("num")
    if side is None:
        raise NotCovered("unstack along an axis of open size")
    return [squeeze(g, part, axis) for part in parts(g, x, axis, [1] * int(side))]


@emits_operation("Repeat")
def repeat_each(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Each position of an axis several times."""
    x, repeats, axis = as_value(g, x), layer.config["repeats"], layer.config.get("axis")
    if axis is None:
        x, axis = reshape(g, x, (None,)), 0
    counts = np.asarray(repeats).reshape(-1)
    if counts.size == 1:
        return repeat(g, x, {int(axis): int(counts[0])})
    return rows_of(g, x, np.repeat(np.arange(counts.size), counts), int(axis))


def rows_of(g: Graph, x: Value, positions: Operand, axis: int) -> Value:
    """The positions of an axis with these fixed numbers."""
    wanted = np.asarray(positions, np.int64)
    position = tensor_axis(x, axis)
    shape = with_side(x.shape, axis, len(wanted))
    return g.node("Gather", [x, wanted], shape, x.dtype, channels_first=x.channels_first, axis=position)


@emits_operation("Tile")
def tile(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The whole several times along each axis."""
    x, given = g.in_keras_order(as_value(g, x)), layer.config["repeats"]
    repeats = [int(count) for count in (given if isinstance(given, Sequence) else [given])]
    if len(repeats) > x.rank:
        x = expand(g, x, *range(len(repeats) - x.rank))
    repeats = [1] * (x.rank - len(repeats)) + repeats
    shape = [None if side is None else side * count for side, count in zip(x.shape, repeats, strict=True)]
    return g.node("Tile", [x, integers(*repeats)], shape, x.dtype)


@emits_operation("Flip", "Fliplr", "Flipud")
def flip(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Backwards along some axes."""
    x, axis = as_value(g, x), layer.config.get("axis")
    axis = {"Fliplr": 1, "Flipud": 0}.get(layer.kind, axis)
    axes = list(range(x.rank)) if axis is None else list(axis) if isinstance(axis, Sequence) else [axis]
    count = len(axes)
    least = np.iinfo(np.int64).min
    positions = integers(*(tensor_axis(x, int(a)) for a in axes))
    bounds = [integers(*[number] * count) for number in (-1, least)]
    return g.node(
        "Slice", [x, *bounds, positions, integers(*[-1] * count)], x.shape, x.dtype, channels_first=x.channels_first
    )


@emits_operation("Roll")
def roll(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Moved along axes; what falls out at the end comes in at the beginning."""
    x, shift = as_value(g, x), layer.config["shift"]
    axis: Any = layer.config.get("axis")
    shifts = list(shift) if isinstance(shift, Sequence) else [shift]
    shape = x.shape
    flat = axis is None
    if flat:
        x, axis = reshape(g, x, (None,)), 0
    axes = list(axis) if isinstance(axis, Sequence) else [axis]
    for by, position in zip(shifts * (len(axes) // len(shifts)), axes, strict=True):
        side = x.shape[int(position)]
        if side is None:
            raise NotCovered("roll along an axis of open size")
        x = rows_of(g, x, np.roll(np.arange(side), int(by)), int(position))
    return reshape(g, x, shape) if flat else x


@emits_operation("Pad")
def pad(g: Graph, layer: StoredLayer, x: Operand, constant_values: Operand | None = None) -> Value:
    """More numbers around: one number, or what is mirrored at the edge."""
    x, given = as_value(g, x), layer.config["pad_width"]
    mode = str(layer.config.get("mode", "constant"))
    pairs = [given, given] if isinstance(given, int) else given
    if isinstance(pairs[0], int):
        pairs = [pairs] * x.rank
    pairs = list(pairs) * x.rank if len(pairs) == 1 else pairs
    widths = {axis: (int(pair[0]), int(pair[1])) for axis, pair in enumerate(pairs)}
    if mode == "symmetric":
        return _mirror(g, x, widths)
    value = None if constant_values is None else as_value(g, constant_values, x.dtype)
    return pad_axes(g, x, widths, mode=mode, value=value)


def _mirror(g: Graph, x: Value, widths: Mapping[int, tuple[int, int]]) -> Value:
    for axis, width in widths.items():
        side = x.shape[axis]
        if not any(width):
            continue
        if side is None:
            raise NotCovered("symmetric padding along an axis of open size")
        x = rows_of(g, x, np.pad(np.arange(side), width, mode="symmetric"), axis)
    return x


@emits_operation("BroadcastTo")
def broadcast_to(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The same with axes of size 1 repeated."""
    x, given = g.in_keras_order(as_value(g, x)), layer.config["shape"]
    sides = [1 if side is None else int(side) for side in given]
    shape = [x.shape[position - len(given)] if side is None else int(side) for position, side in enumerate(given)]
    return g.node("Expand", [x, integers(*sides)], shape, x.dtype)


@emits_operation("OnesLike", "ZerosLike", "EmptyLike", "FullLike")
def of_shape(g: Graph, layer: StoredLayer, x: Operand, fill_value: Operand | None = None) -> Value:
    """One number in the shape of a value."""
    x, given = as_value(g, x), layer.config.get("dtype")
    dtype = policy_name(given) if given else x.dtype
    number = as_value(g, int(layer.kind == "OnesLike") if fill_value is None else fill_value, dtype)
    return fill_shape(g, x, number)


def fill_shape(g: Graph, x: Value, number: Value) -> Value:
    """One number in the shape of a value."""
    if None not in x.shape:
        sizes: Value = g.constant(integers(*(side or 0 for side in x.shape)))
    else:
        sizes = g.node("Shape", [x], (x.rank,), "int64")
    return g.node("Expand", [number, sizes], x.shape, number.dtype, channels_first=x.channels_first and None in x.shape)


@emits_operation("Size")
def size(g: Graph, layer: StoredLayer, x: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """How many numbers there are."""
    return g.cast(g.node("Size", [as_value(g, x)], (), "int64"), "int32")


@emits_operation("Arange")
def arange(
    g: Graph, layer: StoredLayer, start: Operand, stop: Operand | None = None, step: Operand | None = None
) -> Value:
    """The numbers from start to stop."""
    given = layer.config.get("dtype")
    bounds = [value for value in (start, stop, step) if value is not None]
    dtype = policy_name(given) if given else result_type(*bounds)
    if stop is None:
        start, stop = 0, start
    numbers = [as_value(g, value, dtype) for value in (start, stop, 1 if step is None else step)]
    return g.node("Range", numbers, (None,), dtype)


@emits_operation("Tril", "Triu")
def triangle(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Zeros on one side of a diagonal of the last two axes."""
    x = g.in_keras_order(as_value(g, x))
    diagonal = np.asarray(int(layer.config.get("k", 0)), np.int64)
    wide = (
        x.dtype if x.dtype == "float64" else "float32" if x.floating else "int64"
    )  # others have no kernel in onnxruntime
    return g.cast(g.node("Trilu", [g.cast(x, wide), diagonal], x.shape, wide, upper=int(layer.kind == "Triu")), x.dtype)

"""Nodes of `keras.ops` that pick numbers: slices, indices, one-hot."""

from __future__ import annotations

from dataclasses import replace
from types import EllipsisType

import numpy as np

from bnexport.exporter.arithmetic import axis_of, expand, integers, reshape, squeeze
from bnexport.exporter.axes import END, permute, tensor_axis, with_side
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.preprocessing import encode, one_hot
from bnexport.exporter.promotion import Operand, as_value, is_float
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import policy_name
from bnexport.types import Nested


@emits_operation("GetItem")
def get_item(g: Graph, layer: StoredLayer, x: Operand, key: object) -> Value:  # noqa: ARG001 - the form of an emitter
    """x[key], as NumPy has it, with at most one array of positions.

    Raises:
        NotCovered: the key is a condition, or has several arrays.
    """
    x = replace(as_value(g, x), mask=None)
    keys = _whole_key(x, key)
    axis, gone, new, picks = 0, [], [], []
    cuts: dict[int, slice] = {}
    position = 0
    for part in keys:
        if part is None:
            new.append(position)
            position += 1
            continue
        if isinstance(part, slice):
            if part != slice(None):
                cuts[axis] = part
            position += 1
        elif isinstance(part, int | np.integer) and not isinstance(part, bool):
            cuts[axis] = slice(int(part), int(part) + 1 or None)
            gone.append(axis)
        else:
            picks.append((axis, as_value(g, part)))
            position += 1
        axis += 1
    if len(picks) > 1 or (picks and (new or picks[0][1].dtype == "bool" or picks[0][1].rank > 1)):
        raise NotCovered("indexing by a condition or by several arrays")
    x = _cut(g, x, cuts)
    for picked, positions in picks:
        index = g.cast(positions, "int64")
        if index.rank == 0:
            index = expand(g, index, 0)
            gone.append(picked)
        shape = with_side(x.shape, picked, index.shape[0])
        x = g.node("Gather", [x, index], shape, x.dtype, channels_first=x.channels_first, axis=tensor_axis(x, picked))
    x = squeeze(g, x, *gone) if gone else x
    return expand(g, x, *new) if new else x


def _whole_key(x: Value, key: Nested) -> list[Nested]:
    """The key with a part for each axis."""
    keys = list(key) if isinstance(key, list | tuple) else [key]
    dots = [nth for nth, part in enumerate(keys) if isinstance(part, EllipsisType)]
    used = sum(part is not None and not isinstance(part, EllipsisType) for part in keys)
    rest = [slice(None)] * (x.rank - used)
    return keys[: dots[0]] + rest + keys[dots[0] + 1 :] if dots else keys + rest


def _cut(g: Graph, x: Value, cuts: dict[int, slice]) -> Value:
    if not cuts:
        return x
    starts, ends, steps, shape = [], [], [], x.shape
    for axis, part in cuts.items():
        if any(isinstance(bound, Value) for bound in (part.start, part.stop, part.step)):
            raise NotCovered("slices whose bounds the graph computes")
        step = 1 if part.step is None else int(part.step)
        starts.append((0 if step > 0 else END) if part.start is None else int(part.start))
        ends.append((END if step > 0 else -END) if part.stop is None else int(part.stop))
        steps.append(step)
        shape = with_side(shape, axis, _length(x.shape[axis], part))
    positions = [tensor_axis(x, axis) for axis in cuts]
    bounds = [integers(*numbers) for numbers in (starts, ends, positions, steps)]
    return g.node("Slice", [x, *bounds], shape, x.dtype, channels_first=x.channels_first)


def _length(side: int | None, part: slice) -> int | None:
    """How long a slice of an axis is."""
    if side is not None:
        return len(range(*part.indices(side)))
    one = part.start is not None and part.step in (None, 1) and (part.stop or 0) == part.start + 1
    return 1 if one else None


@emits_operation("Take")
def take(g: Graph, layer: StoredLayer, x: Operand, indices: Operand) -> Value:
    """The positions of an axis with these numbers; negative ones count from the end."""
    x, axis = as_value(g, x), layer.config.get("axis")
    index = as_value(g, indices)
    index = g.cast(index, "int64" if is_float(index.dtype) or index.dtype not in ("int32", "int64") else index.dtype)
    x = reshape(g, x, (None,)) if axis is None else g.in_keras_order(x)
    position = 0 if axis is None else axis_of(x, int(axis))
    index = g.in_keras_order(index)
    shape = (*x.shape[:position], *index.shape, *x.shape[position + 1 :])
    return g.node("Gather", [x, index], shape, x.dtype, axis=position)


@emits_operation("TakeAlongAxis")
def take_along_axis(g: Graph, layer: StoredLayer, x: Operand, indices: Operand) -> Value:
    """For each position the number that an index names along an axis."""
    x, index = g.in_keras_order(as_value(g, x)), g.in_keras_order(as_value(g, indices, "int64"))
    axis = layer.config.get("axis")
    if axis is None:
        x, axis = reshape(g, x, (None,)), 0
    position = axis_of(x, int(axis))
    apart = [a for a in range(x.rank) if a != position and x.shape[a] != index.shape[a]]
    if apart:
        raise NotCovered("take_along_axis with indices of another shape")
    return g.node("GatherElements", [x, index], index.shape, x.dtype, axis=position)


@emits_operation("OneHot")
def one_hot_along(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """1 where the number is the place on a new axis."""
    config = layer.config
    if config.get("sparse"):
        raise NotCovered("sparse one-hot rows")
    made = one_hot(g, as_value(g, x), int(config["num_classes"]), policy_name(config.get("dtype") or "float32"))
    axis = int(config.get("axis", -1)) % made.rank
    order = list(range(made.rank - 1))
    order.insert(axis, made.rank - 1)
    return permute(g, made, order)


@emits_operation("MultiHot")
def multi_hot(g: Graph, layer: StoredLayer, inputs: Operand) -> Value:
    """1 for each number that occurs."""
    config = layer.config
    if config.get("sparse") or int(config.get("axis", -1)) != -1:
        raise NotCovered("sparse multi-hot rows, or those along another axis than the last one")
    dtype = policy_name(config.get("dtype") or "float32")
    return encode(g, as_value(g, inputs), "multi_hot", int(config["num_classes"]), dtype)


@emits_operation("Slice")
def slice_from(g: Graph, layer: StoredLayer, inputs: Operand, start_indices: Operand) -> Value:
    """A block of a fixed shape from a position on."""
    x, shape = g.in_keras_order(as_value(g, inputs)), [int(side) for side in layer.config["shape"]]
    starts = as_value(g, start_indices, "int64")
    ends = g.node("Add", [starts, integers(*shape)], (x.rank,), "int64")
    return g.node("Slice", [x, starts, ends], shape, x.dtype)


REDUCTIONS = {None: "none", "add": "add", "max": "max", "min": "min", "mul": "mul"}
"""What ScatterND calls the ways of putting numbers where there are some."""


@emits_operation("ScatterUpdate")
def scatter_update(g: Graph, layer: StoredLayer, inputs: Operand, indices: Operand, updates: Operand) -> Value:
    """Numbers put at positions."""
    x = g.in_keras_order(as_value(g, inputs))
    positions, new = (
        g.in_keras_order(value) for value in (as_value(g, indices, "int64"), as_value(g, updates, x.dtype))
    )
    return g.node(
        "ScatterND", [x, positions, new], x.shape, x.dtype, reduction=REDUCTIONS[layer.config.get("reduction")]
    )

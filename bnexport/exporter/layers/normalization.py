"""Normalization layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnexport.exporter.arithmetic import axis_of, elementwise, integers, reduce, sizes_of, transpose, unary
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array


def axes_of(layer: StoredLayer, x: Value) -> list[int]:
    """The axes that a layer normalises over or along, counted from 0."""
    axis = layer.config.get("axis", -1)
    given = axis if isinstance(axis, Sequence) else [axis]
    return sorted(axis_of(x, int(a)) for a in given)


def wide(x: Value) -> str:
    """The dtype to compute statistics in: Keras does it in float32 for half precision."""
    return "float64" if x.dtype == "float64" else "float32"


@emits("BatchNormalization")
def batch_normalization(g: Graph, layer: StoredLayer, inputs: Value, mask: Value | None = None) -> Value:  # noqa: ARG001 - used in training only
    """One BatchNormalization node with the layer's name; the calls of one layer share its statistics."""
    config = layer.config
    axes = axes_of(layer, inputs)
    if len(axes) > 1:
        raise NotCovered(f"the layer {layer.path}, which normalises along several axes")
    axis, dtype = axes[0], inputs.dtype
    x = g.cast(inputs, wide(inputs))
    mean = layer.array("moving_mean").astype(x.dtype, copy=False)
    scale: Array = layer.array("gamma") if config.get("scale", True) else np.ones_like(mean)
    offset: Array = layer.array("beta") if config.get("center", True) else np.zeros_like(mean)
    order: list[int] = []
    if axis == x.rank - 1:
        x = g.with_channels_first(x)
    else:
        x = g.in_keras_order(x)
        order = [0, axis, *(a for a in range(1, x.rank) if a != axis)]
        x = transpose(g, x, order)
    made = g.node(
        "BatchNormalization",
        [
            x,
            g.weight("gamma", scale.astype(x.dtype, copy=False)),
            g.weight("beta", offset.astype(x.dtype, copy=False)),
            g.weight("moving_mean", mean),
            g.weight("moving_variance", layer.array("moving_variance").astype(x.dtype, copy=False)),
        ],
        x.shape,
        channels_first=x.channels_first,
        name=g.path,
        epsilon=float(config.get("epsilon", 1e-3)),
    )
    g.metadata[made.name.rpartition(":")[0]] = {
        "momentum": float(config.get("momentum", 0.99)),
        "frozen": not layer.trainable,
        "axis": axis,
    }
    if order:
        made = transpose(g, made, [order.index(a) for a in range(x.rank)])
    return g.cast(made, dtype)


@emits("LayerNormalization")
def layer_normalization(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Normalises each example over some axes."""
    config, dtype = layer.config, inputs.dtype
    x = g.cast(g.in_keras_order(inputs), wide(inputs))
    axes = axes_of(layer, x)
    epsilon = float(config.get("epsilon", 1e-3))
    gamma = layer.array("gamma") if "gamma" in layer.weights else None
    beta = layer.array("beta") if "beta" in layer.weights else None
    if config.get("rms_scaling"):
        return g.cast(_scaled_by_variance(g, x, axes, epsilon, gamma), dtype)
    last = axes == list(range(x.rank - len(axes), x.rank))
    sides = [x.shape[axis] for axis in axes]
    if last and all(side is not None for side in sides):
        ones = np.ones([side or 1 for side in sides], x.dtype)
        weights = [
            g.weight("gamma", (ones if gamma is None else gamma.reshape(ones.shape)).astype(x.dtype, copy=False))
        ]
        if beta is not None:
            weights.append(g.weight("beta", beta.reshape(ones.shape).astype(x.dtype, copy=False)))
        return g.cast(g.node("LayerNormalization", [x, *weights], x.shape, axis=-len(axes), epsilon=epsilon), dtype)
    centred = elementwise(g, "Sub", x, reduce(g, "ReduceMean", x, axes, keepdims=True))
    variance = reduce(g, "ReduceMean", elementwise(g, "Mul", centred, centred), axes, keepdims=True)
    result = elementwise(g, "Div", centred, unary(g, "Sqrt", elementwise(g, "Add", variance, epsilon)))
    for op, name, array in (("Mul", "gamma", gamma), ("Add", "beta", beta)):
        if array is not None:
            result = elementwise(g, op, result, g.weight(name, _along(array, x, axes)))
    return g.cast(result, dtype)


def _along(array: Array, x: Value, axes: Sequence[int]) -> Array:
    """A weight with its axes where the value has them, and ones elsewhere.

    Keras sorts the axes as they are written, so that [-1, 1] has the last one first in the weight, and reads its numbers as if it had not.
    """
    return array.astype(x.dtype, copy=False).reshape([(x.shape[a] or 1) if a in axes else 1 for a in range(x.rank)])


def _scaled_by_variance(g: Graph, x: Value, axes: Sequence[int], epsilon: float, gamma: Array | None) -> Value:
    """What `rms_scaling` means in Keras: x / sqrt(variance + epsilon) * gamma, the mean left in."""
    centred = elementwise(g, "Sub", x, reduce(g, "ReduceMean", x, axes, keepdims=True))
    variance = reduce(g, "ReduceMean", elementwise(g, "Mul", centred, centred), axes, keepdims=True)
    result = elementwise(g, "Div", x, unary(g, "Sqrt", elementwise(g, "Add", variance, epsilon)))
    return result if gamma is None else elementwise(g, "Mul", result, g.weight("gamma", _along(gamma, x, axes)))


@emits("RMSNormalization", mask="off")
def rms_normalization(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """X / sqrt(mean(x^2) + epsilon) * scale."""
    dtype = inputs.dtype
    x = g.cast(g.in_keras_order(inputs), wide(inputs))
    axes = axes_of(layer, x)
    square = reduce(g, "ReduceMean", elementwise(g, "Mul", x, x), axes, keepdims=True)
    root = unary(g, "Sqrt", elementwise(g, "Add", square, float(layer.config.get("epsilon", 1e-6))))
    scale = layer.array("scale").astype(x.dtype, copy=False)
    return g.cast(elementwise(g, "Mul", elementwise(g, "Div", x, root), g.weight("scale", scale)), dtype)


@emits("UnitNormalization")
def unit_normalization(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """X / max(its length, 1e-12)."""
    x = g.in_keras_order(inputs)
    square = reduce(g, "ReduceSum", elementwise(g, "Mul", x, x), axes_of(layer, x), keepdims=True)
    length = unary(g, "Sqrt", elementwise(g, "Max", square, 1e-12))
    return elementwise(g, "Div", x, length)


@emits("GroupNormalization")
def group_normalization(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Normalises the channels of each example in groups."""
    config, dtype = layer.config, inputs.dtype
    axis = axes_of(layer, inputs)[0]
    channels = inputs.shape[axis]
    if channels is None:
        raise NotCovered(f"the layer {layer.path}, whose number of channels is open")
    groups = channels if config.get("groups", 32) == -1 else int(config.get("groups", 32))
    x = g.in_keras_order(g.cast(inputs, wide(inputs)))
    # Keras puts the groups in front of the axis it splits; what is summed is the same as with that axis moved behind the batch.
    order = [0, axis, *(a for a in range(1, x.rank) if a != axis)]
    moved = x if order == list(range(x.rank)) else _channels_second(g, inputs, x, order, axis)
    rows = _in_groups(g, moved, groups)
    mean = reduce(g, "ReduceMean", rows, [2], keepdims=True)
    centred = elementwise(g, "Sub", rows, mean)
    variance = reduce(g, "ReduceMean", elementwise(g, "Mul", centred, centred), [2], keepdims=True)
    root = unary(g, "Sqrt", elementwise(g, "Add", variance, float(config.get("epsilon", 1e-3))))
    normal = elementwise(g, "Div", centred, root)
    shape = (moved.shape[0], channels, *moved.shape[2:])
    back = g.node("Reshape", [normal, _shape_of(g, moved)], shape)
    for op, name in (("Mul", "gamma"), ("Add", "beta")):
        if name in layer.weights:
            weight = layer.array(name).astype(x.dtype, copy=False).reshape(-1, *[1] * (x.rank - 2))
            back = elementwise(g, op, back, g.weight(name, weight))
    result = transpose(g, back, [order.index(a) for a in range(x.rank)]) if order != list(range(x.rank)) else back
    return g.cast(result, dtype)


def _channels_second(g: Graph, inputs: Value, x: Value, order: Sequence[int], axis: int) -> Value:
    if axis == x.rank - 1 and inputs.channels_first:  # the tensor is there as it is needed
        tensor = g.cast(inputs, x.dtype)
        return Value(tensor.name, tuple(x.shape[a] for a in order), x.dtype)
    return transpose(g, x, order)


def _in_groups(g: Graph, x: Value, groups: int) -> Value:
    """(N, C, ...) as (N, groups, everything of a group)."""
    return g.node("Reshape", [x, integers(0, groups, -1)], (x.shape[0], groups, None))


def _shape_of(g: Graph, x: Value) -> Value:
    if list(x.shape[1:]).count(None) == 0:
        return g.constant(integers(-1, *(side or 0 for side in x.shape[1:])))
    return sizes_of(g, x, range(x.rank))


@emits("SpectralNormalization", mask="own")
def spectral_normalization(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The layer inside, in the dtype of the input; its weights are normalised in training only."""
    from bnexport.exporter.keras_graph import write_part

    output: Value = write_part(g, layer.parts["layer"], inputs)
    return g.cast(output, inputs.dtype)

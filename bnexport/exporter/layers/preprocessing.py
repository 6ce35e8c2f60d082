"""Preprocessing of numbers and categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnexport.exporter.arithmetic import axis_of, elementwise, expand, reduce, squeeze
from bnexport.exporter.graph import Graph, NotCovered, Value, numpy_dtype
from bnexport.exporter.layers.merging import EPSILON
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import compute_dtype
from bnexport.types import Array

HALF = ("float16", "bfloat16")


def array_of(given: object) -> Array:
    """A number or an array, as a configuration has it."""
    while isinstance(given, dict):
        inner = given.get("config", given)
        given = inner["value"] if isinstance(inner, dict) and "value" in inner else inner
    return np.asarray(given)


@emits("Rescaling")
def rescaling(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """X * scale + offset, in the dtype that the layer computes in."""
    dtype = compute_dtype(layer.config.get("dtype"))
    scale, offset = (
        array_of(layer.config.get(name, default)).astype(numpy_dtype(dtype))
        for name, default in (("scale", 1.0), ("offset", 0.0))
    )
    return elementwise(g, "Add", elementwise(g, "Mul", g.cast(inputs, dtype), scale), offset)


@emits("Normalization")
def normalization(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """(x - mean) / sqrt(variance) along the axes that are kept, or back."""
    dtype = compute_dtype(layer.config.get("dtype"))
    mean, variance = _statistics(layer, inputs, dtype)
    deviation = np.maximum(np.sqrt(variance), np.asarray(EPSILON, mean.dtype))
    x = g.cast(inputs, dtype)
    if layer.config.get("invert"):
        return elementwise(g, "Add", elementwise(g, "Mul", x, deviation), mean)
    return elementwise(g, "Div", elementwise(g, "Sub", x, mean), deviation)


def _statistics(layer: StoredLayer, x: Value, dtype: str) -> tuple[Array, Array]:
    """Mean and variance in the rank of the input, 1 where an axis is not kept."""
    axis = layer.config.get("axis", -1)
    axes = [] if axis is None else [axis] if isinstance(axis, int) else list(axis)
    kept = sorted(axis_of(x, int(position)) for position in axes)
    shape = [x.shape[position] or 1 if position in kept else 1 for position in range(x.rank)]
    given = [layer.config.get(name) for name in ("mean", "variance")]
    if given[0] is None:
        return tuple(  # type: ignore[return-value]  # of two
            layer.array(name).reshape(shape).astype(numpy_dtype(dtype)) for name in ("mean", "variance")
        )
    made = []
    for statistic in given:
        values = array_of(statistic).astype(np.float32)
        if values.ndim:
            wide = [1] * x.rank
            for nth in range(1, values.ndim + 1):
                wide[kept[-nth]] = values.shape[-nth]
            values = values.reshape(wide)
        made.append(np.broadcast_to(values, shape).astype(numpy_dtype(dtype)))
    return made[0], made[1]


def one_hot(g: Graph, ids: Value, depth: int, dtype: str) -> Value:
    """1 where the number of a position is the place on a new last axis; numbers out of range give nothing."""
    ids = g.cast(g.in_keras_order(ids), "int64")
    positions = g.constant(np.arange(depth, dtype=np.int64))
    return g.cast(elementwise(g, "Equal", expand(g, ids, -1), positions, dtype="bool"), dtype)


def encode(g: Graph, ids: Value, mode: str, depth: int, dtype: str, weights: Value | None = None) -> Value:
    """Numbers of categories as Keras' output modes have them.

    Raises:
        NotCovered: the mode is "tf_idf".
    """
    if mode == "int":
        return g.cast(ids, dtype)
    if mode not in ("one_hot", "multi_hot", "binary", "count"):
        raise NotCovered(f"the output mode {mode}")
    if ids.rank == 0:
        ids = expand(g, ids, 0)
    if mode == "one_hot":
        return one_hot(g, squeeze(g, ids, -1) if ids.rank > 1 and ids.shape[-1] == 1 else ids, depth, dtype)
    wide = one_hot(g, ids, depth, "float32" if dtype in HALF else dtype)
    if mode == "count" and weights is not None:
        wide = elementwise(g, "Mul", wide, expand(g, g.cast(weights, wide.dtype), -1))
    axis = 1 if ids.rank > 1 else 0
    return g.cast(reduce(g, "ReduceSum" if mode == "count" else "ReduceMax", wide, [axis]), dtype)


@emits("CategoryEncoding", mask="off")
def category_encoding(g: Graph, layer: StoredLayer, inputs: Value, count_weights: Value | None = None) -> Value:
    """Numbers of categories as rows of ones and zeros, or counted."""
    mode = str(layer.config.get("output_mode", "multi_hot"))
    return encode(
        g, inputs, mode, int(layer.config["num_tokens"]), compute_dtype(layer.config.get("dtype")), count_weights
    )


@emits("Discretization", mask="off")
def discretization(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The number of the bin that each number falls into."""
    boundaries = layer.config.get("bin_boundaries")
    if boundaries is None:
        raise NotCovered(f"the layer {layer.path}, whose bin boundaries the file does not have")
    mode = str(layer.config.get("output_mode", "int"))
    dtype = "int32" if mode == "int" else compute_dtype(layer.config.get("dtype"))
    return encode(g, digitize(g, inputs, boundaries), mode, len(boundaries) + 1, dtype)


def digitize(g: Graph, x: Value, boundaries: Sequence[float]) -> Value:
    """How many of the boundaries each number has reached, as int32."""
    if x.dtype != "float64":
        x = g.cast(x, "float32")
    bounds = np.asarray(boundaries, np.float32).astype(x.dtype)
    reached = elementwise(g, "GreaterOrEqual", expand(g, x, -1), bounds, dtype="bool")
    return reduce(g, "ReduceSum", g.cast(reached, "int32"), [-1])


@emits("IntegerLookup", mask="off")
def integer_lookup(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The place of each number in the vocabulary, or the number at each place.

    Raises:
        NotCovered: the file has no vocabulary, numbers outside it are hashed by FarmHash64, or places are weighted.
    """
    config = layer.config
    vocabulary: Any = config.get("vocabulary")
    masked: Any = config.get("mask_token")
    mode, outside = str(config.get("output_mode", "int")), int(config.get("num_oov_indices", 1))
    if not isinstance(vocabulary, list):
        raise NotCovered(
            f"the layer {layer.path}, whose vocabulary the file does not have (save the model as .keras, or pass vocabulary=[...])"
        )
    if (outside > 1 and config.get("oov_method") == "farmhash") or mode == "tf_idf" or config.get("sparse"):
        raise NotCovered(f"the layer {layer.path}, which hashes numbers, weighs by frequency or makes sparse rows")
    first = 1 if masked is not None and mode == "int" else 0
    words = [int(word) for word in vocabulary]
    unknown = config.get("oov_token", -1)
    special = ([masked] if first else []) + [unknown] * outside
    if special and words[: len(special)] == [None if word is None else int(word) for word in special]:
        words = words[first + outside :]
    places = list(range(first + outside, first + outside + len(words)))
    x = g.cast(g.in_keras_order(inputs), "int64")
    if config.get("invert"):
        made = _lookup(g, x, places, words, g.constant(np.asarray(unknown, np.int64)))
        return made if masked is None else _replace(g, x, 0, int(masked), made)
    if outside > 1:
        rest = g.node("Mod", [x, g.constant(np.asarray(outside, np.int64))], x.shape, "int64")
        missing = elementwise(g, "Add", rest, np.asarray(first, np.int64))
    else:
        missing = g.constant(np.asarray(first if outside else -1, np.int64))
    ids = _lookup(g, x, words, places, missing)
    if masked is not None:  # rows of ones have no place for it
        ids = _replace(g, x, int(masked), 0 if mode == "int" else -1, ids)
    depth = int(config.get("max_tokens") or 0) if config.get("pad_to_max_tokens") else len(words) + first + outside
    return encode(g, ids, mode, depth, "int64")


def _lookup(g: Graph, x: Value, keys: Sequence[int], values: Sequence[int], missing: Value) -> Value:
    """The value of each number that is a key, and `missing` for the others; int64."""
    same = elementwise(g, "Equal", expand(g, x, -1), np.asarray(keys, np.int64), dtype="bool")
    wide = elementwise(g, "Mul", g.cast(same, "int64"), np.asarray(values, np.int64))
    value = reduce(g, "ReduceSum", wide, [-1])
    is_key = g.cast(reduce(g, "ReduceMax", g.cast(same, "int32"), [-1]), "bool")
    return elementwise(g, "Where", is_key, value, missing, dtype="int64")


def _replace(g: Graph, x: Value, key: int, value: int, otherwise: Value) -> Value:
    """One value where `x` is the key."""
    is_key = elementwise(g, "Equal", x, key, dtype="bool")
    return elementwise(g, "Where", is_key, np.asarray(value, np.int64), otherwise, dtype="int64")

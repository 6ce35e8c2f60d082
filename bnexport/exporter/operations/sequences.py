"""Nodes of `keras.ops` on series and rows: segments, scattered and replaced numbers, frames, and Fourier transforms as products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnexport.exporter.arithmetic import elementwise, expand, matmul, reduce, reshape, transpose
from bnexport.exporter.axes import cut, pad
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.convolution import numbers
from bnexport.exporter.promotion import Operand, as_value, floating, is_float
from bnexport.exporter.registry import emits_operation
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array

SEGMENTS = {"SegmentSum": "add", "SegmentProd": "mul", "SegmentMax": "max", "SegmentMin": "min"}


def _fixed(x: Value, what: str) -> list[int]:
    """The sides of a value behind the first one.

    Raises:
        NotCovered: one is open.
    """
    sides = [side for side in x.shape[1:] if side is not None]
    if len(sides) < x.rank - 1:
        raise NotCovered(f"{what} of values of open size")
    return sides


@emits_operation(*SEGMENTS)
def segments(g: Graph, layer: StoredLayer, data: Operand, segment_ids: Operand) -> Value:
    """The rows of each segment summed, multiplied, or their largest or smallest numbers; rows of no segment are left out.

    Raises:
        NotCovered: the number of segments is not fixed.
    """
    count = layer.config.get("num_segments")
    if count is None:
        raise NotCovered(f"{layer.kind} without num_segments, whose result has as many rows as the data decide")
    x, ids = g.in_keras_order(as_value(g, data)), as_value(g, segment_ids, "int64")
    limits = np.finfo(x.dtype) if is_float(x.dtype) else np.iinfo(x.dtype)
    neutral = {"add": 0, "mul": 1, "max": limits.min, "min": limits.max}[SEGMENTS[layer.kind]]
    base = np.full([int(count) + 1, *_fixed(x, layer.kind)], neutral, x.dtype)
    outside = elementwise(
        g,
        "Or",
        elementwise(g, "Less", ids, 0, dtype="bool"),
        elementwise(g, "GreaterOrEqual", ids, int(count), dtype="bool"),
    )
    rows = elementwise(g, "Where", outside, np.asarray(int(count), np.int64), ids, dtype="int64")
    places = expand(g, rows, -1)
    made = g.node("ScatterND", [base, places, x], base.shape, x.dtype, reduction=SEGMENTS[layer.kind])
    return cut(g, made, {0: (0, 1)})


@emits_operation("Scatter")
def scatter(g: Graph, layer: StoredLayer, indices: Operand, values: Operand) -> Value:
    """Numbers at positions of an array of zeros; those at one position are added up."""
    shape = [int(side) for side in layer.config["shape"]]
    new = g.in_keras_order(as_value(g, values))
    places = g.in_keras_order(as_value(g, indices, "int64"))
    return g.node("ScatterND", [np.zeros(shape, new.dtype), places, new], shape, new.dtype, reduction="add")


@emits_operation("SliceUpdate")
def slice_update(g: Graph, layer: StoredLayer, inputs: Operand, start_indices: Operand, updates: Operand) -> Value:
    """A block of a value replaced, from a fixed position on.

    Raises:
        NotCovered: the graph computes the position, or an axis that the block does not cover has an open size.
    """
    x = g.in_keras_order(as_value(g, inputs))
    new, starts = g.in_keras_order(as_value(g, updates, x.dtype)), g.array(as_value(g, start_indices))
    if starts is None:
        raise NotCovered(f"{layer.kind} from a position that the graph computes")
    widths, keep = {}, np.ones([1] * x.rank, bool)
    for axis, start in enumerate(int(start) for start in np.asarray(starts, np.int64)):
        side, length = x.shape[axis], new.shape[axis]
        if side == length and start == 0:
            continue
        if side is None or length is None:
            raise NotCovered(f"{layer.kind} along an axis of open size")
        start = min(max(start, 0), side - length)
        widths[axis] = (start, side - length - start)
        inside = (np.arange(side) >= start) & (np.arange(side) < start + length)
        keep = keep & inside.reshape([side if place == axis else 1 for place in range(x.rank)])
    return elementwise(g, "Where", g.constant(keep), pad(g, new, widths), x, dtype=x.dtype)


def frames(g: Graph, x: Value, axis: int, places: Array) -> Value:
    """Windows of an axis: their positions as two axes in its place."""
    x = g.in_keras_order(x)
    axis %= x.rank
    shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
    return g.node("Gather", [x, places], shape, x.dtype, axis=axis)


def _windows(side: int, length: int, stride: int, dilation: int = 1) -> Array:
    """The positions in each window, (windows, length)."""
    count = max((side - (length - 1) * dilation - 1) // stride + 1, 0)
    places: Array = np.arange(count, dtype=np.int64)[:, None] * stride + np.arange(length, dtype=np.int64) * dilation
    return places


@emits_operation("ExtractSequences")
def extract_sequences(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The windows of a series."""
    value, config = as_value(g, x), layer.config
    side = value.shape[-1]
    if side is None:
        raise NotCovered("extract_sequences of series of open length")
    return frames(g, value, -1, _windows(side, int(config["sequence_length"]), int(config["sequence_stride"])))


@emits_operation("Unfold")
def unfold(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """The pixels of each window of images (N, C, H, W) as a column."""
    value, config = g.in_keras_order(as_value(g, x)), layer.config
    size, dilation, padding, stride = (
        numbers(config.get(name, default), 2)
        for name, default in (("kernel_size", 1), ("dilation", 1), ("padding", 0), ("stride", 1))
    )
    value = pad(g, value, {2 + nth: (width, width) for nth, width in enumerate(padding)})
    channels, rows, columns = value.shape[1:]
    if channels is None or rows is None or columns is None:
        raise NotCovered("unfold of images of open size")
    places = [_windows(side, size[nth], stride[nth], dilation[nth]).T for nth, side in enumerate((rows, columns))]
    made = frames(g, frames(g, value, 3, places[1]), 2, places[0])
    made = transpose(g, made, [0, 1, 2, 4, 3, 5])
    return reshape(g, made, (value.shape[0], channels * size[0] * size[1], places[0].shape[1] * places[1].shape[1]))


@emits_operation("InTopK")
def in_top_k(g: Graph, layer: StoredLayer, targets: Operand, predictions: Operand) -> Value:
    """Whether fewer than k predictions are larger than that of the target."""
    rows = g.in_keras_order(as_value(g, predictions))
    places = expand(g, as_value(g, targets, "int64"), -1)
    own = g.node("GatherElements", [rows, places], (rows.shape[0], 1), rows.dtype, axis=1)
    larger = g.cast(elementwise(g, "Greater", rows, own, dtype="bool"), "int32")
    return elementwise(g, "Less", reduce(g, "ReduceSum", larger, [-1]), int(layer.config["k"]), dtype="bool")


def _waves(rows: int, columns: int, period: int) -> tuple[Array, Array]:
    """Cos and sin of 2 pi n k / period, (rows, columns), in float64."""
    angles = 2 * np.pi * ((np.arange(rows)[:, None] * np.arange(columns)) % period) / period
    return np.cos(angles), np.sin(angles)


def _times(g: Graph, x: Value, matrix: Array, name: str) -> Value:
    """The product with a constant, also of a vector."""
    wide = expand(g, x, 0) if x.rank == 1 else x
    made = matmul(g, wide, g.constant(np.ascontiguousarray(matrix).astype(x.dtype), name))
    return reshape(g, made, made.shape[1:]) if x.rank == 1 else made


def _of_length(g: Graph, x: Value, length: int | None) -> tuple[Value, int]:
    """A series cut, or filled with zeros, to a length.

    Raises:
        NotCovered: its own is open.
    """
    side = x.shape[-1]
    if side is None:
        raise NotCovered("the Fourier transform of series of open length")
    wanted = side if length is None else int(length)
    if side > wanted:
        return cut(g, x, {x.rank - 1: (0, side - wanted)}), wanted
    return pad(g, x, {x.rank - 1: (0, wanted - side)}), wanted


def _half_spectrum(g: Graph, x: Value, length: int) -> tuple[Value, Value]:
    cosines, sines = _waves(length, length // 2 + 1, length)
    return _times(g, x, cosines, "cosines"), _times(g, x, -np.asarray(sines, np.float64), "sines")


@emits_operation("RFFT")
def real_transform(g: Graph, layer: StoredLayer, x: Operand) -> tuple[Value, Value]:
    """The Fourier transform of real series: real and imaginary parts."""
    return _half_spectrum(g, *_of_length(g, as_value(g, x, floating(x)), layer.config.get("fft_length")))


@emits_operation("FFT")
def transform(g: Graph, layer: StoredLayer, x: Sequence[Operand]) -> tuple[Value, Value]:  # noqa: ARG001 - the form of an emitter
    """The Fourier transform of series given by real and imaginary parts."""
    (real, length), (imaginary, _) = (_of_length(g, as_value(g, part, floating(part)), None) for part in x)
    cosines, sines = _waves(length, length, length)
    parts = [[_times(g, part, wave, "waves") for wave in (cosines, sines)] for part in (real, imaginary)]
    return (
        elementwise(g, "Add", parts[0][0], parts[1][1]),
        elementwise(g, "Sub", parts[1][0], parts[0][1]),
    )


@emits_operation("IRFFT")
def real_inverse(g: Graph, layer: StoredLayer, x: Sequence[Operand]) -> Value:
    """The real series of a half spectrum."""
    side = as_value(g, x[0]).shape[-1]
    given = layer.config.get("fft_length")
    if side is None:
        raise NotCovered("the Fourier transform of series of open length")
    length = 2 * (side - 1) if given is None else int(given)
    real, imaginary = (_of_length(g, as_value(g, part, floating(part)), length // 2 + 1)[0] for part in x)
    cosines, sines = _waves(length // 2 + 1, length, length)
    share = np.full((length // 2 + 1, 1), 2.0)
    share[0] = 1.0
    if length % 2 == 0:
        share[-1] = 1.0
    made = [
        _times(g, part, np.asarray(wave, np.float64) * share / length, "waves")
        for part, wave in ((real, cosines), (imaginary, sines))
    ]
    return elementwise(g, "Sub", *made)


@emits_operation("STFT")
def short_transform(g: Graph, layer: StoredLayer, x: Operand) -> tuple[Value, Value]:
    """The Fourier transforms of the windows of real series."""
    value, config = as_value(g, x), layer.config
    length, width = int(config["fft_length"]), int(config["sequence_length"])
    if config.get("center", True):
        value = pad(g, value, {value.rank - 1: (length // 2, length // 2)}, mode="reflect")
    side, given = value.shape[-1], config.get("window", "hann")
    if side is None:
        raise NotCovered("the Fourier transform of series of open length")
    turn = 2 * np.pi * np.arange(width) / (width - width % 2)  # TensorFlow's windows of odd length are not periodic
    shapes = {"hann": 0.5 - 0.5 * np.cos(turn), "hamming": 0.54 - 0.46 * np.cos(turn), None: np.ones(width)}
    window = shapes[given] if given is None or isinstance(given, str) else np.asarray(given, np.float64)
    before = (length - width) // 2
    if given is None:
        before, window = 0, np.ones(length)
    window = np.pad(window, (before, length - len(window) - before)).astype(value.dtype)
    windows = frames(g, value, -1, _windows(side, length, int(config["sequence_stride"])))
    return _half_spectrum(g, elementwise(g, "Mul", windows, window), length)

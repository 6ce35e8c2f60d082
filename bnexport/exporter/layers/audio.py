"""Spectrograms: Fourier transforms of short frames, as convolutions with sines and cosines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bnexport.exporter.arithmetic import elementwise, integers, matmul, reduce, unary
from bnexport.exporter.axes import pad, permute
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.convolution import leaps, pad_same, sides_of, window
from bnexport.exporter.layers.merging import EPSILON
from bnexport.exporter.operations.elementwise import angle
from bnexport.exporter.registry import emits
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array

BREAK_FREQUENCY = 700.0
HIGH_FREQUENCY_Q = 1127.0
"""Of Keras' mel scale: 1127 log(1 + f / 700)."""


@emits("STFTSpectrogram", mask="off")
def spectrogram(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The spectrum of each frame of each channel: its size, power, phase, parts or logarithm."""
    config, mode = layer.config, str(layer.config.get("mode", "log"))
    last = config.get("data_format") != "channels_first"
    x = g.with_channels_first(inputs) if last else g.in_keras_order(inputs)
    channels = x.shape[-1] if last else x.shape[1]
    if channels is None:
        raise NotCovered(f"the layer {layer.path} on an open number of channels")
    names = {"real": ["real_kernel"], "imag": ["imag_kernel"]}.get(mode, ["real_kernel", "imag_kernel"])
    kernels = [np.transpose(layer.array(name), (2, 1, 0)).astype(x.dtype) for name in names]
    if mode == "stft":
        kernels = [np.concatenate(kernels)]
    frame = kernels[0].shape[2]
    step = int(config.get("frame_step") or frame // 2)
    padding = str(config.get("padding", "valid"))
    pads, (frames,) = window(sides_of(x, last=last), [frame], [step], [1], padding)
    if pads is None and leaps(sides_of(x, last=last), [frame], [step]):
        x, pads = pad_same(g, x, [frame], [step], last=last), [0, 0]
    bins = kernels[0].shape[0]
    parts = []
    for name, kernel in zip(names, kernels, strict=False):
        weight = g.weight(name, np.tile(kernel, (channels, 1, 1)))
        shape = (x.shape[0], channels * bins, frames)
        made = g.node(
            "Conv",
            [x, weight],
            shape,
            x.dtype,
            group=channels,
            strides=[step],
            pads=pads,
            auto_pad=None if pads else "SAME_UPPER",
        )
        parts.append(made)
    return _arrange(
        g, _combine(g, parts, mode, channels, bins), channels, bins, last=last, apart=bool(config.get("expand_dims"))
    )


def _combine(g: Graph, parts: list[Value], mode: str, channels: int, bins: int) -> Value:
    if len(parts) == 1:
        return parts[0]
    real, imag = parts
    if mode == "angle":
        return angle(g, imag, real)
    power = elementwise(g, "Add", elementwise(g, "Mul", real, real), elementwise(g, "Mul", imag, imag))
    if mode == "psd":
        twice = np.full((bins, 1), 2.0)
        twice[0] = twice[-1] = 1
        return elementwise(g, "Mul", power, np.tile(twice, (channels, 1)).astype(power.dtype))
    size = unary(g, "Sqrt", elementwise(g, "Max", power, EPSILON))
    return size if mode == "magnitude" else unary(g, "Log", elementwise(g, "Max", size, EPSILON))


def _arrange(g: Graph, x: Value, channels: int, bins: int, *, last: bool, apart: bool) -> Value:
    """(N, channels and bins, frames) in the layout of the layer."""
    batch, _, frames = x.shape
    if not apart:
        return replace(x, shape=(batch, frames, channels * bins), channels_first=True) if last else x
    sizes = integers(0, channels, bins, -1)
    wide = g.node("Reshape", [x, sizes], (batch, channels, bins, frames), x.dtype)
    return permute(g, wide, [0, 3, 2, 1] if last else [0, 1, 3, 2])


@emits("MelSpectrogram", mask="off")
def mel_spectrogram(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The spectrum of each frame in bands of the mel scale, in decibels below the loudest one of the batch."""
    config = layer.config
    if inputs.rank != 2:
        raise NotCovered(f"the layer {layer.path} on anything but a batch of one-channel signals")
    x = g.cast(inputs, "float64" if inputs.dtype == "float64" else "float32")
    size, step = int(config.get("fft_length", 2048)), int(config.get("sequence_stride", 512))
    x = pad(g, x, {1: (size // 2, size // 2)}, mode="reflect")
    length = x.shape[1]
    frames = None if length is None else (length - size) // step + 1
    bins = size // 2 + 1
    signal = g.node("Unsqueeze", [x, integers(1)], (x.shape[0], 1, length), x.dtype)
    kernel = g.constant(_fourier(config, size).astype(x.dtype), "fourier")
    both = g.node("Conv", [signal, kernel], (x.shape[0], 2 * bins, frames), x.dtype, strides=[step])
    real, imag = g.node_with_outputs(
        "Split", [both, integers(bins, bins)], [((x.shape[0], bins, frames), x.dtype)] * 2, axis=1
    )
    power = elementwise(g, "Add", elementwise(g, "Mul", real, real), elementwise(g, "Mul", imag, imag))
    spectrum = elementwise(g, "Pow", unary(g, "Sqrt", power), float(config.get("mag_exp", 2.0)))
    bands = g.constant(np.ascontiguousarray(_bands(config, bins).T).astype(x.dtype), "bands")
    made = matmul(g, bands, spectrum)
    if config.get("power_to_db", True):
        made = _decibels(g, made, config)
    return g.cast(made, inputs.dtype)


def _decibels(g: Graph, x: Value, config: Config) -> Value:
    least = float(config.get("min_power", 1e-10))
    logs = unary(g, "Log", elementwise(g, "Max", x, least))
    tens = elementwise(g, "Mul", elementwise(g, "Div", logs, float(np.log(10.0))), 10.0)
    reference = 10.0 * float(np.log10(max(abs(float(config.get("ref_power", 1.0))), least)))
    tens = elementwise(g, "Sub", tens, reference)
    loudest = reduce(g, "ReduceMax", tens, range(tens.rank))
    return elementwise(g, "Max", tens, elementwise(g, "Sub", loudest, float(config.get("top_db", 80.0))))


def _fourier(config: Config, size: int) -> Array:
    """Cosines and negative sines of each frequency under the window, shape (2 * bins, 1, size)."""
    length = int(config.get("sequence_length") or size)
    named, steps = config.get("window", "hann"), np.arange(length)
    curves = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46)}
    if named is None:
        shape = np.ones(size)
    else:
        if isinstance(named, str):
            level, swing = curves[named]
            curve = level - swing * np.cos(2 * np.pi * steps / length)
        else:
            curve = np.asarray(named, np.float64)
        before = (size - length) // 2
        shape = np.pad(curve, (before, size - length - before))
    turns = 2 * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size
    made: Array = (np.concatenate([np.cos(turns), -np.sin(turns)]) * shape)[:, None, :]
    return made


def _mel(frequencies: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.log(np.float32(1) + frequencies / np.float32(BREAK_FREQUENCY))
    return np.float32(HIGH_FREQUENCY_Q) * made


def _bands(config: Config, bins: int) -> Array:
    """How much of each frequency belongs to each band, shape (bins, bands): triangles on the mel scale, without the frequency 0."""
    count, rate = int(config.get("num_mel_bins", 128)), int(config.get("sampling_rate", 16000))
    ends = np.asarray([config.get("min_freq", 20.0), config.get("max_freq") or rate // 2], np.float32)
    frequencies = np.linspace(0, rate / 2, bins, dtype=np.float32)[1:]
    positions = _mel(frequencies)[:, None]
    low, high = (float(end) for end in _mel(ends))
    edges = np.linspace(low, high, count + 2, dtype=np.float32)
    below, centre, above = (edges[start : start + count][None] for start in range(3))
    slopes = np.minimum((positions - below) / (centre - below), (above - positions) / (above - centre))
    made: Array = np.pad(np.maximum(slopes, np.float32(0)), ((1, 0), (0, 0)))
    return made

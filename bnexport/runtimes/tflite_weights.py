"""The kernels that a .tflite file holds, as real numbers in the layout of Keras."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bnexport.errors import InputError
from bnexport.runtimes.tflite_file import DEQUANTIZE, Table, Tensor, TfliteFile, read_tflite
from bnexport.types import Array

CONV_2D, FULLY_CONNECTED = 3, 9
"""The operators whose kernels are read, by their number in the schema; those of others have layouts of their own."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where the values of a tensor are, and what they are multiplied by.

    Args:
        start: the position of the first byte in the file.
        size: how many bytes there are.
        scales: one for all, or one for each entry of `axis`; empty where they are no integers.
        zero_points: the integers that stand for zero, as many; empty where they are 0.
        axis: see `scales`.
    """

    start: int
    size: int
    scales: tuple[float, ...]
    zero_points: tuple[float, ...]
    axis: int


def read_kernels(content: bytes, name: str) -> dict[str, Array]:
    """The kernels of convolutions, shape (H, W, in, out), and of fully connected layers, shape (in, out), by their tensors; float32.

    Args:
        content: the file's bytes.
        name: what messages call it.

    Raises:
        InputError: it is not a valid .tflite file.
    """
    file = read_tflite(content, name)
    try:
        stored = _find_values(content)
        return {
            file.tensors[at].name: np.moveaxis(values, 0, -1)
            for at in _kernels(file)
            if (values := _values(file.tensors[at], stored[at], content)) is not None
        }
    except (struct.error, ValueError, IndexError) as error:
        raise InputError(f"{name} is not a valid .tflite file ({error})") from error


def _kernels(file: TfliteFile) -> Iterator[int]:
    """The positions of constants that such operators read as their kernels, also through DEQUANTIZE."""
    stored = {o.outputs[0]: o.inputs[0] for o in file.operators if o.code == DEQUANTIZE and o.inputs and o.outputs}
    for operator in file.operators:
        if operator.code in (CONV_2D, FULLY_CONNECTED) and len(operator.inputs) > 1:
            at = stored.get(operator.inputs[1], operator.inputs[1])
            if at >= 0 and file.tensors[at].constant:
                yield at


def _find_values(content: bytes) -> list[_Stored]:
    """Where the values of every tensor of the main graph are, in the order of the file."""
    model = Table(content, struct.unpack_from("<I", content)[0])
    buffers = [
        (buffer.number(1, "Q"), buffer.number(2, "Q")) if buffer.number(1, "Q") > 1 else buffer.vector(0, 1)
        for buffer in model.tables(4)
    ]
    every = []
    for tensor in next(model.tables(2)).tables(0):
        steps = tensor.table(4)
        every.append(
            _Stored(
                *buffers[tensor.number(2, "I")],
                scales=steps.numbers(2, "f") if steps is not None else (),
                zero_points=steps.numbers(3, "q") if steps is not None else (),
                axis=steps.number(6) if steps is not None else 0,
            )
        )
    return every


def _values(tensor: Tensor, stored: _Stored, content: bytes) -> Array | None:
    """What a constant stands for, the output channels first; None where it cannot be read: with 4 bits, or stored otherwise."""
    if tensor.type not in ("float32", "float16", "int8", "uint8") or None in tensor.shape or len(tensor.shape) < 2:
        return None
    shape, dtype = [side for side in tensor.shape if side is not None], np.dtype(tensor.type)
    count = int(np.prod(shape))
    if stored.size != count * dtype.itemsize or bool(stored.scales) != (dtype.kind != "f"):
        return None
    values = np.frombuffer(content, dtype, count, stored.start).reshape(shape)
    if not stored.scales:
        return np.asarray(values, np.float32)
    along = [-1 if axis == stored.axis else 1 for axis in range(len(shape))] if len(stored.scales) > 1 else [1]
    scales, zeros = (
        np.array(x).reshape(along) for x in (stored.scales, stored.zero_points or [0] * len(stored.scales))
    )
    return np.asarray((values.astype(np.float64) - zeros) * scales, np.float32)

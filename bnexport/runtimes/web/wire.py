"""Questions and answers of a session in JavaScript as bytes (`session.mjs` has the other end): a header as JSON, and tensors as they lie in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from bnexport.errors import InputError
from bnexport.types import Array, Nested

TYPES = frozenset(
    ["float32", "float64", "float16", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)
"""The types of tensors that have the same name in onnxruntime-web and in NumPy; text is "string" and "str"."""

_START, _STEP = 4, 8


def pack(header: Mapping[str, object], tensors: Mapping[str, Array], rest: bytes = b"") -> bytes:
    """A message.

    Args:
        header: what goes beside the tensors, as JSON has it.
        tensors: arrays of any shape.
        rest: what stands behind them as it is.

    Raises:
        InputError: onnxruntime-web has no tensors of a type.
    """
    listed: list[dict[str, object]] = []
    parts = []
    for name, array in tensors.items():
        entry = {"name": name, "type": array.dtype.name, "dims": array.shape}
        if array.dtype.kind == "U":
            listed.append(entry | {"type": "string", "data": array.ravel().tolist()})
        elif array.dtype.name in TYPES:
            listed.append(entry | {"size": array.nbytes})
            parts.append(_pad(array.tobytes()))
        else:
            raise InputError(f"onnxruntime-web has no type for the input {name}", found=array.dtype.name)
    text = json.dumps({**header, "tensors": listed}).encode()
    return b"".join([_pad(len(text).to_bytes(_START, "little") + text), *parts, rest])


def unpack(message: bytes) -> tuple[dict[str, Nested], dict[str, Array]]:
    """The header and the tensors of a message.

    Raises:
        InputError: a tensor has a type that NumPy does not have.
    """
    length = int.from_bytes(message[:_START], "little")
    header = json.loads(message[_START : _START + length])
    offset = _round_up(_START + length)
    tensors: dict[str, Array] = {}
    for entry in header.pop("tensors", []):
        name, kind, shape = entry["name"], entry["type"], entry["dims"]
        if kind == "string":
            tensors[name] = np.asarray(entry["data"], np.str_).reshape(shape)
        elif kind in TYPES:
            count = entry["size"] // np.dtype(kind).itemsize
            tensors[name] = np.frombuffer(message, kind, count, offset).reshape(shape).copy()
            offset += _round_up(entry["size"])
        else:
            raise InputError(f"the output {name} cannot be compared", found=f"a tensor of type {kind}")
    return header, tensors


def _round_up(size: int) -> int:
    return -(-size // _STEP) * _STEP


def _pad(part: bytes) -> bytes:
    return part.ljust(_round_up(len(part)), b"\0")

"""The files that a program writes its tensors to: .npy, .npz, .pb, raw numbers with a JSON header, and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnexport.datasets import npz
from bnexport.errors import InputError, reason
from bnexport.onnx_graph import protobuf
from bnexport.system import files
from bnexport.types import Array, Nested

SUFFIXES = (".npy", ".npz", ".pb", ".bin", ".raw", ".csv")
"""Files with other suffixes are not read; .json is the header of .bin and .raw."""

LAYOUTS = ("NCHW", "NHWC")
"""What a header may state."""

MOST = 1 << 32
"""The largest file that is read, in bytes."""

_DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_HEADER = {"dtype", "shape", "layout", "byteorder", "name"}


@dataclass(frozen=True, slots=True)
class Stored:
    """One array of a file.

    Args:
        array: its values; the rows of a CSV file, which has no further axes.
        layout: "NCHW" or "NHWC" where the file states it; "" where it does not.
        flat: whether the file has no shape, so that the shape of the tensor decides.
        rows: what the rows of a CSV file are called in its first column; empty where it has no names.
    """

    array: Array
    layout: str = ""
    flat: bool = False
    rows: tuple[str, ...] = ()


def read(path: Path) -> dict[str, Stored]:
    """The arrays of a file by name; the name is "" where the file itself names none.

    Raises:
        InputError: it cannot be read as what its suffix says, or contains something else than numbers.
    """
    match path.suffix.lower():
        case ".npy":
            arrays = {"": Stored(npz.load_one(path))}
        case ".npz":
            arrays = {name: Stored(array) for name, array in npz.load(path, rows=False).items()}
        case ".pb":
            arrays = {"": Stored(protobuf.array_from(_content(path), str(path)))}
        case ".csv":
            arrays = {"": _table(path)}
        case _:
            arrays = _raw(path)
    for name, stored in arrays.items():
        if stored.array.dtype.kind != "U":  # text is compared, too
            npz.refuse_no_numbers(f"{name or 'the array'} in {path}", stored.array.dtype)
    return arrays


def _content(path: Path) -> bytes:
    try:
        return files.read_bounded(path, MOST)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error


def _raw(path: Path) -> dict[str, Stored]:
    """Numbers as they lie in memory, with a header beside them: {"dtype": "float32", "shape": [1, 3, 224, 224], "layout": "NCHW"}."""
    header_path = path.with_suffix(".json")
    if files.status(header_path) is None:
        raise InputError(
            f"{path} has no header",
            expected=f'{header_path.name} with {{"dtype": "float32", "shape": [...]}} beside it',
        )
    header = _header(header_path)
    dtype, shape = np.dtype(header.get("dtype", "float32")), tuple(header["shape"])
    content = _content(path)
    expected = dtype.itemsize * int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise InputError(
            f"{path} does not have the size that {header_path.name} states",
            found=f"{len(content)} bytes",
            expected=f"{expected}, for {dtype} of shape {shape}",
        )
    stored = dtype.newbyteorder("<" if header.get("byteorder", "little") == "little" else ">")
    array = np.frombuffer(content, stored).reshape(shape).astype(dtype)
    return {str(header.get("name", "")): Stored(array, str(header.get("layout", "")))}


def _header(path: Path) -> Mapping[str, Nested]:
    try:
        header = json.loads(files.read_bounded(path, files.MOST_TEXT))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({reason(error)})") from error
    if not isinstance(header, dict) or "shape" not in header or set(header) - _HEADER:
        raise InputError(
            f"{path} is not a header",
            found=", ".join(map(str, header)) if isinstance(header, dict) else "no object",
            expected="shape, and optionally dtype, layout, byteorder and name",
        )
    shape = header["shape"]
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 1 << 31 for side in shape):
        raise InputError(f"{path} has an invalid shape", found=str(shape), expected="a list of sizes")
    for key, choices in (("dtype", _DTYPES), ("layout", LAYOUTS), ("byteorder", ("little", "big"))):
        if key in header and header[key] not in choices:
            raise InputError(f"{path} has an invalid {key}", found=str(header[key]), expected=", ".join(choices))
    return header


def _table(path: Path) -> Stored:
    """One row of numbers for each item; a first row of names and a first column of names may come before them."""
    text = _content(path).decode("utf-8-sig", "replace")
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if rows and not any(map(_is_number, rows[0])):
        rows = rows[1:]
    names: tuple[str, ...] = ()
    if rows and all(len(row) > 1 and not _is_number(row[0]) for row in rows):
        names, rows = tuple(row[0] for row in rows), [row[1:] for row in rows]
    try:
        values = np.array([[float(cell) for cell in row] for row in rows], np.float64)
    except ValueError as error:
        raise InputError(
            f"{path} is not a table of numbers ({reason(error)})", expected="one row of numbers for each item"
        ) from error
    if not values.size:
        raise InputError(f"{path} has no rows", expected="one row of numbers for each item")
    return Stored(values, flat=True, rows=names)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

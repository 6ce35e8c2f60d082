"""Models and arrays as ONNX' own messages in bytes, and back; and the few bytes that make a stored graph give out more."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError, MachineError, reason
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


def serialise(model: onnx.ModelProto) -> bytes:
    """The model as bytes.

    Raises:
        InputError: it is larger than the 2 GiB that one protobuf message can hold, or holds what cannot be written.
        MachineError: there is not enough memory.
    """
    from google.protobuf.message import EncodeError

    try:
        content: bytes = model.SerializeToString()
    except MemoryError as error:
        raise MachineError("there is not enough memory to write the graph") from error
    except (EncodeError, ValueError) as error:
        if _stored_bytes(model) > LARGEST:  # what cannot be written cannot give its ByteSize() either
            raise InputError("the graph is larger than 2 GiB, the limit of an ONNX file") from error
        raise InputError(f"the graph cannot be written ({reason(error)})") from error
    return content


def write(model: onnx.ModelProto, path: Path) -> None:
    """Writes the model as `serialise` has it, one weight at a time, so that there is no second copy of all of them in memory.

    Raises:
        InputError: it is larger than the 2 GiB that one protobuf message can hold.
    """
    import onnx

    weights = model.graph.initializer
    graph = onnx.GraphProto()
    for field, value in model.graph.ListFields():
        if field.name == "initializer":
            continue
        if isinstance(value, str):
            setattr(graph, field.name, value)
        else:
            getattr(graph, field.name).extend(value)
    head = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if isinstance(value, str | int):
            setattr(head, field.name, value)
        else:
            getattr(head, field.name).extend(value)
    nodes = graph.SerializeToString()
    heads = [_without_values(weight) for weight in weights]
    sizes = [
        len(start) + len(_before_values(weight)) + _raw_size(weight) if start else weight.ByteSize()
        for start, weight in zip(heads, weights, strict=True)
    ]
    total = len(nodes) + sum(1 + len(_length(size)) + size for size in sizes)
    if total > LARGEST - head.ByteSize() - 6:
        raise InputError("the graph is larger than 2 GiB, the limit of an ONNX file")
    with path.open("wb") as file:
        file.write(head.SerializeToString() + bytes([_GRAPH << 3 | _BYTES]) + _length(total) + nodes)
        for start, weight, size in zip(heads, weights, sizes, strict=True):
            file.write(bytes([_INITIALIZER << 3 | _BYTES]) + _length(size) + start)
            file.writelines([_before_values(weight), _values_of(weight)] if start else [weight.SerializeToString()])


def _without_values(weight: onnx.TensorProto) -> bytes:
    """A weight as bytes up to its values, which follow it as `_before_values` and `_values_of` have them; b"" where it is not stored so.

    A message as bytes takes several copies of its values while it is written.
    """
    import onnx

    fields = {field.name for field, _ in weight.ListFields()} - {"dims"}
    if fields != {"data_type", "name", "raw_data"} or weight.data_type not in _DTYPES:
        return b""
    head: bytes = onnx.TensorProto(dims=weight.dims, data_type=weight.data_type, name=weight.name).SerializeToString()
    return head


def _raw_size(weight: onnx.TensorProto) -> int:
    """How many bytes the values take: asking for them, or for the size of the message, copies them."""
    count: int = math.prod(weight.dims)
    return count * np.dtype(_DTYPES[weight.data_type]).itemsize


def _before_values(weight: onnx.TensorProto) -> bytes:
    return bytes([_RAW_DATA << 3 | _BYTES]) + _length(_raw_size(weight))


def _values_of(weight: onnx.TensorProto) -> bytes:
    values: bytes = weight.raw_data
    if len(values) != _raw_size(weight):
        raise InputError(
            f"the weight {weight.name} is damaged",
            found=f"{len(values)} bytes",
            expected=f"{_raw_size(weight)} bytes for the shape {list(weight.dims)}",
        )
    return values


_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""The numbers of ModelProto's field graph, GraphProto's field initializer and TensorProto's field raw_data."""


def _length(size: int) -> bytes:
    """A varint."""
    encoded = bytearray()
    while size > 127:
        encoded.append(size & 127 | 128)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


LARGEST = (1 << 31) - 1
"""The size of the largest protobuf message, in bytes."""


def _stored_bytes(model: onnx.ModelProto) -> int:
    """How many bytes the weights and constants of a graph take, without the graphs inside nodes."""
    import onnx

    constants = [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
    return sum(
        math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in [*model.graph.initializer, *constants]
        if tensor.data_type != onnx.TensorProto.UNDEFINED
    )


def tensor_bytes(array: Array, name: str) -> bytes:
    """An array, of numbers or of text, as a serialised TensorProto."""
    from onnx import numpy_helper

    values = array.astype(np.object_) if array.dtype.kind == "U" else np.asarray(array, order="C")
    content: bytes = numpy_helper.from_array(values, name).SerializeToString()
    return content


def array_from(content: bytes, path: str) -> Array:
    """The array in a serialised TensorProto.

    What `tensor_bytes` writes (dims, data_type, name, raw_data) is read here: importing onnx takes a tenth of a whole verification. Anything else is left to onnx.

    Raises:
        InputError: it holds something else; `path` is named.
    """
    try:
        plain = _plain_tensor(memoryview(content))
    except (IndexError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is not a tensor ({reason(error)})") from error
    return _array_by_onnx(content, path) if plain is None else plain


def _plain_tensor(content: memoryview) -> Array | None:
    """The array in a TensorProto of plain fields (onnx.proto3); None where it has others."""
    dims, dtype, raw = [], None, memoryview(b"")
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        number, wire = key >> 3, key & 7
        value, position = _varint(content, position)
        if wire == _BYTES:
            if position + value > len(content):
                raise ValueError("it ends too early")
            field, position = content[position : position + value], position + value
        if (number, wire) == (1, _VARINT):
            dims.append(value)
        elif (number, wire) == (2, _VARINT):
            dtype = _DTYPES.get(value)
        elif (number, wire) == (9, _BYTES):
            raw = field
        elif (number, wire) != (8, _BYTES):  # the name
            return None
    return None if dtype is None else np.frombuffer(raw, dtype).reshape(dims)


_VARINT, _BYTES = 0, 2
_DTYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("a number is too long")


def _array_by_onnx(content: bytes, path: str) -> Array:
    import onnx

    try:
        tensor = onnx.TensorProto.FromString(content)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise InputError(f"{path} refers to values in another file")
        array: Array = onnx.numpy_helper.to_array(tensor)
        if array.dtype.kind == "O":
            array = array.astype(np.str_)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} is not a tensor ({reason(error)})") from error
    return array


def giving_out(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """What has to stand behind the bytes of a stored model for its graph to give out the tensors `names` too; empty where it does so already.

    Serialised messages that stand behind each other are merged when they are read: repeated fields are joined.
    """
    import onnx

    more = onnx.ModelProto()
    infos = {info.name: info for info in model.graph.value_info}
    given = {info.name for info in model.graph.output}
    for name in names:
        if name not in given:
            more.graph.output.append(infos.get(name) or onnx.ValueInfoProto(name=name))
    content: bytes = more.SerializeToString()
    return content


def input_dtypes(model: onnx.ModelProto) -> dict[str, np.dtype[np.generic]]:
    """The NumPy dtype of each of the graph's inputs."""
    import onnx

    return {
        info.name: onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type) for info in model.graph.input
    }


def keeps_weights_elsewhere(path: Path) -> bool:
    """Whether an ONNX file keeps weights in other files (external data)."""
    import onnx

    tensors = onnx.load(path, load_external_data=False).graph.initializer
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors)


def model_from(content: bytes) -> onnx.ModelProto:
    """The model in a serialised ModelProto."""
    import onnx

    model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    return model

"""Seeded changes of what a file means: it can still be parsed, and says something else than an exporter would write."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 1 << 40, -(1 << 63), 1e9, 0.5, 1e-30),
    *("", "\0", "float16", "float64", "string", "null", "relu", "conv", "x" * 300),
    *([], {}, [1], [[]], ["float32"], [None], {"a": 1}, [1, 1, 1, 1, 1, 1, 1]),
)
"""What a value of JSON may be replaced by: other types, sizes and words."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a value of JSON."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def change_json(value: Any, rng: random.Random) -> Any:
    """A value of JSON with another value, type or structure in one to three places."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        every = list(places(changed))
        if not every:
            return rng.choice(VALUES)
        *way, last = rng.choice(every)
        parent = changed
        for key in way:
            parent = parent[key]
        match rng.randrange(8):
            case 0:
                del parent[last]
            case 1:
                parent[last] = [parent[last]]
            case 2 if isinstance(parent, dict):
                parent[str(rng.choice(VALUES))] = parent.pop(last)
            case 3 | 4:
                other: Any = changed
                for key in rng.choice(every):
                    other = other[key] if isinstance(other, dict) or key < len(other) else other
                parent[last] = copy.deepcopy(other)
            case _:
                parent[last] = copy.deepcopy(rng.choice(VALUES))
    return changed


def change_text(text: str, rng: random.Random) -> str:
    """The same for a text of JSON."""
    return json.dumps(change_json(json.loads(text), rng))


def change_keras(content: bytes, rng: random.Random) -> bytes:
    """A .keras file with another configuration, metadata or weights; it is a whole archive still."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        names = old.namelist()
        chosen = rng.choice([*names, "config.json", "config.json"])
        for name in names:
            part = old.read(name)
            if name == chosen:
                part = change_text(part.decode(), rng).encode() if name.endswith(".json") else change_weights(part, rng)
            new.writestr(name, part)
    return packed.getvalue()


def change_h5(content: bytes, rng: random.Random) -> bytes:
    """An .h5 file with another configuration, other names, or other arrays."""
    stream = io.BytesIO(content)
    if rng.random() < 0.4:
        return change_weights(content, rng)
    with h5py.File(stream, "r+") as file:
        name = rng.choice(["model_config", "model_config", "model_config", *file.attrs])
        value = file.attrs[name]
        text = value.decode() if isinstance(value, bytes) else str(value)
        if text.startswith("{"):
            file.attrs[name] = change_text(text, rng)
        else:
            set_attribute(file, name, rng)
    return stream.getvalue()


def change_weights(content: bytes, rng: random.Random) -> bytes:
    """An HDF5 file with one array or group changed: shape, dtype, name, kind, or an attribute."""
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(rng.choice((1, 1, 2))):
            name = rng.choice(names)
            if name not in file:
                continue
            match rng.randrange(6):
                case 0:
                    del file[name]
                case 1:
                    renamed = f"{name}_{rng.randrange(3)}"
                    if renamed not in file:
                        file.move(name, renamed)
                case 2 if file[name].attrs:
                    set_attribute(file[name], rng.choice(list(file[name].attrs)), rng)
                case 3:
                    del file[name]
                    file.create_group(name)
                case 4:
                    other = rng.choice(names)
                    if other in file and not other.startswith(name) and not name.startswith(other):
                        del file[name]
                        file.copy(other, file, name)
                case _:
                    del file[name]
                    file[name] = rng.choice(ARRAYS)
    return stream.getvalue()


ARRAYS: tuple[Any, ...] = (
    np.zeros((), np.int64),
    np.zeros((0,), np.float32),
    np.zeros((3, 3, 1, 8), np.float32),
    np.full((8,), np.nan, np.float32),
    np.zeros((8,), np.complex64),
    np.zeros((8,), [("a", np.int8)]),
    np.array([b"abc"]),
    np.array(-(1 << 63), np.int64),
    np.array(1e300),
)
"""What an array of a file may be replaced by."""


def set_attribute(owner: h5py.Group, name: str, rng: random.Random) -> None:
    owner.attrs[name] = rng.choice([*ARRAYS, "", "null", "{}", "[]", 1, np.array([b"a", b"b"]), b"\xff"])


def change_onnx(content: bytes, rng: random.Random) -> bytes:
    """An ONNX file with other metadata, types, connections, operators, attributes or weights."""
    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(CHANGES)(model, rng)
    return model.SerializeToString()


def change_metadata(model: onnx.ModelProto, rng: random.Random) -> None:
    """What bnexport notes in a file, of the model or of a node: another value, or another type."""
    owners = [model, *(node for node in model.graph.node if node.metadata_props)]
    owner = rng.choice([model, rng.choice(owners)])
    if not owner.metadata_props or rng.random() < 0.2:
        keys = ("logits", "preprocessing", "classes", "labels", "momentum", "frozen", "axis", "source")
        owner.metadata_props.add(key=f"bnexport.{rng.choice(keys)}", value=json.dumps(rng.choice(VALUES)))
        return
    entry = rng.choice(owner.metadata_props)
    try:
        entry.value = change_text(entry.value, rng)
    except ValueError:
        entry.value = str(rng.choice(VALUES))


def tensor_names(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    own = [info.name for info in (*graph.input, *graph.initializer)]
    return [*own, *(name for node in graph.node for name in node.output), "", "nowhere"]


def change_type(model: onnx.ModelProto, rng: random.Random) -> None:
    """What a file says about a tensor: its shape, dtype, name or kind."""
    graph = model.graph
    infos = [*graph.output, *graph.output, *graph.input, *graph.value_info]
    info = rng.choice(infos) if infos else graph.output.add()
    kind = info.type.tensor_type
    match rng.randrange(6):
        case 0 if kind.shape.dim:
            rng.choice(kind.shape.dim).dim_value = rng.choice((0, 1, 3, 7, -1, 1 << 40))
        case 1:
            kind.elem_type = rng.choice((0, 1, 2, 7, 8, 9, 10, 11, 16, 99))
        case 2:
            info.name = rng.choice(tensor_names(model))
        case 3:
            kind.ClearField("shape")
        case 4:
            info.type.sequence_type.elem_type.tensor_type.elem_type = 1
        case _:
            kind.shape.dim.add(dim_value=rng.choice((1, 8)))


def add_output(model: onnx.ModelProto, rng: random.Random) -> None:
    """One more output: any tensor, with a type of its own."""
    shape = rng.choice(([], [None, 3], [1], ["N", 4, 4, 8], None))
    info = onnx.helper.make_tensor_value_info(rng.choice(tensor_names(model)), rng.choice((1, 7, 8)), shape)
    model.graph.output.insert(rng.randrange(len(model.graph.output) + 1), info)


def rewire(model: onnx.ModelProto, rng: random.Random) -> None:
    """Another tensor for one input or output of one node."""
    node = rng.choice(model.graph.node)
    names = node.input if node.input and rng.random() < 0.8 else node.output
    if names:
        names[rng.randrange(len(names))] = rng.choice(tensor_names(model))


def change_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    """Another operator, another number of inputs, or a node more or less."""
    nodes = model.graph.node
    node = rng.choice(nodes)
    match rng.randrange(5):
        case 0:
            node.op_type = rng.choice(("Relu", "Softmax", "Shape", "NonZero", "Conv", "Loop", "Nothing", "Identity"))
        case 1:
            node.op_type = rng.choice(nodes).op_type
        case 2 if node.input:
            del node.input[-1]
        case 3:
            nodes.remove(node) if len(nodes) > 1 else None
        case _:
            nodes.insert(rng.randrange(len(nodes)), copy.deepcopy(node))


def change_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    if not nodes:
        return
    node = rng.choice(nodes)
    attribute = rng.choice(node.attribute)
    match rng.randrange(4):
        case 0:
            node.attribute.remove(attribute)
        case 1:
            attribute.i, attribute.type = rng.choice((0, -1, 1, 2, 3, 1 << 40)), 2
        case 2 if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice((0, -1, 5, 1 << 40))
        case _:
            attribute.f, attribute.type = rng.choice((0.0, -1.0, float("nan"), 1e30)), 1


def change_weight(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    match rng.randrange(5):
        case 0 if tensor.dims:
            tensor.dims.append(1)
        case 1 if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, 1, 1 << 40, -1))
        case 2:
            tensor.data_type = rng.choice((0, 2, 7, 8, 10, 11, 16, 99))
        case 3:
            tensor.name = rng.choice(tensor_names(model))
        case _:
            tensor.CopyFrom(onnx.numpy_helper.from_array(rng.choice(ARRAYS[1:4]), tensor.name))


def change_version(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.3:
        model.ir_version = rng.choice((0, 3, 99))
    else:
        rng.choice(model.opset_import).version = rng.choice((0, 1, 7, 13, 99))


CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    change_metadata,
    change_metadata,
    change_type,
    change_type,
    add_output,
    rewire,
    rewire,
    change_operator,
    change_attribute,
    change_weight,
    change_version,
)


def write_changed(seed: Path, path: Path, change: Callable[[bytes, random.Random], bytes], nth: int) -> Path:
    """The changed file of that number, the same each time."""
    path.write_bytes(change(seed.read_bytes(), random.Random(nth)))  # noqa: S311 - to be repeated, not to be secret
    return path

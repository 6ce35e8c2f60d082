"""Inputs guessed from a model file, for scripts/wild.py: this runs in a child process, as the file is not trusted.

    python -P scripts/wild_inputs.py MODEL GIVEN.npz|"" OUT.npz

Writes arrays for every input to OUT.npz (those of GIVEN.npz where it is named) and prints one line of JSON: the format, the Keras
version that wrote the file, the inputs, and the shape of the image where the only input takes images.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bnexport.errors import BnexportError
from bnexport.keras_files import container as keras_container
from bnexport.keras_files.read import read_file
from bnexport.system import files
from bnexport.system.files import Format

ROWS = 8
STEPS, SIDE, WIDTH = 16, 64, 8
"""How long open axes are made: a series, an image's side, anything else."""

MOST = 1 << 26
"""The most values of an input; a file that asks for more is not followed."""

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One input: its shape (None for an open axis, batch first), its dtype, and how many tokens or which words it takes."""

    shape: list[int | None]
    dtype: str = "float32"
    tokens: int | None = None
    words: tuple[str, ...] = ()


def from_config(config: Any) -> dict[str, Wanted]:
    """The inputs of a model by its configuration, in the words of Keras 1, 2 or 3; empty where it does not say."""
    inside = config.get("config") if isinstance(config, dict) else None
    layers = inside if isinstance(inside, list) else (inside or {}).get("layers", [])
    entries = [entry for entry in layers if isinstance(entry, dict) and isinstance(entry.get("config"), dict)]
    if isinstance(inside, dict) and inside.get("input_layers"):
        names = {entry["config"].get("name"): entry for entry in entries}
        ends = inside["input_layers"]
        ends = [ends] if isinstance(ends[0], str) else ends
        given = [entry for end in ends if (entry := names.get(end[0])) is not None]
        return {entry["config"]["name"]: _wanted(entry, _behind(entry, entries)) for entry in given if _shape(entry)}
    if not entries:
        return {}
    build = inside.get("build_input_shape") if isinstance(inside, dict) else None
    first = entries[0]
    if _shape(first) is None and isinstance(build, list):
        first = {"class_name": "InputLayer", "config": {"batch_shape": build}}
    return {"x": _wanted(first, entries[:3])} if _shape(first) else {}


def _shape(entry: Config) -> list[int | None] | None:
    """The shape of what a layer takes, by what it says itself or by the first layer inside it."""
    config = entry["config"]
    for key in ("batch_shape", "batch_input_shape"):
        if isinstance(config.get(key), list):
            return list(config[key])
    if entry.get("class_name") == "Embedding":
        return [None, config.get("input_length")]
    inner = config.get("layers")
    if isinstance(inner, list) and inner and isinstance(inner[0], dict) and isinstance(inner[0].get("config"), dict):
        return _shape(inner[0])
    return None


def _wanted(entry: Config, readers: list[Config]) -> Wanted:
    dtype = entry["config"].get("dtype", "float32")
    kinds = [(reader.get("class_name"), reader["config"]) for reader in readers]
    tokens = [c["input_dim"] for kind, c in kinds if kind == "Embedding" and isinstance(c.get("input_dim"), int)]
    words = [c.get("vocabulary") for kind, c in kinds if kind in ("StringLookup", "TextVectorization")]
    known = next((tuple(str(word) for word in v[:64]) for v in words if isinstance(v, list) and v), ("a", "b"))
    return Wanted(
        _shape(entry) or [],
        "float32" if not isinstance(dtype, str) else "string" if words else dtype,
        min(tokens) if tokens else None,
        known if words or dtype == "string" else (),
    )


def _behind(entry: Config, entries: list[Config]) -> list[Config]:
    """The layers that read an input, directly or through others."""
    reached, size = {entry["config"].get("name")}, 0
    while size != len(reached):
        size = len(reached)
        reached |= {e["config"].get("name") for e in entries if reached & set(_strings(e.get("inbound_nodes")))}
    return [e for e in entries if e["config"].get("name") in reached and e is not entry]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(part)


def from_signature(path: Path) -> dict[str, Wanted]:
    """The inputs of a SavedModel's signature serving_default, or of its first one."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    message = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    signatures = {n: s for meta in message.meta_graphs for n, s in meta.signature_def.items() if s.inputs}
    chosen = signatures.get("serving_default") or next(iter(signatures.values()), None)
    kinds = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 7: "string", 9: "int64", 10: "bool"}
    return {
        name: Wanted(
            [None if axis.size < 0 else axis.size for axis in info.tensor_shape.dim],
            kinds.get(info.dtype, types_pb2.DataType.Name(info.dtype)),
            words=("a", "b") if info.dtype == types_pb2.DT_STRING else (),
        )
        for name, info in sorted(chosen.inputs.items() if chosen else ())
    }


def from_onnx(path: Path) -> dict[str, Wanted]:
    """The inputs of an ONNX file."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    filled = {tensor.name for tensor in graph.initializer}
    wanted = {}
    for info in graph.input:
        kind = info.type.tensor_type
        if info.name not in filled:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            shape = [side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim]
            wanted[info.name] = Wanted(shape, "string" if dtype.kind == "O" else str(dtype))
    return wanted


def array_for(wanted: Wanted, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Plausible values for one input.

    Raises:
        ValueError: the file asks for more than `MOST` values.
    """
    shape = sized(wanted.shape)
    if np.prod(shape, dtype=float) > MOST:
        raise ValueError(f"the file asks for an input of shape {tuple(shape)}")
    if wanted.words or wanted.dtype == "string":
        return rng.choice(np.array(wanted.words or ("a", "b")), shape)
    if wanted.tokens:
        return rng.integers(0, max(1, wanted.tokens), shape).astype(wanted.dtype)
    if np.dtype(wanted.dtype).kind in "iub":
        return rng.integers(0, 2 if wanted.dtype == "bool" else 10, shape).astype(wanted.dtype)
    return rng.random(shape, np.float32).astype(wanted.dtype)


def sized(shape: list[int | None]) -> list[int]:
    """A shape with its open axes filled in."""
    *sides, last = shape[1:] or [None]
    default = SIDE if len(shape) == 4 else STEPS
    return [shape[0] or ROWS, *((side or default) for side in sides), last or (STEPS if len(shape) == 2 else WIDTH)]


def image_shape(wanted: dict[str, Wanted]) -> list[int] | None:
    """Height, width and channels where the only input takes images."""
    shapes = [entry.shape for entry in wanted.values() if entry.dtype in ("float32", "float16", "uint8")]
    if len(wanted) != 1 or len(shapes) != 1 or len(shapes[0]) != 4:
        return None
    _, *sides = sized(shapes[0])
    if shapes[0][-1] in (1, 3, 4) and min(sides[:2]) >= 16:
        return sides
    return [*sides[1:], sides[0]] if shapes[0][1] in (1, 3, 4) and min(sides[1:]) >= 16 else None


def draw(folder: Path) -> Path:
    """Eight pictures: gradients, stripes, discs and noise, each in colour."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1:256j, 0:1:256j]
    for nth in range(8):
        waves = [np.sin(2 * np.pi * (1 + nth) * (x * a + y * (1 - a))) for a in (0.2, 0.5, 0.8)]
        picture = np.stack(waves, axis=-1) * 90 + rng.normal(0, 4 * nth, (256, 256, 3)) + 128
        picture[(x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.01 * nth] += 60
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"picture{nth}.png")
    return folder


def main(model: str, given: str, out: str) -> None:
    """Prints what is known, and writes the arrays."""
    path = Path(model)
    kind = files.model_format(path)
    answer: dict[str, Any] = {"format": str(kind), "keras_version": None, "inputs": {}, "image": None, "open": False}
    wanted: dict[str, Wanted] = {}
    try:
        if kind == Format.ONNX:
            wanted = from_onnx(path)
        elif kind == Format.SAVED_MODEL:
            wanted = from_signature(path)
        else:
            keras_container.declared_weight_bytes(path, kind)
            answer["keras_version"] = version(path, kind)
            model = read_file(path).model
            wanted = from_config({"class_name": model.kind, "config": dict(model.config)})
        if not given and wanted:
            rng = np.random.default_rng(0)
            np.savez(out, **{name: array_for(entry, rng) for name, entry in wanted.items()})
    except (BnexportError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        answer["problem"] = str(error).splitlines()[0] if str(error) else type(error).__name__
    if given:
        Path(out).write_bytes(Path(given).read_bytes())
    answer |= {"inputs": {name: asdict(entry) for name, entry in wanted.items()}, "image": image_shape(wanted)}
    answer["open"] = any(side is None for entry in wanted.values() for side in entry.shape[1:])
    print(json.dumps(answer))


def version(path: Path, kind: Format) -> str | None:
    """The Keras version that wrote a file, as it says itself."""
    import zipfile

    import h5py

    if kind == Format.HDF5:
        with h5py.File(path, "r") as file:
            value = file.attrs.get("keras_version")
            if value is None and "model_weights" in file:
                value = file["model_weights"].attrs.get("keras_version")
        return value.decode() if isinstance(value, bytes) else value
    with zipfile.ZipFile(path) as archive:
        if "metadata.json" not in archive.namelist():
            return None
        value = json.loads(archive.read("metadata.json")).get("keras_version")
        return str(value) if value is not None else None


if __name__ == "__main__":
    main(*sys.argv[1:])

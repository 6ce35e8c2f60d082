"""A model repository for NVIDIA Triton: the graph, its config.pbtxt, and the names of its classes (Triton, "Model Repository" and "Model Configuration")."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnexport.errors import UsageError
from bnexport.onnx_graph import tensors

if TYPE_CHECKING:
    import onnx

_TYPES = {
    1: "TYPE_FP32",
    2: "TYPE_UINT8",
    3: "TYPE_INT8",
    6: "TYPE_INT32",
    7: "TYPE_INT64",
    8: "TYPE_STRING",
    9: "TYPE_BOOL",
    10: "TYPE_FP16",
    11: "TYPE_FP64",
    16: "TYPE_BF16",
}
LABELS = "labels.txt"


def repository(
    model: onnx.ModelProto, content: bytes, name: str, classes: Sequence[str], batch: int
) -> dict[str, bytes]:
    """The files of a repository by their path below the bundle.

    Args:
        model: the graph.
        content: the file it stands in.
        name: of the model; characters that Triton or a shell would stumble over become "_".
        classes: in the order of the first output's scores; empty where unknown.
        batch: the largest batch, where the graph takes any.

    Raises:
        UsageError: the graph has tensors of a kind that Triton does not take.
    """
    folder = f"model_repository/{re.sub(r'[^A-Za-z0-9_.-]', '_', name).lstrip('.') or 'model'}"
    files = {
        f"{folder}/1/model.onnx": content,
        f"{folder}/config.pbtxt": config(model, folder.split("/")[1], classes, batch).encode(),
    }
    if classes:
        files[f"{folder}/{LABELS}"] = "".join(" ".join(label.split()) + "\n" for label in classes).encode()
    return files


def config(model: onnx.ModelProto, name: str, classes: Sequence[str], batch: int) -> str:
    """The content of config.pbtxt, a text-format ModelConfig; batched where the first axis of every tensor is open."""
    given, made = tensors.inputs(model), list(model.graph.output)
    shapes = {info.name: tensors.shape(info) or () for info in [*given, *made]}
    batched = all(shape and shape[0] is None for shape in shapes.values())

    def tensor(info: onnx.ValueInfoProto, more: str = "") -> str:
        kind = _TYPES.get(info.type.tensor_type.elem_type)
        if kind is None:
            raise UsageError(f"Triton does not support the tensor {info.name}", found="an unknown element type")
        dims = [-1 if side is None else side for side in shapes[info.name][1 if batched else 0 :]]
        return f"  {{ name: {_quote(info.name)}, data_type: {kind}, dims: {dims}{more} }}"

    labelled = f", label_filename: {_quote(LABELS)}" if classes else ""
    lines = [
        f"name: {_quote(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {batch if batched else 0}",
        "input [\n" + ",\n".join(tensor(info) for info in given) + "\n]",
        "output [\n" + ",\n".join(tensor(info, labelled if nth == 0 else "") for nth, info in enumerate(made)) + "\n]",
    ]
    return "\n".join([*lines, "dynamic_batching { }"] if batched else lines) + "\n"


def _quote(text: str) -> str:
    """A string of protobuf's text format, whose escapes for ASCII are JSON's."""
    return json.dumps(text, ensure_ascii=False)

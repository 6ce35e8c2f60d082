"""What bnexport writes into an ONNX file beside the graph: provenance, preprocessing, classes, the logits tensor.

Every value is JSON under a key that starts with "bnexport.", in `ModelProto.metadata_props` or, for one
BatchNormalization node, in `NodeProto.metadata_props` (IR version 10 and later).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnexport.errors import InputError

if TYPE_CHECKING:
    import onnx

PREFIX = "bnexport."


def write(target: onnx.ModelProto | onnx.NodeProto, values: Mapping[str, Any]) -> None:
    """Sets each of `values` as JSON in the metadata of a model or of a node, in place; None removes the entry."""
    kept = [entry for entry in target.metadata_props if entry.key.removeprefix(PREFIX) not in values]
    new = [(PREFIX + key, json.dumps(value, ensure_ascii=False)) for key, value in values.items() if value is not None]
    kept = [(entry.key, entry.value) for entry in kept]
    del target.metadata_props[:]
    for key, value in [*kept, *new]:
        target.metadata_props.add(key=key, value=value)


def read(target: onnx.ModelProto | onnx.NodeProto, key: str, default: Any = None) -> Any:
    """The value that `write` stored under `key`, or `default` where there is none.

    Raises:
        InputError: the entry is there but is not JSON.
    """
    for entry in target.metadata_props:
        if entry.key == PREFIX + key:
            try:
                return json.loads(entry.value)
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"the ONNX file's metadata entry {entry.key} is not JSON", found=repr(entry.value[:80])
                ) from error
    return default

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


def write(target: onnx.ModelProto | onnx.NodeProto, values: Mapping[str, object]) -> None:
    """Sets each of `values` as JSON in the metadata of a model or of a node, in place; None removes the entry."""
    kept = [entry for entry in target.metadata_props if entry.key.removeprefix(PREFIX) not in values]
    new = [(PREFIX + key, json.dumps(value, ensure_ascii=False)) for key, value in values.items() if value is not None]
    kept = [(entry.key, entry.value) for entry in kept]
    del target.metadata_props[:]
    for key, value in [*kept, *new]:
        target.metadata_props.add(key=key, value=value)


def read(target: onnx.ModelProto | onnx.NodeProto, key: str, default: object = None) -> Any:
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
                    f"the metadata entry {entry.key} of the ONNX file is not JSON", found=repr(entry.value[:80])
                ) from error
    return default


def logits(model: onnx.ModelProto) -> dict[str, str]:
    """The tensor before softmax or sigmoid by output, as `bnexport export` wrote it; empty where it did not.

    Raises:
        InputError: the entry is no table of names.
    """
    entry = read(model, "logits", {})
    if not isinstance(entry, dict) or not all(isinstance(tensor, str) for tensor in entry.values()):
        raise _wrong_type("logits", entry, "a table with a tensor's name for each output")
    return entry


def momentum(node: onnx.NodeProto, default: float | None) -> float | None:
    """The momentum of a BatchNormalization node, or `default`.

    Raises:
        InputError: the entry is no number from 0 to 1.
    """
    entry = read(node, "momentum", default)
    if entry is None or entry == default:
        return default
    if isinstance(entry, bool) or not isinstance(entry, int | float) or not 0 <= entry <= 1:
        raise _wrong_type("momentum", entry, "a number from 0 to 1")
    return float(entry)


def frozen(node: onnx.NodeProto) -> bool:
    """Whether a BatchNormalization node runs on its moving statistics in training mode too.

    Raises:
        InputError: the entry is neither true nor false.
    """
    entry = read(node, "frozen", False)
    if not isinstance(entry, bool):
        raise _wrong_type("frozen", entry, "true or false")
    return entry


def _wrong_type(key: str, entry: object, expected: str) -> InputError:
    return InputError(
        f"the metadata entry {PREFIX}{key} of the ONNX file is invalid", found=repr(entry)[:80], expected=expected
    )


def sample_rate(model: onnx.ModelProto) -> int | None:
    """The sample rate of recordings that a file says its model takes, as exporters of speech models write it; None where it says nothing."""
    stated = {entry.key: entry.value for entry in model.metadata_props}
    text = stated.get("sample_rate", stated.get("sampling_rate", ""))
    return int(text) if text.isdecimal() and len(text) < 10 else None

"""The arguments of the calls in a model's configuration, of Keras 1 to 3, as one form (no framework)."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bnexport.errors import InputError, reason
from bnexport.types import Nested

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output of a layer's call.

    Args:
        layer: the layer's name.
        call: which call, from 0.
        index: which of the call's outputs, from 0.
    """

    layer: str
    call: int
    index: int


def leaves(structure: Nested, kind: type[T]) -> Iterator[T]:
    """The values of a class in a structure, in the order of `keras.tree.flatten`: dictionaries by their keys."""
    if isinstance(structure, kind):
        yield structure
    elif isinstance(structure, list | tuple):
        for part in structure:
            yield from leaves(part, kind)
    elif isinstance(structure, dict):
        for key in sorted(structure):
            yield from leaves(structure[key], kind)


def tensors_in(structure: Nested) -> Iterator[Tensor]:
    """The tensors of a structure."""
    return leaves(structure, Tensor)


def is_reference(value: object) -> bool:
    """Whether a list is [layer, call, tensor], with more behind it in Keras 2."""
    return (
        isinstance(value, list | tuple)
        and len(value) >= 3
        and isinstance(value[0], str)
        and type(value[1]) is int
        and type(value[2]) is int
    )


def of_keras2(value: Nested, layers: Container[str]) -> Nested:
    """An argument of Keras 2, in which tensors are [layer, call, tensor]; `layers` are those that there are."""
    if is_reference(value) and value[0] in layers:
        return Tensor(value[0], value[1], value[2])
    if isinstance(value, list):
        return [of_keras2(part, layers) for part in value]
    return plain(value)


def plain(value: Nested) -> Nested:
    """An argument of Keras 3, in which tensors and what JSON does not have are objects that name their class."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if not isinstance(value, dict):
        return value
    kind, config = value.get("class_name"), value.get("config")
    match kind:
        case "__keras_tensor__":
            history = config.get("keras_history") if isinstance(config, dict) else None
            if not is_reference(history) or history is None:
                raise InputError("the model configuration has a tensor without a layer", found=repr(value)[:80])
            return Tensor(history[0], history[1], history[2])
        case "__tensor__" | "__numpy__" if isinstance(config, dict):
            dtype = str(config.get("dtype", "float32"))
            try:
                return np.asarray(config.get("value"), dtype if dtype != "bfloat16" else "float32")
            except (TypeError, ValueError, OverflowError) as error:
                raise InputError(f"the model configuration has a constant that is none ({reason(error)})") from error
        case "__tuple__":
            return tuple(plain(part) for part in value.get("items") or config or ())
        case "__slice__" if isinstance(config, dict):
            return slice(*(plain(config.get(key)) for key in ("start", "stop", "step")))
        case "__ellipsis__":
            return ...
    if "class_name" in value and "config" in value:
        return value  # a dtype policy, an initializer: whoever takes it reads it
    return {key: plain(part) for key, part in value.items()}

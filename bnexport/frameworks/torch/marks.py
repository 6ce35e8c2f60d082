"""Which layers a tensor was computed from: marks on tensors that every function hands on (torch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnexport.types import Nested

if TYPE_CHECKING:
    import torch

LAYER, BEHIND = "_bnexport_layer", "_bnexport_behind"
"""Attributes of tensors: the layer whose output it is, and the layers whose outputs it was computed from."""


@contextmanager
def marks() -> Iterator[None]:
    """While open, every function of PyTorch hands the marks of what it takes on to what it gives."""
    from torch.overrides import TorchFunctionMode

    class Marks(TorchFunctionMode):  # type: ignore[misc] # PyTorch is not always there
        """Hands marks on."""

        def __torch_function__(
            self,
            func: Callable[..., object],
            types: object,
            args: Sequence[object] = (),
            kwargs: Mapping[str, object] | None = None,
        ) -> object:
            taken = list(tensors_in([args, kwargs]))
            behind = layers_behind(taken)
            versions = [tensor._version for tensor in taken]
            output = func(*args, **(kwargs or {}))
            for tensor, version in zip(taken, versions, strict=True):
                if tensor._version != version:  # it was changed in place, and is no layer's output any more
                    vars(tensor).pop(LAYER, None)
                    setattr(tensor, BEHIND, behind)
            for tensor in tensors_in(output) if behind else ():
                if not hasattr(tensor, LAYER):
                    setattr(tensor, BEHIND, behind)
            return output

    with Marks():
        yield


def layers_behind(value: Nested) -> dict[str, None]:
    """The layers behind all tensors in a value."""
    behind: dict[str, None] = {}
    for tensor in tensors_in(value):
        behind |= getattr(tensor, BEHIND, {})
    return behind


def tensors_in(value: Nested) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))

"""Passes in float64 throughout: a module of float64 weights also widens what its code makes in float32 (torch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from bnexport.types import Nested


@contextmanager
def widening() -> Iterator[None]:
    """While open, float64 takes the place of float32 in every call of PyTorch: of types that are named, and of what is made."""
    import torch
    from torch.overrides import TorchFunctionMode

    narrowing: Callable[..., object] = torch.Tensor.float

    class Widening(TorchFunctionMode):  # type: ignore[misc] # PyTorch is not always there
        """Widens types among the arguments, and tensors among the results."""

        def __torch_function__(
            self,
            func: Callable[..., object],
            types: object,
            args: Sequence[object] = (),
            kwargs: Mapping[str, object] | None = None,
        ) -> object:
            chosen = torch.Tensor.double if func is narrowing else func
            return _widen(chosen(*_widen(tuple(args)), **_widen(dict(kwargs or {}))))

    with Widening():
        yield


def _widen(value: Nested) -> Nested:
    import torch

    if value is torch.float32:
        return torch.float64
    if isinstance(value, torch.Tensor):
        return value.double() if value.dtype == torch.float32 else value
    if isinstance(value, dict):
        return {key: _widen(entry) for key, entry in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_widen(entry) for entry in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return cast(Nested, value)._make(_widen(entry) for entry in value)
    return value

"""What a model or an artifact takes and gives: names, shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from bnexport.errors import InputError
from bnexport.types import Array

Tensors = Mapping[str, Array]
"""Arrays by the name of the tensor; the first axis is the batch."""

Entry = tuple[str, list[int | None], str]
"""The name, the shape and the dtype of a port, as JSON has them."""


def dtype_named(name: str) -> np.dtype[np.generic]:
    """NumPy's type of a framework's name for it; object for what NumPy does not have, such as text."""
    try:
        return np.dtype(name)
    except TypeError:
        return np.dtype(np.object_)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, its shape (None for an open axis) and its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model or an artifact, in order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def as_dict(self) -> dict[str, list[Entry]]:
        """The names, shapes and dtypes, as JSON has them."""
        ports = {"inputs": self.inputs, "outputs": self.outputs}
        return {key: [(p.name, list(p.shape), p.dtype.name) for p in each] for key, each in ports.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, list[Entry]]) -> Self:
        """The signature that `as_dict` describes."""
        inputs, outputs = (
            tuple(Port(name, tuple(shape), dtype_named(dtype)) for name, shape, dtype in values[key])
            for key in ("inputs", "outputs")
        )
        return cls(inputs, outputs)

    def refuse_misfit(self, given: Tensors) -> None:
        """Makes sure that a batch has every input, as numbers (or text, where it takes text) of its shape.

        Raises:
            InputError: an input is missing, is of another kind, or has another shape.
        """
        for port in self.inputs:
            x = given.get(port.name)
            if x is None:
                raise InputError(f"the input {port.name} is missing", found=", ".join(given) or "nothing")
            fits = x.ndim == len(port.shape) and all(
                side is None or side == actual for side, actual in zip(port.shape[1:], x.shape[1:], strict=True)
            )
            odd = x.dtype.kind != "U" if port.dtype.kind in "OU" else x.dtype.kind in "OSUMm"
            if odd or not fits:
                raise InputError(
                    f"the input {port.name} has another type or shape",
                    found=f"{x.dtype} of shape {x.shape}",
                    expected=f"{port.dtype} of shape {port.shape}",
                )

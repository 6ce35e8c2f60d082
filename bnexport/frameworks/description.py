"""What is known about a reference model without loading it again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Input = tuple[str, tuple[int | None, ...], str]
"""The name, shape and dtype of an input."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known about a Keras model without loading it again: the fields of `LoadedModel` that are plain values, and the versions it was loaded with."""

    format: str
    inputs: list[tuple[str, list[int | None], str]]
    outputs: list[str]
    parameters: int
    layers: int
    frozen: int
    dtype: str
    iterations: int | None
    repairs: list[str]
    random_layers: list[str]
    versions: dict[str, str]


def without_layers(
    form: str, inputs: Iterable[Input], outputs: Iterable[str], parameters: int, versions: dict[str, str]
) -> Description:
    """What is known about a model that is run as a whole, in float32: nothing about its layers and its training."""
    return Description(
        format=form,
        inputs=[(name, list(shape), dtype) for name, shape, dtype in inputs],
        outputs=list(outputs),
        parameters=parameters,
        layers=0,
        frozen=0,
        dtype="float32",
        iterations=None,
        repairs=[],
        random_layers=[],
        versions=versions,
    )

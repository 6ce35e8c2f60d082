"""What a check was made of: the model and the images; plain records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bnexport.results.nouns import IMAGES, Noun

SHOWN = 12
"""Of so many images a report shows each one."""


class Readable(Protocol):
    """An image that a report may show."""

    @property
    def name(self) -> str:
        """By which reports tell it."""
        ...

    def read(self) -> bytes:
        """Its file's content."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model that was checked.

    Args:
        path: as it was given.
        sha256: of the file.
        format: "h5", "keras" or "onnx".
        parameters: the number of weights.
        layers: BatchNormalization layers.
        frozen: how many of them are frozen.
    """

    path: str
    sha256: str
    format: str
    parameters: int
    layers: int
    frozen: int


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The images it was checked on.

    Args:
        source: as it was given.
        count: images that were read.
        names: their file names, in order.
        labels: the class of each, -1 where unknown.
        classes: the class names; empty where unknown.
        unreadable: the files that could not be read, with the reason.
        first: the first ones, at most `SHOWN`, for whoever shows them; empty for arrays.
        noun: what they are.
    """

    source: str
    count: int
    names: tuple[str, ...]
    labels: Sequence[int]
    classes: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    first: tuple[Readable, ...] = ()
    noun: Noun = IMAGES

"""Passes that differ by rounding only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bnexport.frameworks.protocols import Outputs, Tensors
from bnexport.types import Array

BOTH_ROUND = 2**-0.5
"""Where both passes round, each by as much and independently, the distance has the squares of both in it."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How far rounding moves a model.

    Args:
        center: the outputs of one pass.
        others: those of passes that differ from it by rounding only.
        method: how they were made, with `{title}` for the model (`bnexport.results.tolerance`).
        share: the part of the distance between two passes that is the rounding of one of them.
    """

    center: Outputs
    others: Sequence[Outputs]
    method: str
    share: float = 1.0


@runtime_checkable
class Perturbs(Protocol):
    """The ability of a model to show how far rounding may move it, where float64 is out of reach.

    Some of its weights are moved by one unit in the last place.
    """

    def forward_perturbed(self, x: Tensors, *, seed: int | None) -> Outputs:
        """Every output for one batch in inference mode, with weights moved at random from `seed`, or as they are where it is None.

        Raises:
            InputError: the batch does not fit.
        """
        ...

    def layers_perturbed(self, x: Tensors, *, seed: int, most_bytes: int = 512 << 20) -> Iterator[Array]:
        """What the layers of `ShowsLayers.layers` compute then, in the same order. The errors are those of `forward_perturbed`."""
        ...

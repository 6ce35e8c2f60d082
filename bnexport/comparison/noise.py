"""Passes that differ by rounding only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnexport.frameworks.protocols import Outputs


@dataclass(frozen=True, slots=True)
class Noise:
    """How far rounding moves a model.

    Args:
        center: the outputs of one pass.
        others: those of passes that differ from it by rounding only.
        method: how they were made, with `{title}` for the model (`bnexport.results.tolerance`).
    """

    center: Outputs
    others: Sequence[Outputs]
    method: str

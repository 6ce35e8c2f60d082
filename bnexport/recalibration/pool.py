"""What the inputs of sites add up to, batch by batch, and how far a graph's statistics are from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError
from bnexport.numerics.moments import Moments, Total
from bnexport.onnx_graph import statistics
from bnexport.onnx_graph.sites import Site
from bnexport.results.outcomes import Residual
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


class Pool:
    """The moments of some sites, merged batch by batch from what a graph with `bnexport.onnx_graph.stages.add_moments` gives out."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.outputs = [f"{site.name}/{part}" for site in sites for part in ("mean", "var", "shape")]
        self.totals = {site.name: Total.none(site.channels) for site in sites}

    def add(self, made: Mapping[str, Array]) -> None:
        """One more batch.

        Raises:
            InputError: what a site normalises has another rank or other channels than the file says.
        """
        for name, total in self.totals.items():
            if made[f"{name}/mean"].shape[1:] != total.moments.mean.shape:
                raise InputError(
                    f"the input of {name} does not match the file",
                    found=f"statistics of shape {made[f'{name}/mean'].shape[1:]}",
                    expected=str(total.moments.mean.shape),
                )
            positions = math.prod(made[f"{name}/shape"][2:].tolist())
            m2 = made[f"{name}/var"].astype(np.float64) * positions
            self.totals[name] = total.merge(Total.of_rows(positions, made[f"{name}/mean"], m2))

    @property
    def moments(self) -> dict[str, Moments]:
        """The moments of all batches so far."""
        return {name: total.moments for name, total in self.totals.items()}


def merge(parts: Sequence[Mapping[str, Total]]) -> dict[str, Moments]:
    """The moments of what several pools have seen."""
    totals = dict(parts[0])
    for part in parts[1:]:
        totals = {name: total.merge(part[name]) for name, total in totals.items()}
    return {name: total.moments for name, total in totals.items()}


def residual(model: onnx.ModelProto, measured: Mapping[str, Moments]) -> Residual:
    """The residual of the statistics that a graph holds against what was measured with them in use.

    A channel whose deviation is below sqrt(epsilon) is measured against sqrt(var + epsilon): less does not reach the output.
    """
    worst = Residual(0.0, 0.0, "")
    for name, (site, mean, var) in statistics.current(model).items():
        seen = measured[name]
        std = np.sqrt(seen.var + site.epsilon)
        here = Residual(
            float(np.max(np.abs(mean - seen.mean) / std)),
            float(np.max(np.abs(0.5 * np.log((var + site.epsilon) / (seen.var + site.epsilon))))),
            name,
        )
        if not here.largest <= worst.largest:  # NaN counts as the worst
            worst = here
    return worst

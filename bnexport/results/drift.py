"""How far moving statistics are from what the layers see, and the warm-up that explains it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The fit of a warm-up over some sites.

    Args:
        initial_weight: l, the share of the initial values that is left in the moving statistics.
        r_squared: how much of the distance between moving and seen statistics it explains; 1 for all.
        updates: the estimated number of updates; None where the momentum is unknown or l is not between 0 and 1.
        momentum: the momentum used for it.
    """

    initial_weight: float
    r_squared: float
    updates: float | None
    momentum: float | None

    def updates_needed(self, left: float = 0.01) -> int | None:
        """How many updates leave at most the share `left` of the initial values.

        >>> WarmUp(0.95, 1.0, 5.0, 0.99).updates_needed()
        459
        """
        return math.ceil(math.log(left) / math.log(self.momentum)) if self.momentum and self.momentum < 1 else None

    def momentum_needed(self, left: float = 0.01) -> float | None:
        """The momentum at which the estimated number of updates would have left at most the share `left`.

        >>> round(WarmUp(0.951, 1.0, 5.0, 0.99).momentum_needed(), 2)
        0.4
        """
        return left ** (1 / self.updates) if self.updates else None


@dataclass(frozen=True, slots=True)
class SiteDrift:
    """How far one site is off: medians over its channels, and the largest; one dead channel ruins a model with perfect medians.

    Args:
        name: the site.
        z_median: of the distance of the means in standard deviations.
        z_max: the largest.
        log_std_median: of |ln(moving standard deviation / seen standard deviation)|.
        log_std_max: the largest.
        frozen: whether the layer runs on its moving statistics in training mode too.
    """

    name: str
    z_median: float
    z_max: float
    log_std_median: float
    log_std_max: float
    frozen: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """How far all sites are off, in the graph's order, and the warm-up that explains it best.

    Args:
        sites: those with finite statistics.
        fit: the warm-up.
        points: a sample of what the fit saw: what it explains the distance by, and the distance, in its units; a
            perfect warm-up has all of them on a line through 0 of slope `fit.initial_weight`.
    """

    sites: tuple[SiteDrift, ...]
    fit: WarmUp
    points: tuple[tuple[float, float], ...]

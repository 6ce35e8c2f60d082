"""How far a site's moving statistics are from the statistics of its input, and whether a warm-up that ended too early explains it.

With moving mean mm and variance mv, batch mean mu and variance v, and initial values 0 and 1, for each channel

    z = |mm - mu| / sqrt(v + eps),   r = 0.5 ln((mv + eps) / (v + eps))

After t updates at momentum m the moving statistics hold the share l = m^t of the values they started from and 1 - l of what they saw. If what
they saw was like these images, then over all channels

    mm - mu = -l mu,   mv - v = l (1 - v)

and l is found by least squares, the means in units of sqrt(v + eps), the variances in units of v + 0.01: what sampling and the drift of
the weights do to a variance is proportional to it, so that channels with a small variance say most about what is left of the 1. R^2 is the
share of the distance between moving and seen statistics that the fit explains. t = ln l / ln m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bnexport.results.drift import Drift, SiteDrift, WarmUp

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one site holds and what it sees.

    Args:
        name: the site.
        mean: the moving mean, shape (C,).
        var: the moving variance, shape (C,).
        seen_mean: the mean of its input in training mode on these images, shape (C,).
        seen_var: the population variance of it, shape (C,).
        epsilon: added to either variance.
        momentum: the weight of the old value in an update; None where unknown.
        gamma: the layer's scale, shape (C,).
        beta: the layer's offset, shape (C,).
        first: whether no other site comes before it, so that it sees the images through fixed weights only.
        frozen: whether the layer runs on its moving statistics in training mode too.
    """

    name: str
    mean: F64
    var: F64
    seen_mean: F64
    seen_var: F64
    epsilon: float
    momentum: float | None
    gamma: F64
    beta: F64
    first: bool = False
    frozen: bool = False

    @property
    def z(self) -> F64:
        """The distance of the means in standard deviations, shape (C,)."""
        return np.asarray(np.abs(self.mean - self.seen_mean) / np.sqrt(self.seen_var + self.epsilon))

    @property
    def log_ratio(self) -> F64:
        """Half the logarithm of the ratio of the variances, epsilon included, shape (C,); NaN for a negative variance."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(0.5 * np.log((self.var + self.epsilon) / (self.seen_var + self.epsilon)))


def misfit(statistics: Sequence[Statistics]) -> float:
    """How far sites are off: the median over their channels of sqrt(z^2 + r^2), about the error in standard deviations; 0 for no sites.

    A median, so that a few dead channels do not hide or make a misfit.
    """
    if not statistics:
        return 0.0
    return float(np.median(np.concatenate([np.hypot(s.z, s.log_ratio) for s in statistics])))


STALE = 0.05
"""Statistics are stale from this share of the initial values on: less does not show in most models' answers."""

SURE = 0.95
"""One layer tells that it was warmed up too little where that explains this share of the distance."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """How far sites are off once what is left of the initial values is taken off their moving statistics.

    Args:
        misfit: as `misfit`; infinity where too few updates do not explain the distance, so that nothing can be taken off.
        share: what is left of the initial values.
    """

    misfit: float
    share: float


UNEXPLAINED = Warmed(math.inf, math.nan)
"""Nothing can be taken off."""


def without_initial(statistics: Sequence[Statistics]) -> Warmed:
    """Takes off what is left of the initial values: what stale statistics say of what the sites saw in training."""
    if not statistics:
        return UNEXPLAINED
    fit = warm_up(statistics)
    left = fit.initial_weight
    if not (STALE <= left < 1 and fit.r_squared >= SURE):
        return UNEXPLAINED
    seen_in_training = [
        replace(s, mean=s.mean / (1 - left), var=np.maximum((s.var - left) / (1 - left), 0)) for s in statistics
    ]
    return Warmed(misfit(seen_in_training), left)


DRIFT = 0.01
"""Added to a variance in the fit's units: a channel whose variance is far smaller may have had another one when it was learnt."""


def warm_up(statistics: Sequence[Statistics]) -> WarmUp:
    """The warm-up that explains best how far the moving statistics of all sites are from what the sites see.

    A channel that does not vary at all on these images is left out. The momentum is the sites' own where they agree.

    Args:
        statistics: one or more sites with finite statistics.
    """
    x, y = _distances(statistics)
    xx, yy = float(x @ x), float(y @ y)
    left = float(x @ y) / xx if xx else math.nan
    explained = 1 - float(np.square(y - left * x).sum()) / yy if yy else math.nan
    momenta = {s.momentum for s in statistics}
    momentum = momenta.pop() if len(momenta) == 1 else None
    updates = math.log(left) / math.log(momentum) if momentum and 0 < momentum < 1 and 0 < left < 1 else None
    return WarmUp(left, explained, updates, momentum)


POINTS = 600


def drift(statistics: Sequence[Statistics]) -> Drift | None:
    """The drift of some sites; None where none of them has finite statistics."""
    usable = [s for s in statistics if np.isfinite(s.log_ratio).all() and np.isfinite(s.z).all()]
    if not usable:
        return None
    sites = tuple(
        SiteDrift(
            s.name,
            float(np.median(s.z)),
            float(s.z.max()),
            float(np.median(np.abs(s.log_ratio))),
            float(np.abs(s.log_ratio).max()),
            s.frozen,
        )
        for s in usable
    )
    x, y = _distances(usable)
    some = np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(np.intp)
    return Drift(sites, warm_up(usable), tuple(zip(x[some].tolist(), y[some].tolist(), strict=True)))


def _distances(statistics: Sequence[Statistics]) -> tuple[F64, F64]:
    """What a warm-up explains the distance to the seen statistics by, and that distance, over all channels that vary."""
    targets, regressors = [], []
    for s in statistics:
        usable = s.seen_var > 0
        std, unit = np.sqrt(s.seen_var + s.epsilon), s.seen_var + DRIFT
        targets += [((s.mean - s.seen_mean) / std)[usable], ((s.var - s.seen_var) / unit)[usable]]
        regressors += [(-s.seen_mean / std)[usable], ((1 - s.seen_var) / unit)[usable]]
    return np.concatenate(regressors), np.concatenate(targets)

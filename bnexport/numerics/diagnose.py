"""Which cause, with the numbers: findings from what each site holds and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnexport.numerics.drift import Statistics, warm_up
from bnexport.numerics.verdict import Finding, Severity

STALE = 0.05
"""BN001 from this share of the initial values on: less does not show in most models' answers."""

EXPLAINED = 0.8
"""BN001 where a warm-up explains at least this share of the distance: other data or another scale do not look like one."""


def diagnose(
    found: Sequence[Statistics], *, answers_differ: bool, stored_iterations: int | None, remedy: Sequence[str]
) -> list[Finding]:
    """The findings about the moving statistics themselves, the worst first.

    Args:
        found: what each site holds and sees, in the graph's order.
        answers_differ: whether training and inference mode answer differently: then stale statistics are an error.
        stored_iterations: the update counter of the optimizer in the file, to check the estimate by; None where there is none.
        remedy: what to do about stale statistics.
    """
    broken = [s for s in found if not (np.isfinite(s.mean).all() and np.isfinite(s.var).all() and (s.var >= 0).all())]
    untouched = [s for s in found if s not in broken and _initial(s) and _moved(s)]
    rest = [s for s in found if s not in broken and s not in untouched]
    findings = []
    if broken:
        findings.append(_broken(broken))
    if untouched:
        findings.append(_untouched(untouched, len(found)))
    if rest and not untouched:
        stale = _stale(rest, answers_differ=answers_differ, stored_iterations=stored_iterations, remedy=remedy)
        findings += [stale] if stale else []
    return findings


def _initial(s: Statistics) -> bool:
    return bool((s.mean == 0).all() and (s.var == 1).all())


def _moved(s: Statistics) -> bool:
    """Whether the scale or the offset was trained."""
    return bool((s.gamma != s.gamma[0]).any() or (s.beta != s.beta[0]).any())


def _broken(found: Sequence[Statistics]) -> Finding:
    """BN003: a moving statistic is NaN or infinite, or a variance is negative."""
    channels = {
        s.name: np.flatnonzero(~np.isfinite(s.mean) | ~np.isfinite(s.var) | ~(s.var >= 0)).tolist() for s in found
    }
    first = found[0].name
    message = f"moving statistics of {len(found)} layers are not finite or a variance is negative, first in {first}, channel {channels[first][0]}"
    fix = ("find out where training diverged, or recalibrate if the weights themselves are finite",)
    return Finding("BN003", Severity.ERROR, message, {"channels": channels}, fix, tuple(channels))


def _untouched(found: Sequence[Statistics], of: int) -> Finding:
    """BN002: the statistics are exactly the initial ones although the layer was trained: never updated, or never loaded."""
    message = f"the moving statistics of {len(found)} of {of} BatchNormalization layers are exactly 0 and 1 although the layers were trained: never updated, or never loaded"
    fix = ("load them from the checkpoint (non-trainable weights included)", "or measure them: bnexport recalibrate")
    return Finding(
        "BN002", Severity.ERROR, message, {"layers": len(found), "of": of}, fix, tuple(s.name for s in found)
    )


def _stale(
    found: Sequence[Statistics], *, answers_differ: bool, stored_iterations: int | None, remedy: Sequence[str]
) -> Finding | None:
    """BN001: too few updates; what is left of the initial values explains the distance to what the layers see."""
    fit = warm_up(found)
    if not (fit.initial_weight >= STALE and fit.r_squared >= EXPLAINED):
        return None
    z, ratio = (np.concatenate([getattr(s, what) for s in found]) for what in ("z", "log_ratio"))
    evidence: dict[str, Any] = {
        "estimated_updates": fit.updates,
        "initial_weight": fit.initial_weight,
        "r_squared": fit.r_squared,
        "stored_iterations": stored_iterations,
        "updates_needed": fit.updates_needed(),
        "momentum_needed": fit.momentum_needed(),
        "momentum": fit.momentum,
        "z_median": float(np.median(z)),
        "z_max": float(z.max()),
        "log_std_ratio_median": float(np.median(ratio)),
        "log_std_ratio_max": float(np.abs(ratio).max()),
    }
    counted = f" (the optimizer in the file counted {stored_iterations})" if stored_iterations is not None else ""
    updates = "too few updates" if fit.updates is None else f"about {round(fit.updates)} updates{counted}"
    message = f"stale moving statistics: {updates}; {fit.initial_weight:.0%} of the initial values remain"
    if fit.updates is not None:
        message += f"; {fit.updates_needed()} updates would leave 1 %, or a momentum of {fit.momentum_needed():.2f}"
    names = tuple(s.name for s in found)
    return Finding(
        "BN001", Severity.ERROR if answers_differ else Severity.WARNING, message, evidence, tuple(remedy), names
    )

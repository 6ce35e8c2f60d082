"""Which cause, with the numbers: findings from what each site holds and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnexport.numerics.drift import Statistics, warm_up
from bnexport.numerics.variety import Variety
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Action, Finding, Severity
from bnexport.rules import inputs
from bnexport.rules.actions import RECALIBRATE

STALE = 0.05
"""BN001 from this share of the initial values on: less does not show in most models' answers."""

EXPLAINED = 0.8
"""BN001 where a warm-up explains at least this share of the distance: other data or another scale do not look like one."""


MOST = 1.1
"""No BN001 above this share: more than all of the initial values cannot be left, so that something else explains the distance."""

GAIN = 5.0
"""BN004 from a gain on that is so many times the usual one of its layer."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the statistics of a graph on some images.

    Args:
        statistics: what each site holds and sees, in the graph's order; empty where it could not be measured.
        variety: what the images are.
        refits: how the first sites fit with other scalings; empty where they fit as it is, or where nothing could be tried.
        noun: what the model was run on.
    """

    statistics: Sequence[Statistics]
    variety: Variety
    refits: Sequence[inputs.Refit] = ()
    noun: Noun = IMAGES


STATISTICS_WRONG = frozenset({"BN001", "BN002", "BN003"})
"""The findings that say that the moving statistics themselves are wrong, so that measuring them anew is the repair."""


def diagnose(evidence: Evidence, *, answers_differ: bool, stored_iterations: int | None) -> list[Finding]:
    """The findings about the moving statistics and the images.

    Args:
        evidence: the numbers.
        answers_differ: whether training and inference mode answer differently: then stale statistics are an error.
        stored_iterations: the update counter of the optimizer in the file, to check the estimate by; None where there is none.

    Returns:
        BN001 comes without a fix, and IN002 with half of one: whether recalibrating is one has to be measured.
    """
    found = evidence.statistics
    broken = [s for s in found if not _whole(s)]
    untouched = [s for s in found if s not in broken and _initial(s) and _moved(s)]
    rest = learnt(found)
    first = [s for s in rest if s.first]
    scaling = inputs.wrong_preparation(first, evidence.variety.images, evidence.refits, noun=evidence.noun)
    stale = None
    if rest and not untouched:
        settled = [s for s in rest if not (scaling and s.first)]
        stale = _stale(settled, answers_differ=answers_differ, stored_iterations=stored_iterations) if settled else None
    other = inputs.other_data(first, evidence.variety.images, evidence.noun) if not (scaling or stale) else None
    return [
        finding
        for finding in (
            scaling,
            _broken(broken) if broken else None,
            _untouched(untouched, len(found), evidence.noun) if untouched else None,
            stale,
            other,
            _sharp(rest, evidence.noun),
            inputs.few(evidence.variety, evidence.noun),
        )
        if finding is not None
    ]


def learnt(found: Sequence[Statistics]) -> list[Statistics]:
    """Those whose moving statistics come from training: not broken, and not the initial ones."""
    return [s for s in found if _whole(s) and not (_initial(s) and _moved(s))]


def _whole(s: Statistics) -> bool:
    return bool(np.isfinite(s.mean).all() and np.isfinite(s.var).all() and (s.var >= 0).all())


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
    actions = (Action("find out where training diverged, or recalibrate if the weights themselves are finite"),)
    return Finding("BN003", Severity.ERROR, message, {"channels": channels}, actions, tuple(channels))


def _untouched(found: Sequence[Statistics], of: int, noun: Noun) -> Finding:
    """BN002: the statistics are exactly the initial ones although the layer was trained: never updated, or never loaded."""
    message = f"the moving statistics of {len(found)} of {of} BatchNormalization layers are exactly 0 and 1 although the layers were trained: never updated, or never loaded"
    actions = (
        Action("load them from the checkpoint (non-trainable weights included)"),
        Action(f"or measure them on {noun.many} like those of training", RECALIBRATE),
    )
    return Finding(
        "BN002", Severity.ERROR, message, {"layers": len(found), "of": of}, actions, tuple(s.name for s in found)
    )


def _stale(found: Sequence[Statistics], *, answers_differ: bool, stored_iterations: int | None) -> Finding | None:
    """BN001: too few updates; what is left of the initial values explains the distance to what the layers see."""
    fit = warm_up(found)
    if not (STALE <= fit.initial_weight <= MOST and fit.r_squared >= EXPLAINED):
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
    return Finding("BN001", Severity.ERROR if answers_differ else Severity.WARNING, message, evidence, (), names)


def _sharp(found: Sequence[Statistics], noun: Noun) -> Finding | None:
    """BN004: channels that hardly varied in training, whose gain gamma / sqrt(var + epsilon) is far above the layer's others.

    Only channels whose variance is below epsilon count: there epsilon sets the gain, and no data does.
    """
    channels: dict[str, list[int]] = {}
    gain = amplified = 0.0
    for s in found:
        gains = np.abs(s.gamma) / np.sqrt(s.var + s.epsilon)
        sharp = (s.var < s.epsilon) & (gains > GAIN * np.median(gains))
        if sharp.any():
            channels[s.name] = np.flatnonzero(sharp).tolist()
            gain = max(gain, float(gains[sharp].max()))
            amplified = max(
                amplified, float(np.exp(-s.log_ratio[sharp]).max()), float((s.z * np.exp(-s.log_ratio))[sharp].max())
            )
    if not channels:
        return None
    count = sum(map(len, channels.values()))
    message = f"{count} channels in {len(channels)} layers hardly varied in training (variance below epsilon), and their gain is up to {gain:.3g}"
    alive = amplified > GAIN
    if alive:
        message += f"; on these {noun.many} they vary, and come out {amplified:.3g} standard deviations large"
        actions: tuple[Action, ...] = (
            Action("find out what makes these channels vary now"),
            Action(f"or give them the statistics of these {noun.many}", RECALIBRATE),
        )
    else:
        message += ": rounding and lower precision are amplified as much"
        actions = (Action("look at these channels first if another runtime or a lower precision differs"),)
    evidence = {"channels": channels, "gain": gain, "largest_output": amplified}
    return Finding("BN004", Severity.WARNING if alive else Severity.INFO, message, evidence, actions, tuple(channels))

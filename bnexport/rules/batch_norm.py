"""BN001 to BN004: what the moving statistics of the layers say, held against what the layers see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnexport.numerics.drift import STALE, SURE, Statistics, warm_up
from bnexport.results.actions import Action, advise
from bnexport.results.nouns import Noun
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.actions import RECALIBRATE
from bnexport.rules.rule import Rule

EXPLAINED = 0.8
"""BN001 where a warm-up explains at least this share of the distance: other data or another scale do not look like one."""

HALF = 0.5
"""What later layers say beside a first one that is certain."""

MOST = 1.1
"""No BN001 above this share: more than all of the initial values cannot be left, so that something else explains the distance."""

GAIN = 5.0
"""BN004 from a gain on that is so many times the usual one of its layer."""

BN001 = Rule(
    "BN001",
    "stale moving statistics",
    meaning=(
        "The moving averages of BatchNormalization have had too few updates and still contain much of their "
        "initial values, 0 and 1. Training mode, which normalises by the batch, is right. Inference mode and "
        "every export are wrong."
    ),
    measured=(
        "The statistics of each layer's input are measured on the given images, as in bnexport recalibrate. "
        "The share l of the initial values that is left is fitted by least squares over all channels: mm - mu "
        "= -l mu, mv - v = l (1 - v). R^2 is the part of the distance that the fit explains. l = momentum^t "
        "gives the number of updates t. The update counter of the optimizer is shown beside it where the file "
        "has one. Raised from l = {STALE:share} and R^2 = {EXPLAINED} up to l = {MOST:share}. Sampling and "
        "the drift of the weights alone cause up to about 1 % of l. Where the first layers see data unlike the "
        "training data, the later ones decide alone: from R^2 = {SURE}, where what they learnt beside the initial "
        "values fits these images as IN001 asks of the first layers (converged nets on other data: R^2 up to 0.6)."
    ),
    neighbours=(
        "BN002: the layers have learned nothing at all. IN001 and IN002: only the first layers deviate. BN005 "
        "alone: the modes differ, but too few updates do not explain it. The finding is a warning instead of "
        "an error where both modes give the same classes on these images."
    ),
    remedy=(
        "Run bnexport recalibrate with representative images, train for more updates, or train with a lower "
        "BatchNormalization momentum."
    ),
    thresholds={"STALE": STALE, "EXPLAINED": EXPLAINED, "SURE": SURE, "MOST": MOST},
)


def stale(sites: Sequence[Statistics], *, answers_differ: bool, stored_iterations: int | None) -> Finding | None:
    """BN001: too few updates; what is left of the initial values explains the distance to what the layers see.

    Args:
        sites: the layers.
        answers_differ: whether training and inference mode answer differently: then it is an error.
        stored_iterations: the update counter of the optimizer in the file; None where there is none.
    """
    if not sites:
        return None
    fit = warm_up(sites)
    if not (STALE <= fit.initial_weight <= MOST and fit.r_squared >= EXPLAINED):
        return None
    z, ratio = (np.concatenate([getattr(s, what) for s in sites]) for what in ("z", "log_ratio"))
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
        message += (
            f"; {fit.updates_needed()} updates or a momentum of {fit.momentum_needed():.2f} would reduce this to 1 %"
        )
    names = tuple(s.name for s in sites)
    return BN001.finding(Severity.ERROR if answers_differ else Severity.WARNING, message, evidence, (), names)


def share_left(sites: Sequence[Statistics]) -> float:
    """The share of the initial values that is left in some layers; 0 where too few updates explain less than half of their distance to what they see."""
    fit = warm_up(sites) if sites else None
    return fit.initial_weight if fit and STALE <= fit.initial_weight < 1 and fit.r_squared >= HALF else 0.0


BN002 = Rule(
    "BN002",
    "statistics never updated or never loaded",
    meaning=(
        "The moving mean of a layer is exactly 0 and its moving variance exactly 1 in every channel, although "
        "its scale or offset was trained."
    ),
    measured="Every channel is compared with 0 and 1.",
    neighbours="BN001: after a few updates the values are near 0 and 1, but never exactly equal.",
    remedy="Load the non-trainable weights of the checkpoint as well, or run bnexport recalibrate.",
)


def initial_statistics(sites: Sequence[Statistics], noun: Noun) -> Finding | None:
    """BN002: the statistics are exactly the initial ones although the layer was trained: never updated, or never loaded."""
    names = [s.name for s in sites if _whole(s) and _initial(s) and _is_trained(s)]
    if not names:
        return None
    message = (
        f"the moving statistics of {len(names)} of {len(sites)} BatchNormalization layers are exactly 0 and 1, "
        "although the layers were trained: they were never updated or never loaded"
    )
    actions = (
        advise("load them from the checkpoint, including the non-trainable weights"),
        advise(f"or measure them on {noun.many} that resemble the training {noun.many}", RECALIBRATE),
    )
    return BN002.finding(Severity.ERROR, message, {"layers": len(names), "of": len(sites)}, actions, names)


BN003 = Rule(
    "BN003",
    "invalid moving statistics",
    meaning="A moving mean or variance is NaN or infinite, or a variance is negative.",
    measured="Every channel is checked. The evidence lists the layers and channels.",
    neighbours="EX001 with values that are not finite: the weights are invalid, not the statistics.",
    remedy=(
        "Find out where training diverged. If the weights are finite, bnexport recalibrate replaces the statistics."
    ),
)


def broken(sites: Sequence[Statistics]) -> Finding | None:
    """BN003: a moving statistic is NaN or infinite, or a variance is negative."""
    channels = {
        s.name: np.flatnonzero(~np.isfinite(s.mean) | ~np.isfinite(s.var) | ~(s.var >= 0)).tolist()
        for s in sites
        if not _whole(s)
    }
    if not channels:
        return None
    first = next(iter(channels))
    message = f"the moving statistics of {len(channels)} layers contain NaN, infinity or a negative variance, first in {first}, channel {channels[first][0]}"
    actions = (advise("find out where training diverged, or recalibrate if the weights are finite"),)
    return BN003.finding(Severity.ERROR, message, {"channels": channels}, actions, tuple(channels))


BN004 = Rule(
    "BN004",
    "channels with almost no variance in training",
    meaning=(
        "A moving variance is below epsilon. Epsilon then determines the gain of the channel, gamma / "
        "sqrt(var + epsilon), and this gain is far above that of the other channels in the layer. While the "
        "channel stays constant, only rounding is amplified. If it varies on these images, its output is many "
        "times too large. One such channel can ruin a model whose other statistics are right."
    ),
    measured=(
        "Every channel is checked for a variance below epsilon and a gain of more than {GAIN:g} times the "
        "median of its layer. The finding is a warning where the channel varies on these images by more than "
        "{GAIN:g} standard deviations of its output, otherwise an information."
    ),
    neighbours=(
        "BN001 and BN002: all channels of a layer deviate. IN001 and IN002: all channels of the first layers deviate."
    ),
    remedy=(
        "Find out why the channel varies now. bnexport recalibrate replaces its statistics with those of these images."
    ),
    thresholds={"GAIN": GAIN},
)


def sharp(sites: Sequence[Statistics], noun: Noun) -> Finding | None:
    """BN004: channels that hardly varied in training, whose gain gamma / sqrt(var + epsilon) is far above the layer's others.

    Only channels whose variance is below epsilon count: there epsilon sets the gain, and no data does.
    """
    channels: dict[str, list[int]] = {}
    gain = amplified = 0.0
    for s in sites:
        gains = np.abs(s.gamma) / np.sqrt(s.var + s.epsilon)
        steep = (s.var < s.epsilon) & (gains > GAIN * np.median(gains))
        if steep.any():
            channels[s.name] = np.flatnonzero(steep).tolist()
            gain = max(gain, float(gains[steep].max()))
            amplified = max(
                amplified, float(np.exp(-s.log_ratio[steep]).max()), float((s.z * np.exp(-s.log_ratio))[steep].max())
            )
    if not channels:
        return None
    count = sum(map(len, channels.values()))
    message = f"{count} channels in {len(channels)} layers had almost no variance in training (below epsilon), and their gain is up to {gain:.3g}"
    alive = amplified > GAIN
    if alive:
        message += f"; they vary on these {noun.many}, and their output reaches {amplified:.3g} standard deviations"
        actions: tuple[Action, ...] = (
            advise("find out why these channels vary now"),
            advise(f"or replace their statistics with those of these {noun.many}", RECALIBRATE),
        )
    else:
        message += ", which also amplifies rounding and lower precision"
        actions = (advise("check these channels first if another runtime or a lower precision differs"),)
    evidence = {"channels": channels, "gain": gain, "largest_output": amplified}
    return BN004.finding(Severity.WARNING if alive else Severity.INFO, message, evidence, actions, tuple(channels))


def learnt(sites: Sequence[Statistics]) -> list[Statistics]:
    """Those whose moving statistics come from training: not broken, and not the initial ones."""
    return [s for s in sites if _whole(s) and not (_initial(s) and _is_trained(s))]


def _whole(s: Statistics) -> bool:
    return bool(np.isfinite(s.mean).all() and np.isfinite(s.var).all() and (s.var >= 0).all())


def _initial(s: Statistics) -> bool:
    return bool((s.mean == 0).all() and (s.var == 1).all())


def _is_trained(s: Statistics) -> bool:
    """Whether the scale or the offset was trained."""
    return bool((s.gamma != s.gamma[0]).any() or (s.beta != s.beta[0]).any())

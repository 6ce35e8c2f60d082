"""IN001 and IN002: whether the images are what the model was trained on, judged at the first sites, which see them through fixed weights only.

Later sites say little about it: normalisation takes a wrong scale away, so that with statistics of these images only the first sites are off.
Each known scaling is tried on the images; the one under which the first sites see what their moving statistics hold is the one of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bnexport.numerics.drift import SURE, Statistics, misfit, without_initial
from bnexport.results.actions import Action, NamedOptions, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.actions import check_with
from bnexport.rules.preparations import (
    BETTER,
    OFF,
    SCATTERED,
    Refit,
    best_of,
    limit,
    when_stale,
)
from bnexport.rules.rule import Rule

EXACT = 1e-3
"""Statistics that agree so well are those of these very images."""

IN001 = Rule(
    "IN001",
    "wrong scaling",
    meaning=(
        "The images are not scaled as in training, for example 0-255 instead of 0-1. Training mode hides this "
        "because normalisation removes the scale. Recalibration would hide it as well, until images arrive "
        "that are scaled correctly."
    ),
    measured=(
        "At the first BatchNormalization layers, which see the images through fixed weights only: the median "
        "over channels of sqrt(z^2 + r^2), where z is the distance of the means in standard deviations and r "
        "the logarithm of the ratio of the standard deviations. If it is above {OFF} + {SCATTERED} / "
        "sqrt(images), every known scaling is tried on the images. The finding names the scaling that fits at "
        "least {BETTER:g} times better, and those that fit equally well. It is an error, or a warning where "
        "the scaling was assumed: the check then continues with the scaling that fits. It is also a warning "
        "where the distance is below the limit, but another channel order or resize kernel reduces it to "
        "{EXACT}: then these are the training images with different preprocessing. Where the statistics are "
        "stale, what is left of the initial values is fitted for every scaling (R^2 of {SURE}) and taken off first."
    ),
    neighbours="IN002: no known scaling fits. BN001: all layers deviate, not only the first.",
    remedy="Prepare the images as in training, with --normalize or the file beside the model. Do not recalibrate.",
    thresholds={"OFF": OFF, "SCATTERED": SCATTERED, "BETTER": BETTER, "EXACT": EXACT, "SURE": SURE},
)


def wrong_preparation(
    first: Sequence[Statistics],
    images: int,
    refits: Sequence[Refit],
    *,
    replaced: bool = False,
    noun: Noun = IMAGES,
    left: float = 0.0,
) -> Finding | None:
    """IN001: the first sites are off, and would not be with another scaling, channel order or resize kernel.

    It is an error where somebody stated how images are prepared, and a warning where it was assumed and is replaced by what fits.
    It is a warning, too, where the first sites are within `limit`, and another kernel or order gives their statistics to `EXACT`: then these
    are the training images, prepared otherwise.

    Args:
        first: the first sites.
        images: how many images they were measured on.
        refits: what other preparations give.
        replaced: whether the preparation was assumed, and the check goes on with the one that fits.
        noun: what the model was run on.
        left: the share of the initial values that is left in the later sites; where that is much, no preparation fits as it is.
    """
    stale = False
    now = misfit(first)
    best = best_of(refits)
    off = now > limit(images)
    if best is None or best.misfit > (min(limit(images), now / BETTER) if off else min(EXACT, now / BETTER)):
        now, refits = without_initial(first).misfit, when_stale(refits, left)
        best, stale = best_of(refits), True
        if best is None or not off or now <= limit(images) or best.misfit > min(limit(images), now / BETTER):
            return None
    rivals = [r for r in refits if r is not best and r.misfit <= min(BETTER * best.misfit, limit(images))]
    alike = {
        key: list(dict.fromkeys(r.new.as_dict()[key] for r in rivals if _differences(r, best) == {key}))
        for key in _NAMES
    }
    old = " and ".join(f"{_NAMES[key]} {before}" for key, (before, _) in best.changed.items())
    new = " and ".join(
        after if len(best.changed) == 1 else f"{_NAMES[key]} {after}" for key, (_, after) in best.changed.items()
    )
    evidence = {
        **{key: before for key, (before, _) in best.changed.items()},
        **{f"{key}_that_fits": after for key, (_, after) in best.changed.items()},
        "also_fit": alike["scaling"],
        "also_fit_order": alike["order"],
        "also_fit_resize": alike["resize"],
        "misfit": now if math.isfinite(now) else None,
        "misfit_that_fits": best.misfit,
        **({"initial_weight": best.warmed.share} if stale else {}),
        "replaced": replaced,
        "z_median": float(np.median(np.concatenate([s.z for s in first]))),
        "std_ratio": math.exp(-float(np.median(np.concatenate([s.log_ratio for s in first])))),
    }
    how_far = (
        f"at the first BatchNormalization layer the distance to the moving statistics is {now:.2g} standard deviations, "
        f"and {best.misfit:.2g} with {new}"
    )
    if stale:
        how_far = (
            f"{best.warmed.share:.0%} of the moving statistics of the first BatchNormalization layer are initial values, and "
            f"the rest is {best.misfit:.2g} standard deviations from these {noun.many} with {new}; {_as_given(now)}"
        )
    message = (
        f"{old} was assumed for the {noun.many}, but the model was trained with {new}: {how_far}; the check continues with {new}"
        if replaced
        else f"the {noun.many} are prepared with {old}, but the model was trained with {new}: {how_far}"
    )
    if alike["scaling"]:
        message += f"; {', '.join(alike['scaling'])} cannot be distinguished from it, and {new} fits best"
    blurred = [_NAMES[key] for key in ("order", "resize") if alike[key] and key not in best.changed]
    if blurred:
        message += f"; the {' and the '.join(blurred)} cannot be determined from these statistics"
    actions = [_state(best, replaced=replaced)]
    if "scaling" in best.changed:
        rival = {
            scaling: next(r for r in rivals if r.new.as_dict()["scaling"] == scaling) for scaling in alike["scaling"]
        }
        actions += [
            advise(("or, if training used it, ", *action.words), action.operation)
            for action in map(_state, rival.values())
        ]
    if not replaced:
        actions.append(advise("do not recalibrate: this would hide the mistake"))
    severity = Severity.ERROR if off and not replaced else Severity.WARNING
    return IN001.finding(severity, message, evidence, tuple(actions), tuple(s.name for s in first))


def _as_given(now: float) -> str:
    if math.isfinite(now):
        return f"as they are prepared it is {now:.2g}"
    return "as they are prepared, no share of initial values explains the moving statistics"


def _state(refit: Refit, *, replaced: bool = False) -> Action:
    """What states a preparation."""
    options = {key: after for key, (_, after) in refit.changed.items()}
    what = " and ".join(f"{_NAMES[key]} {after}" for key, after in options.items())
    text = f"specify {what}" if replaced else f"prepare them with {what}"
    return advise((f"{text} (", NamedOptions(options), ", or in the file beside the model)"), check_with(options))


_NAMES = {"scaling": "scaling", "order": "channel order", "resize": "resize kernel"}


def _differences(one: Refit, other: Refit) -> set[str]:
    mine, theirs = one.new.as_dict(), other.new.as_dict()
    return {key for key in _NAMES if mine[key] != theirs[key]}


IN002 = Rule(
    "IN002",
    "data unlike the training data",
    meaning=(
        "At the first BatchNormalization layers, these images have other statistics than the training images, "
        "and no known scaling explains it. Possible causes are other colors, contrast, inversion, another "
        "crop, or a custom scaling."
    ),
    measured="As for IN001, where no scaling fits and too few updates do not explain it either (BN001).",
    neighbours=(
        "IN001: a known scaling fits. Data that differ in content but not in how they were made do not raise "
        "this finding."
    ),
    remedy=(
        "Compare how both sets of images were made. Recalibration may help (another camera) or do harm (a "
        "head trained on these statistics). Use labelled images to decide."
    ),
)


def other_data(first: Sequence[Statistics], images: int, noun: Noun = IMAGES) -> Finding | None:
    """IN002: the first sites are off, and no known scaling mends it."""
    now = misfit(first)
    if now <= limit(images):
        return None
    mends, compare = (
        (
            ", and no known scaling, channel order or resize kernel explains it",
            "compare how these images and the training images were made: colors, contrast, inversion, crop, custom scaling",
        )
        if noun is IMAGES
        else ("", "compare how these arrays and the training arrays were made: scaling, order of the features, units")
    )
    message = (
        f"these {noun.many} differ from the training {noun.many}: at the first BatchNormalization layer they are {now:.2g} standard deviations from the moving "
        f"statistics{mends}"
    )
    actions = (advise(compare),)
    return IN002.finding(
        Severity.WARNING,
        message,
        {"misfit": now, "limit": limit(images)},
        actions,
        tuple(s.name for s in first),
    )

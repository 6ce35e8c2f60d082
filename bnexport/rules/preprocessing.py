"""IN001 and IN002: whether the images are what the model was trained on, judged at the first sites, which see them through fixed weights only.

Later sites say little about it: normalisation takes a wrong scale away, so that with statistics of these images only the first sites are off.
Each known scaling is tried on the images; the one under which the first sites see what their moving statistics hold is the one of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnexport.numerics.drift import Statistics, misfit
from bnexport.results.actions import Action, NamedOptions, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.preprocessing import Order, Preprocessing, Scaling
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.actions import check_with
from bnexport.rules.rule import Rule

BETTER = 3.0
"""IN001 where another scaling makes the misfit at least so many times smaller (measured: 5 to 280 times)."""

OFF = 0.3
"""The misfit above which the first sites are off, on many images: other photographs than in training stay below."""

SCATTERED = 0.5
"""What one image adds to that limit; n images add this over sqrt(n)."""

EXACT = 1e-3
"""Statistics that agree so well are those of these very images."""

SUSPICIOUS = 3e-3
"""Other preparations are tried from this misfit on where there are few images: they may be the training images."""


@dataclass(frozen=True, slots=True)
class Refit:
    """How well the first sites fit when images prepared as `old` are prepared as `new` instead: `misfit` as in `bnexport.numerics.drift`."""

    old: Preprocessing
    new: Preprocessing
    misfit: float

    @property
    def changed(self) -> dict[str, tuple[str, str]]:
        """What is otherwise: the field, the old and the new value."""
        old, new = self.old.as_dict(), self.new.as_dict()
        return {key: (str(old[key]), str(new[key])) for key in ("scaling", "order", "resize") if old[key] != new[key]}


def limit(images: int) -> float:
    """The misfit from which on the first sites are off: other photographs than in training stay below 0.3, and few images scatter.

    >>> round(limit(4), 2), round(limit(2500), 2)
    (0.55, 0.31)
    """
    return OFF + SCATTERED / math.sqrt(max(1, images))


def candidates(spec: Preprocessing | None, channels: int) -> list[tuple[Preprocessing, Preprocessing]]:
    """The preparations to try, as (old, new): from `spec` to every other scaling and channel order, those that change least first.

    Args:
        spec: how images are prepared; None for arrays, of which nobody knows: then each simple scaling is tried as the old one.
        channels: of the model's input; 3 are taken for colours.
    """
    if spec is None:
        channels = channels if channels in (1, 3, 4) else 1
        plain = [Preprocessing((1, 1), channels, scaling=scaling) for scaling in _SIMPLE]
        turned = [(plain[0], plain[0].changed(order=Order.BGR))] if channels == 3 else []
        return [(old, new) for old in plain for new in plain if old != new] + turned
    scalings = [
        s for s in (spec.scaling, *_SIMPLE, Scaling.CAFFE, Scaling.TORCH) if spec.channels == 3 or s not in _COLOURED
    ]
    orders = (spec.order, *(order for order in Order if order != spec.order)) if spec.channels == 3 else (spec.order,)
    pairs = []
    for order in orders:
        for scaling in dict.fromkeys(scalings):
            if order == Order.BGR and scaling == Scaling.CAFFE:
                continue
            new = spec.changed(scaling=scaling, order=order)
            if new != spec:
                pairs.append((spec, new))
    return pairs


_SIMPLE = (Scaling.NONE, Scaling.UNIT, Scaling.MINUS_ONE_ONE)

_COLOURED = (Scaling.CAFFE, Scaling.TORCH)


def best_of(refits: Sequence[Refit]) -> Refit | None:
    """The refit to believe.

    The scaling with the smallest misfit first. Another channel order, and then another resize kernel, only where they fit `BETTER` times as
    well: other images than in training scatter as much as these change.
    """
    chosen: Refit | None = None
    for allowed in ({"scaling"}, {"scaling", "order"}, {"scaling", "order", "resize"}):
        these = [refit for refit in refits if set(refit.changed) <= allowed and refit is not chosen]
        best = min(these, key=lambda refit: refit.misfit, default=None)
        if chosen is None or (best is not None and best.misfit <= chosen.misfit / BETTER):
            chosen = best
    return chosen


def find_fitting(first: Sequence[Statistics], images: int, refits: Sequence[Refit]) -> Refit | None:
    """The preparation under which the first sites fit, where they are off as it is; None where they are not off, or where none fits."""
    now, best = misfit(first), best_of(refits)
    if best is None or now <= limit(images) or best.misfit > min(limit(images), now / BETTER):
        return None
    return best


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
        "{EXACT}: then these are the training images with different preprocessing."
    ),
    neighbours="IN002: no known scaling fits. BN001: all layers deviate, not only the first.",
    remedy="Prepare the images as in training, with --normalize or the file beside the model. Do not recalibrate.",
    thresholds={"OFF": OFF, "SCATTERED": SCATTERED, "BETTER": BETTER, "EXACT": EXACT},
)


def wrong_preparation(
    first: Sequence[Statistics],
    images: int,
    refits: Sequence[Refit],
    *,
    replaced: bool = False,
    noun: Noun = IMAGES,
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
    """
    now = misfit(first)
    best = best_of(refits)
    off = now > limit(images)
    if best is None or best.misfit > (min(limit(images), now / BETTER) if off else min(EXACT, now / BETTER)):
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
        "misfit": now,
        "misfit_that_fits": best.misfit,
        "replaced": replaced,
        "z_median": float(np.median(np.concatenate([s.z for s in first]))),
        "std_ratio": math.exp(-float(np.median(np.concatenate([s.log_ratio for s in first])))),
    }
    distance = (
        f"at the first BatchNormalization layer the distance to the moving statistics is {now:.2g} standard deviations, "
        f"and {best.misfit:.2g} with {new}"
    )
    message = (
        f"{old} was assumed for the {noun.many}, but the model was trained with {new}: {distance}; the check continues with {new}"
        if replaced
        else f"the {noun.many} are prepared with {old}, but the model was trained with {new}: {distance}"
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

"""Whether the images are what the model was trained on, judged at the first sites, which see them through fixed weights only.

Later sites say little about it: normalisation takes a wrong scale away, so that with statistics of these images only the first sites are off.
Each known scaling is tried on the images; the one under which the first sites see what their moving statistics hold is the one of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnexport.numerics.drift import Statistics, misfit
from bnexport.numerics.spec import Preprocessing, Scaling
from bnexport.numerics.variety import FEW, Variety
from bnexport.numerics.verdict import Finding, Severity

BETTER = 3.0
"""IN001 where another scaling makes the misfit at least so many times smaller (measured: 5 to 280 times)."""

WASTED = 0.1
"""IN003 is a warning from this share of copies and images of one colour on."""

SHOWN = 5
"""How many names of images a message lists."""


@dataclass(frozen=True, slots=True)
class Refit:
    """How well the first sites fit when images prepared as `old` are prepared as `new` instead: `misfit` as in `bnexport.numerics.drift`."""

    old: Scaling
    new: Scaling
    misfit: float


def limit(images: int) -> float:
    """The misfit from which on the first sites are off: other photographs than in training stay below 0.3, and few images scatter.

    >>> round(limit(4), 2), round(limit(2500), 2)
    (0.55, 0.31)
    """
    return 0.3 + 0.5 / math.sqrt(max(1, images))


def candidates(spec: Preprocessing | None) -> list[tuple[Scaling, Scaling]]:
    """The scalings to try, as (old, new): from that of `spec` to every other; from each simple one to each, where nobody knows which it was."""
    if spec is None:
        simple = (Scaling.NONE, Scaling.UNIT, Scaling.MINUS_ONE_ONE)
        return [(old, new) for old in simple for new in simple if old != new]
    coloured = (Scaling.CAFFE, Scaling.TORCH)
    return [
        (spec.scaling, new) for new in Scaling if new != spec.scaling and (spec.channels == 3 or new not in coloured)
    ]


def wrong_scaling(first: Sequence[Statistics], images: int, refits: Sequence[Refit]) -> Finding | None:
    """IN001: the first sites are off, and would not be with another scaling.

    Args:
        first: the first sites.
        images: how many images they were measured on.
        refits: what other scalings give.
    """
    now = misfit(first)
    best = min(refits, key=lambda refit: refit.misfit, default=None)
    if now <= limit(images) or best is None or best.misfit > min(limit(images), now / BETTER):
        return None
    as_good = [f"{r.new}" for r in refits if r is not best and r.misfit < 2 * best.misfit and r.misfit <= limit(images)]
    evidence = {
        "scaling": str(best.old),
        "scaling_that_fits": str(best.new),
        "also_fit": as_good,
        "misfit": now,
        "misfit_that_fits": best.misfit,
        "z_median": float(np.median(np.concatenate([s.z for s in first]))),
        "std_ratio": math.exp(-float(np.median(np.concatenate([s.log_ratio for s in first])))),
    }
    message = (
        f"the images are prepared with scaling {best.old}, and the model was trained with {best.new}: at the first BatchNormalization layer "
        f"the distance to its moving statistics is {now:.2g} standard deviations, with {best.new} {best.misfit:.2g}"
    )
    if as_good:
        message += f"; {', '.join(as_good)} cannot be told from it"
    fix = (
        f"prepare them with scaling {best.new} (--scaling {best.new}, or in the file beside the model)",
        "do not recalibrate: that would hide the mistake",
    )
    return Finding("IN001", Severity.ERROR, message, evidence, fix, tuple(s.name for s in first))


def other_data(first: Sequence[Statistics], images: int) -> Finding | None:
    """IN002: the first sites are off, and no known scaling mends it."""
    now = misfit(first)
    if now <= limit(images):
        return None
    message = (
        f"these images are not like the training images: at the first BatchNormalization layer they are {now:.2g} standard deviations from its moving "
        "statistics, and no known scaling mends that"
    )
    fix = (
        "compare how these images and the training images are made: colours, contrast, inversion, crop, a scaling of its own",
    )
    return Finding(
        "IN002", Severity.WARNING, message, {"misfit": now, "limit": limit(images)}, fix, tuple(s.name for s in first)
    )


def unfit(variety: Variety) -> str:
    """Why images cannot be recalibrated from at all; "" where they can."""
    if variety.usable >= 2:
        return ""
    if variety.images == 1:
        return "there is only one image"
    what = (
        "has one colour"
        if len(variety.constant) == variety.images
        else "is the same or has one colour"
        if variety.constant
        else "is the same"
    )
    return f"every one of the {variety.images} images {what}"


def few(variety: Variety) -> Finding | None:
    """IN003: too few images, images of one colour, or the same image several times."""
    constant, repeated, reason = variety.constant, variety.repeated, unfit(variety)
    if variety.usable >= FEW and not constant and not repeated:
        return None
    evidence = {"images": variety.images, "usable": variety.usable, "constant": constant, "repeated": repeated}
    if reason:
        message = f"{reason}: that says nothing about statistics"
    elif constant or repeated:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
            for names, what in ((constant, "of one colour"), (repeated, "seen before"))
            if names
        ]
        message = f"of {variety.images} images {' and '.join(parts)}: {variety.usable} are left to learn from"
    else:
        message = f"{variety.images} images are few: statistics measured on them hold for them, not for others"
    wasted = len(constant) + len(repeated)
    severity = Severity.WARNING if reason or wasted > WASTED * variety.images else Severity.INFO
    return Finding("IN003", severity, message, evidence, ("use some hundred different images like those of training",))

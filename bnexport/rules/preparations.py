"""Other preparations of the images, and how the first BatchNormalization layers fit with each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from bnexport.numerics.drift import UNEXPLAINED, Statistics, Warmed, misfit
from bnexport.results.preprocessing import Order, Preprocessing, Scaling

BETTER = 3.0
"""IN001 where another scaling makes the misfit at least so many times smaller (measured: 5 to 280 times)."""

OFF = 0.3
"""The misfit above which the first sites are off, on many images: other photographs than in training stay below."""

SCATTERED = 0.5
"""What one image adds to that limit; n images add this over sqrt(n)."""

ALIKE = 3.0
"""What is left of the initial values is the same in two layers up to this factor: their weights drift otherwise."""

SUSPICIOUS = 3e-3
"""Other preparations are tried from this misfit on where there are few images: they may be the training images."""


@dataclass(frozen=True, slots=True)
class Refit:
    """How well the first sites fit when images prepared as `old` are prepared as `new` instead: `misfit` and `warmed` as in `bnexport.numerics.drift`."""

    old: Preprocessing
    new: Preprocessing
    misfit: float
    warmed: Warmed = UNEXPLAINED

    def as_list(self) -> list[object]:
        """It for JSON."""
        return [self.old.as_dict(), self.new.as_dict(), self.misfit, self.warmed.misfit, self.warmed.share]

    @classmethod
    def from_list(cls, stored: Sequence[object]) -> Refit:
        """It from `as_list`."""
        old, new, misfit, *warmed = cast("tuple[Any, ...]", stored)
        return cls(Preprocessing.from_dict(old), Preprocessing.from_dict(new), misfit, Warmed(*warmed))

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


def candidates(
    spec: Preprocessing | None, channels: int, extent: tuple[float, float] = (0.0, 0.0)
) -> list[tuple[Preprocessing, Preprocessing]]:
    """The preparations to try, as (old, new): from `spec` to every other scaling and channel order, those that change least first.

    Args:
        spec: how images are prepared; None for arrays, of which nobody knows: then each simple scaling is tried as the old one.
        channels: of the model's input; 3 are taken for colours.
        extent: the smallest and the largest value of arrays, which exclude scalings whose images do not reach so far.
    """
    if spec is None:
        channels = channels if channels in (1, 3, 4) else 1
        plain = [Preprocessing((1, 1), channels, scaling=scaling) for scaling in _SIMPLE]
        turned = [(plain[0], plain[0].changed(order=Order.BGR))] if channels == 3 else []
        possible = [old for old in plain if _reaches(old.scaling, extent)]
        return [(old, new) for old in possible for new in plain if old != new] + turned
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

_EXTENT = {Scaling.NONE: (0.0, 255.0), Scaling.UNIT: (0.0, 1.0), Scaling.MINUS_ONE_ONE: (-1.0, 1.0)}

_BEYOND = 0.05
"""Kernels that sharpen leave a range by so much of it, and a little more where they are used twice."""


def _reaches(scaling: Scaling, extent: tuple[float, float]) -> bool:
    """Whether images that are scaled so may have such values."""
    low, high = _EXTENT[scaling]
    margin = _BEYOND * (high - low)
    return low - margin <= extent[0] and extent[1] <= high + margin


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


def when_stale(refits: Sequence[Refit], left: float) -> list[Refit]:
    """How well the first sites fit once what is left of the initial values is taken off their moving statistics.

    Stale statistics tell scalings apart, and nothing finer; and what is left in the first layers is about what is left in the later ones.

    Args:
        refits: what other preparations give.
        left: the share of the initial values that is left in the later sites.
    """
    return [
        replace(refit, misfit=refit.warmed.misfit)
        for refit in refits
        if set(refit.changed) == {"scaling"} and _about_as_stale(refit.warmed.share, left)
    ]


def _about_as_stale(share: float, left: float) -> bool:
    """Whether two shares are alike, and what was learnt beside them, too."""
    pairs = ((share, left), (1 - share, 1 - left))
    return all(max(pair) <= ALIKE * min(pair) for pair in pairs)

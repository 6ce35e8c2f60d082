"""How far a way to prepare pictures is from recorded inputs, value by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnexport.datasets.identify.colours import Affine, name_scaling
from bnexport.datasets.identify.search import Scored, Search, Way
from bnexport.results.identified import Steps

EQUAL = 0.05
"""Values are equal within so many gray levels: float32 arithmetic moves them by less."""

LEVEL = 1.05
"""Values differ by rounding within so many gray levels."""

ALMOST_ALL = 0.999
"""The share of values that must be equal, or differ by rounding."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A way to prepare pictures, with what is left.

    Args:
        scored: the way and its colours.
        scaling: the one that is nearest.
        residual: root mean square, in gray levels.
        largest: the largest difference of all.
        equal: the share of values that are equal.
        rounding: the share of values that are equal or differ by rounding.
        padding: the grey level of the padding; None where there is none.
        resized: whether any picture was resized.
    """

    scored: Scored
    scaling: Affine
    residual: float
    largest: float
    equal: float
    rounding: float
    padding: float | None
    resized: bool

    @property
    def exact(self) -> bool:
        """Whether almost all values are equal."""
        return self.equal >= ALMOST_ALL and self.rounding >= ALMOST_ALL

    @property
    def rounds(self) -> bool:
        """Whether almost all values differ by rounding at most."""
        return self.rounding >= ALMOST_ALL


def measure(
    search: Search, scored: Scored, scalings: Sequence[Affine], pictures: Sequence[int], step: float
) -> Measured | None:
    """A way with the scaling that has a name where one is near; None where it cannot be applied to a picture.

    Args:
        search: the pictures and what was recorded.
        scored: the way and its colours.
        scalings: those with names.
        pictures: on which it is measured.
        step: the resolution of the recorded values, in their own unit.
    """
    colours = scored.colours
    scaling = name_scaling(colours, scalings)
    factor, offset = np.asarray(scaling.factor), np.asarray(scaling.offset)
    tolerance = step / float(np.abs(factor).min())
    squares = largest = equal = rounding = count = 0.0
    padding: list[float] = []
    resized = False
    for picture in pictures:
        made = search.render(picture, scored.way)
        if made is None:
            return None
        view = search.view(picture, scored.way.view)
        levels = (view - offset) / factor
        far = np.abs(levels - made[0] @ np.asarray(colours.matrix).T)
        if made[1] is not None:
            padding += [float(np.median(levels[~made[1]]))] if not made[1].all() else []
            far = far[made[1]]
        squares += float((far**2).sum())
        largest = max(largest, float(far.max(initial=0.0)))
        equal += int((far <= EQUAL + tolerance).sum())
        rounding += int((far <= LEVEL + tolerance).sum())
        count += far.size
        resized |= _resizes(search, scored, picture)
    if not count:
        return None
    mean = None if not padding else round(float(np.mean(padding)), 1)
    residual = float(np.sqrt(squares / count))
    return Measured(scored, scaling, residual, largest, equal / count, rounding / count, mean, resized)


def _resizes(search: Search, scored: Scored, picture: int) -> bool:
    pixels = search.sources[picture].of(scored.way.decoder, turned=scored.way.turned)
    plan = scored.way.fit.plan(pixels.shape[0], pixels.shape[1], search.wanted)
    return plan is not None and plan.box[2:] != plan.resized


def steps_of(search: Search, measured: Measured) -> Steps:
    """A way in words, without steps that make no difference to these pictures."""
    way, order = measured.scored.way, measured.scored.colours.order
    steps = words(search, way, order, measured.scaling.described, resized=measured.resized)
    if measured.padding is None or not steps.fit:
        return steps
    return replace(steps, fit=f"{steps.fit} with gray level {measured.padding:g}")


def words(search: Search, way: Way, order: str, scaling: str, *, resized: bool) -> Steps:
    """A way in words, with the order of its channels and its scaling.

    Args:
        search: the pictures.
        way: up to the colours.
        order: of the channels.
        scaling: in words.
        resized: whether any picture was resized; the kernel makes no difference where none was.
    """
    decoders = {decoder for source in search.sources for decoder, _ in source.pixels}
    turned = any(oriented for source in search.sources for _, oriented in source.pixels)
    rounding = f"{way.after} to uint8" if way.after else "" if way.kernel.rounds else "not rounded"
    return Steps(
        layout="" if way.view == "as stated" else way.view,
        decoder=f"JPEG decoder of {way.decoder}" if len(decoders) > 1 else "",
        orientation=("EXIF orientation applied" if way.turned else "EXIF orientation not applied") if turned else "",
        fit=way.fit.described if resized or way.fit.kind != "stretch" else "",
        kernel=way.kernel.described if resized else "",
        rounding=rounding if resized else "",
        order=order,
        scaling=scaling,
    )

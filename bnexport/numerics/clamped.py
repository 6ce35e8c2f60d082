"""Whether an array holds the numbers of another one, cut at a largest magnitude or raised to a smallest one, as converters to float16 do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnexport.types import Array

LARGEST = (1e4, 65504.0)
"""Where onnxconverter_common cuts unless another limit is given, and where float16 ends. Of any other limit two numbers must be exactly there."""

SMALLEST = float(np.float16(1e-7))
"""What onnxconverter_common raises smaller numbers to."""

MOVED = 1e-3
"""What moves an array by less than this share of its norm costs nothing beside the rounding of float16."""


@dataclass(frozen=True, slots=True)
class Clamped:
    """What became of a weight.

    Args:
        name: of the weight.
        size: how many numbers it has.
        count: how many of them are at the limit and beyond it in the reference.
        limit: their magnitude.
        furthest: the magnitude in the reference that is furthest beyond.
        raised: whether numbers below the limit were raised to it; otherwise those above it were cut.
    """

    name: str
    size: int
    count: int
    limit: float
    furthest: float
    raised: bool

    @property
    def described(self) -> str:
        """In words.

        >>> Clamped("dense/kernel", 12, 2, 10000.0, 75445.5, raised=False).described
        '2 of 12 numbers of dense/kernel are cut to 10000 (the model has up to 7.54e+04)'
        """
        what, reach = ("raised", "down") if self.raised else ("cut", "up")
        return (
            f"{self.count:,} of {self.size:,} numbers of {self.name} are {what} to {self.limit:.6g} "
            f"(the model has {reach} to {self.furthest:.3g})"
        )


def find_clamped(name: str, actual: Array, reference: Array) -> tuple[Clamped, ...]:
    """What `actual` has cut or raised of `reference`; nothing where it has anything else otherwise, but for the rounding of float16.

    A number is cut where its magnitude is the largest of `actual`, its sign is that of the reference, and the reference is larger. It is raised
    where its magnitude is the smallest but 0, and the reference is smaller.

    Args:
        name: of the weight.
        actual: of the shape of `reference`.
        reference: any shape.
    """
    if actual.shape != reference.shape or not actual.size:
        return ()
    a, r = (np.asarray(x, np.float64).ravel() for x in (actual, reference))
    if not (a.any() and np.isfinite(a).all() and np.isfinite(r).all()):
        return ()
    sizes, wanted = np.abs(a), np.abs(r)
    apart = np.abs(a - r) > wanted * 2.0**-11 * (1 + 1e-6) + 2.0**-25
    same_sign = np.sign(a) == np.sign(r)
    largest, smallest = float(sizes.max()), float(sizes[sizes > 0].min())
    cut = apart & same_sign & (sizes == largest) & (wanted > largest)
    raised = apart & same_sign & (sizes == smallest) & (wanted < smallest)
    if (apart & ~cut & ~raised).any():
        return ()
    if cut.any() and largest not in LARGEST and cut.sum() < 2:
        return ()
    if raised.any() and smallest != SMALLEST and raised.sum() < 2:
        return ()
    least = MOVED * float(np.linalg.norm(r))
    return tuple(
        Clamped(name, a.size, int(those.sum()), limit, float(furthest(wanted[those])), up)
        for those, limit, furthest, up in ((cut, largest, np.max, False), (raised, smallest, np.min, True))
        if those.any() and np.linalg.norm((a - r)[those]) >= least
    )

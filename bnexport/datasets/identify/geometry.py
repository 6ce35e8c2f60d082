"""How a picture of any size and aspect ratio is brought to the size of an input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bnexport.numerics.resampling.samplers import Resample
from bnexport.numerics.resampling.taps import Floats

LARGEST = 1.4
"""Pictures are resized to at most so many times the size of the input before they are cropped."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with one picture.

    Args:
        box: the part of the picture that is resized: top, left, height, width; it may reach beyond the picture, where there is black.
        resized: its height and width after that.
        offset: where the result begins in the resized part; negative where it is padded.
    """

    box: tuple[int, int, int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fit:
    """A way to bring pictures to a size.

    Args:
        kind: "stretch", "crop first", "crop", "crop only", "pad first", "pad" or "pad at the end".
        shorter: the length of the shorter side before a crop; 0 elsewhere.
        variant: how halves are rounded: 1 rounds sizes, 2 cuts off offsets, 3 both; 0 cuts off sizes and rounds offsets.
    """

    kind: str
    shorter: int = 0
    variant: int = 0

    @property
    def described(self) -> str:
        """In words."""
        return {
            "stretch": "the whole picture stretched",
            "crop first": "the centre cut out, then resized",
            "crop": f"the shorter side resized to {self.shorter}, then the centre cut out",
            "crop only": "the centre cut out without resizing",
            "pad first": "padded to the aspect ratio, then resized",
            "pad": "resized to fit, padded on both sides",
            "pad at the end": "resized to fit, padded at the right or bottom",
        }[self.kind]

    @property
    def variants(self) -> tuple[Fit, ...]:
        """The same with each way of rounding halves."""
        return (self,) if self.kind == "stretch" else tuple(replace(self, variant=nth) for nth in range(4))

    def plan(self, height: int, width: int, wanted: tuple[int, int]) -> Plan | None:
        """What is done with a picture of a size; None where it cannot be."""
        high, wide = wanted
        whole = (0, 0, height, width)
        if self.kind == "stretch":
            return Plan(whole, wanted, (0, 0))
        if self.kind in ("crop first", "pad first"):
            choose = min if self.kind == "crop first" else max
            cut_width = choose(width, self._size(height * wide / high))
            cut_height = choose(height, self._size(width * high / wide))
            top, left = self._offset(height - cut_height), self._offset(width - cut_width)
            return Plan((top, left, max(1, cut_height), max(1, cut_width)), wanted, (0, 0))
        if self.kind == "crop only":
            resized = (height, width)
        elif self.kind == "crop":
            scale = self.shorter / min(height, width)
            resized = (self._size(scale * height, self.shorter), self._size(scale * width, self.shorter))
        else:
            scale = min(high / height, wide / width)
            rounded = self.variant in (0, 1)  # a fitted size is rounded more often than not
            resized = (_fit_side(height * scale, rounded=rounded), _fit_side(width * scale, rounded=rounded))
            centre = (-((high - resized[0]) // 2), -((wide - resized[1]) // 2))
            return Plan(whole, resized, centre if self.kind == "pad" else (0, 0))
        if resized[0] < high or resized[1] < wide:
            return None
        return Plan(whole, resized, (self._offset(resized[0] - high), self._offset(resized[1] - wide)))

    def _size(self, side: float, least: int = 0) -> int:
        return max(least, round(side) if self.variant in (1, 3) else int(side + 1e-9))

    def _offset(self, free: int) -> int:
        return int(free / 2) if self.variant in (2, 3) else round(free / 2)


def _fit_side(side: float, *, rounded: bool) -> int:
    return max(1, round(side) if rounded else int(side + 1e-9))


def fits(wanted: tuple[int, int]) -> Iterator[Fit]:
    """Every way that is tried."""
    yield from map(Fit, ("stretch", "crop first", "pad", "pad first", "pad at the end", "crop only"))
    side = min(wanted)
    yield from (Fit("crop", shorter) for shorter in range(side, int(LARGEST * side) + 1))


def render(
    pixels: NDArray[np.uint8], plan: Plan, wanted: tuple[int, int], resample: Resample
) -> tuple[Floats, NDArray[np.bool_] | None]:
    """A picture at the size of the input, and which of its pixels come from the picture; None for all."""
    part = cut(pixels, plan.box)
    resized = part if part.shape[:2] == plan.resized else resample(part, *plan.resized)
    top, left = plan.offset
    if top >= 0 and left >= 0 and resized.shape[0] >= top + wanted[0] and resized.shape[1] >= left + wanted[1]:
        return resized[top : top + wanted[0], left : left + wanted[1]], None
    canvas = np.zeros((*wanted, pixels.shape[2]))
    inside = np.zeros(wanted, bool)
    rows, columns = (min(-o + r, w) for o, r, w in zip(plan.offset, resized.shape, wanted, strict=False))
    canvas[-top:rows, -left:columns] = resized[: rows + top, : columns + left]
    inside[-top:rows, -left:columns] = True
    return canvas, inside


def cut(pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Floats:
    """A part of a picture, black where it reaches beyond it."""
    top, left, height, width = box
    bottom, right = top + height - pixels.shape[0], left + width - pixels.shape[1]
    if top < 0 or left < 0 or bottom > 0 or right > 0:
        pixels = np.pad(pixels, ((max(0, -top), max(0, bottom)), (max(0, -left), max(0, right)), (0, 0)))
        top, left = max(0, top), max(0, left)
    return pixels[top : top + height, left : left + width].astype(np.float64)

"""How close is close enough: measured, not guessed.

The reference pass is repeated in float64. Its distance to the float32 pass is the **noise floor** of this model on these images: what rounding alone
does to it. Another float32 runtime rounds elsewhere, not more, so that a side passes when

    max |actual - reference| <= rtol * max |reference| + atol,   rtol = max(8 floors, 16 float32 eps), atol = 0

Softmax and sigmoid turn a difference of d between logits into one of d / 2 at most between probabilities (each dp_i = p_i (dz_i - sum p_j dz_j)): where every image
that was measured is saturated the probabilities' own floor is 0 and says nothing, so that theirs is at least half of what the logits' floor allows.

Where there is no float64 pass (an ONNX file alone, a layer that computes in float32 only) the tolerance is a stated one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

FLOORS = 8.0
"""A side passes within so many noise floors."""

LEAST = 16 * 2.0**-23
"""No tolerance is smaller: 16 float32 eps."""

SMALLEST_FLOOR = 2.0**-24
"""No floor is smaller: half a float32 eps, the rounding of a single number. Where both passes happen to agree exactly, floors are counted in these."""

STATED = {"inference": 1e-4, "training": 1e-3}
"""The largest relative error that passes where no floor is known, by mode: batch statistics amplify rounding more than moving ones."""

STATED_HALF = 2e-2
"""The same for models that compute in half precision (float16 keeps 11 bits, bfloat16 8)."""


WIDER = "the distance between {title} in float32 and in float64"
"""How a noise floor is measured where the model computes in float64."""

PERTURBED = "the movement of the outputs of {title} if a quarter of its weights move by one unit in the last place"
"""How it is measured elsewhere: the movement over the square root of two, because both passes round (`bnexport.comparison.noise`)."""


WEIGHTS_TOO = " or, where it is larger, the movement of the outputs if a quarter of the weights move by one unit in the last place"
"""What follows where both count."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest difference that passes: `atol + rtol * scale`.

    Args:
        rtol: relative to the scale of the reference.
        atol: in the tensor's own unit.
        floor: the noise floor, relative to the scale; None where none is known.
    """

    rtol: float
    atol: float = 0.0
    floor: float | None = None

    def relative(self, scale: float, max_abs: float) -> float:
        """The largest `max_rel` that passes for a reference of this scale. Of a scale of 0 any error is infinite: `max_abs` decides, the error itself."""
        if not self.atol:
            return self.rtol
        if not scale:
            return float("inf") if max_abs <= self.atol else self.rtol
        return self.rtol + self.atol / scale


@dataclass(frozen=True, slots=True)
class Tolerances:
    """The limit for each tensor in each mode.

    Args:
        floors: the noise floor by mode and tensor; empty where none can be measured.
        images: how many images the floors were measured on; 0 while nothing was off so far that they had to be measured.
        missing: why there are no floors; "" where there are.
        half: whether the model computes in half precision.
        rtol: as set by the user, by the tensor's name as reports show it; "" is for all.
        atol: the same.
        method: how the floors were measured.
    """

    floors: Mapping[tuple[str, str], float] = field(default_factory=dict)
    images: int = 0
    missing: str = "there is no Keras model"
    half: bool = False
    rtol: Mapping[str, float] = field(default_factory=dict)
    atol: Mapping[str, float] = field(default_factory=dict)
    method: str = ""

    @property
    def given(self) -> bool:
        """Whether the user set a tolerance."""
        return bool(self.rtol or self.atol)

    def limit(self, mode: str, tensor: str, shown: str, logits_scale: float | None) -> Limit:
        """The limit for one tensor.

        Args:
            mode: "inference" or "training".
            tensor: its name in the passes; the logits behind an output are `OUTPUT/logits`.
            shown: its name in reports, by which users may say something about it.
            logits_scale: for probabilities the scale of their logits; None for anything else, or where the logits are out of reach.
        """
        floor = self._floor(mode, tensor, logits_scale)
        rtol, atol = self.rtol.get(shown, self.rtol.get("")), self.atol.get(shown, self.atol.get(""))
        if rtol is not None or atol is not None:
            return Limit(rtol or 0.0, atol or 0.0, floor)
        if floor is not None:
            return Limit(max(FLOORS * floor, LEAST), 0.0, floor)
        stated = STATED_HALF if self.half else STATED[mode]
        return Limit(stated * max(1.0, (logits_scale or 0.0) / 2))

    def _floor(self, mode: str, tensor: str, logits_scale: float | None) -> float | None:
        own = self.floors.get((mode, tensor))
        behind = self.floors.get((mode, f"{tensor}/logits"))
        if own is None or behind is None or logits_scale is None:
            return own
        return max(own, behind * logits_scale / 2)

    @property
    def provisional(self) -> bool:
        """Whether the floors are the smallest there are, because nothing was off so far that they had to be measured."""
        return bool(self.floors) and not self.images

    def by_weights_too(self) -> Tolerances:
        """The same, where floors by moved weights count, too."""
        return self if self.method.endswith(WEIGHTS_TOO) else replace(self, method=self.method + WEIGHTS_TOO)

    @property
    def described(self) -> str:
        """The rule in words, for images."""
        return self.describe("images")

    def describe(self, many: str) -> str:
        """The rule in words, for items of which several are called so."""
        if self.rtol or self.atol:
            parts = [
                f"--{what} {f'{name}=' if name else ''}{value:g}"
                for what, table in (("rtol", self.rtol), ("atol", self.atol))
                for name, value in table.items()
            ]
            return f"tolerance as specified: {' '.join(parts)}"
        if self.provisional:
            return "tolerance: 16 float32 eps (noise floors were not measured because all differences are smaller)"
        if self.floors:
            method = self.method or WIDER.format(title="Keras")
            return f"tolerance: {FLOORS:g} noise floors ({method}, on {self.images} {many}), at least 16 float32 eps"
        stated = (
            f"{STATED_HALF:g}"
            if self.half
            else " and ".join(f"{value:g} in {mode} mode" for mode, value in STATED.items())
        )
        return f"tolerance: {stated} (no noise floor: {self.missing})"

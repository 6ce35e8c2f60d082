"""How another program prepared pictures, as far as that could be found out."""

from __future__ import annotations

from dataclasses import dataclass

NAMES = {
    "layout": "layout",
    "decoder": "decoder",
    "orientation": "orientation",
    "fit": "size",
    "kernel": "resize kernel",
    "rounding": "rounding",
    "order": "channel order",
    "scaling": "scaling",
}
"""What sentences call the steps, in the order in which they are written."""


@dataclass(frozen=True, slots=True)
class Steps:
    """One way to prepare a picture, each step in words; "" where it makes no difference.

    Args:
        layout: how the values lie in memory.
        decoder: what decoded it.
        orientation: whether that of EXIF was applied.
        fit: how it was brought to the size of the input.
        kernel: the resize kernel.
        rounding: what was rounded.
        order: the order of the channels.
        scaling: what was done to the gray levels.
    """

    layout: str = ""
    decoder: str = ""
    orientation: str = ""
    fit: str = ""
    kernel: str = ""
    rounding: str = ""
    order: str = ""
    scaling: str = ""

    @property
    def described(self) -> str:
        """All steps in one line.

        >>> Steps(kernel="OpenCV INTER_LINEAR", order="BGR", scaling="x / 255").described
        'OpenCV INTER_LINEAR, BGR, x / 255'
        """
        return ", ".join(part for name in NAMES if (part := getattr(self, name)))

    def differences(self, other: Steps) -> dict[str, tuple[str, str]]:
        """The steps that are otherwise in another way, with both."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in NAMES}
        return {name: (a, b) for name, (a, b) in pairs.items() if a != b}


@dataclass(frozen=True, slots=True)
class Identified:
    """What a search gave.

    Args:
        steps: the way that fits best; None where nothing fits.
        named: whether it is certain: the residual is rounding, and only `alternatives` have one like it.
        exact: whether almost all values are the same, up to float32 rounding.
        residual: root mean square of what is left, in gray levels; of outputs, relative to their scale.
        largest: the largest difference, in the same unit.
        alternatives: other ways whose residual is the same.
        next_residual: that of the best way that can be distinguished; None where there is none.
        values: whether outputs were compared and not inputs.
        pictures: how many pictures it was measured on.
        tried: how many ways were tried.
    """

    steps: Steps | None
    named: bool
    exact: bool
    residual: float
    largest: float
    alternatives: tuple[Steps, ...] = ()
    next_residual: float | None = None
    values: bool = False
    pictures: int = 0
    tried: int = 0

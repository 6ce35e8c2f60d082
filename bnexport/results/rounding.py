"""How far reduced precision moves a model's outputs: measured, and what it explains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

EXPLAINED = 2.0
"""A file of reduced precision passes within so many times the error that its precision explains: healthy files have 1.7 at most, as rms."""

LARGEST = 3.0
"""The same for the largest error of one value, which varies more."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """One tensor on one batch, in its own unit.

    Args:
        expected_rms: the error that rounding at each step of the file explains.
        expected_max: its largest value.
        actual_rms: the error of the file against the reference.
        actual_max: its largest value.
        reference_rms: of the reference.
        apart: the distance of the float form of the file, with nothing rounded but the stored weights, from the reference.
    """

    expected_rms: float
    expected_max: float
    actual_rms: float
    actual_max: float
    reference_rms: float
    apart: float = math.nan

    @property
    def ratio(self) -> float:
        """The error as a multiple of the expected one; infinite where the error is not a number."""
        return _times(self.actual_rms, self.expected_rms)

    @property
    def max_ratio(self) -> float:
        """The largest error as a multiple of the largest expected one."""
        return _times(self.actual_max, self.expected_max)

    @property
    def explained(self) -> bool:
        """Whether rounding explains the error."""
        return self.ratio <= EXPLAINED and self.max_ratio <= LARGEST

    @property
    def apart_explained(self) -> bool:
        """Whether the float form of the file is the reference, but for rounding."""
        return self.apart <= EXPLAINED * self.expected_rms

    @property
    def expected_db(self) -> float:
        """The signal-to-noise ratio that the precision explains."""
        return _decibels(self.reference_rms, self.expected_rms)

    @property
    def actual_db(self) -> float:
        """The signal-to-noise ratio of the file on these items."""
        return _decibels(self.reference_rms, self.actual_rms)


def _decibels(signal: float, noise: float) -> float:
    if math.isnan(noise):
        return -math.inf
    if not noise or not signal:
        return math.inf if not noise else -math.inf
    return 20 * math.log10(signal / noise)


def _times(actual: float, expected: float) -> float:
    value = actual / expected if expected else math.inf if actual else 0.0
    return math.inf if math.isnan(value) else value


class Cause(StrEnum):
    """What was proved to be the cause of an error beyond rounding."""

    UNKNOWN = ""
    SATURATION = "saturation"
    """The integer kernels of the runtime."""
    CALIBRATION = "calibration"
    """The ranges of the file."""
    OVERFLOW = "overflow"
    """Values that float16 cannot hold, in a file that is right in float32."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What reduced precision costs two runs on one batch.

    Args:
        tensors: by tensor, those that decide first.
        images: how many items of the batch were run.
        passes: how many passes with other noise.
        cause: what was proved to be the cause of an error beyond rounding.
    """

    tensors: Mapping[str, Rounding]
    images: int
    passes: int
    cause: Cause = Cause.UNKNOWN

    @property
    def explained(self) -> bool:
        """Whether rounding explains the error of every tensor."""
        return all(rounding.explained for rounding in self.tensors.values())

    @property
    def apart_explained(self) -> bool:
        """Whether the float form of the file is the reference in every tensor, but for rounding."""
        return all(rounding.apart_explained for rounding in self.tensors.values())

    @property
    def deciding(self) -> Rounding:
        """The tensor that is furthest beyond what rounding explains."""
        return max(self.tensors.values(), key=lambda rounding: rounding.ratio)

    @property
    def described(self) -> str:
        """The error as a multiple of the expected one, in words."""
        first = self.deciding
        return (
            f"{_written(first.ratio)} times the error that its precision explains ({first.expected_db:.3g} dB, measured on "
            f"{self.images} items)"
        )

    @property
    def evidence(self) -> dict[str, object]:
        """The same as numbers."""
        first = self.deciding
        return {
            "error_ratio": first.ratio,
            "largest_error_ratio": first.max_ratio,
            "expected_rms": first.expected_rms,
            "actual_rms": first.actual_rms,
            "expected_snr_db": first.expected_db,
            "explained": self.explained,
            "cause": str(self.cause),
        }


def _written(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"

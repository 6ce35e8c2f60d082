"""Which runs are compared with which, and what is expected: a table that follows from the runs alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bnexport.results.runs import Mode, Role, RunSpec


class Expected(StrEnum):
    """What is expected of two runs."""

    EQUAL = "equal"
    """They differ by rounding only."""
    QUANTIZED = "quantized"
    """One of them is quantised: what that costs is measured."""
    HALF = "half precision"
    """The one that is judged computes in 16 bits, the other one does not: what that costs is measured."""
    AS_DEPLOYED = "as deployed"
    """One of them may compute in less than float32: how far it is off is reported."""
    MODES = "modes"
    """They are the two modes of one runtime, and may differ."""
    ALTERNATIVE = "alternative"
    """Nothing; if they are equal, that may explain why others are not."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Two runs that are compared.

    Args:
        actual: the run that is judged.
        reference: the run it is judged by.
        expected: what is expected of them.
        mode: whose tolerance holds.
    """

    actual: RunSpec
    reference: RunSpec
    expected: Expected
    mode: Mode


def expectations(specs: Sequence[RunSpec]) -> list[Expectation]:
    """What is compared with what.

    Each candidate is compared with the control of its mode, or with the first candidate where there is no control, and
    the modes of one runtime with each other.
    """
    candidates = [spec for spec in specs if spec.role == Role.CANDIDATE]
    strict = [spec for spec in candidates if not spec.as_deployed]
    controls = _by_mode(spec for spec in specs if spec.role == Role.CONTROL)
    references = _by_mode(strict) | controls
    table = []
    for spec in strict:
        reference = references[spec.mode]
        if reference is not spec:
            table.append(Expectation(spec, reference, _expectation_of(spec, reference), spec.mode))
        if spec.external and "training" in controls:
            table.append(Expectation(spec, controls["training"], Expected.ALTERNATIVE, "training"))
    table += [
        Expectation(spec, controls[spec.mode], Expected.AS_DEPLOYED, spec.mode)
        for spec in candidates
        if spec.as_deployed and spec.mode in controls
    ]
    inference, training = references.get("inference"), references.get("training")
    if inference is not None and training is not None and inference.runtime == training.runtime:
        table.append(Expectation(training, inference, Expected.MODES, "training"))
    return table


def _expectation_of(actual: RunSpec, reference: RunSpec) -> Expected:
    if actual.precision.quantised or reference.precision.quantised:
        return Expected.QUANTIZED
    half = actual.external and actual.precision.half and not reference.precision.half
    return Expected.HALF if half else Expected.EQUAL


def _by_mode(specs: Iterable[RunSpec]) -> dict[Mode, RunSpec]:
    """The first run of each mode."""
    first: dict[Mode, RunSpec] = {}
    for spec in specs:
        first.setdefault(spec.mode, spec)
    return first

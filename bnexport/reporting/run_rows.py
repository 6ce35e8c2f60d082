"""The runs of a report in one table: what each answers, and how far it is from the run that it is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from bnexport.reporting.words import floors
from bnexport.results.verdict import CheckReport, Comparison, Side

ABSENT = {"RT015": "ended", "RT016": "refused"}
"""What became of a run that computes nothing, by the finding that says so."""


class Verdict(StrEnum):
    """What a run is."""

    OK = "ok"
    OFF = "off"
    DIFFERS = "differs"
    """training mode is not inference mode, which need not be wrong"""
    REFERENCE = "reference"
    ENDED = "ended"
    REFUSED = "refused"
    ALONE = ""
    """nothing is compared with it"""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run.

    Args:
        run: its id.
        answers: how many of its classes are right, or agree with those of the run that it is judged by; "" without classes.
        error: the largest of its errors, in noise floors where they are known, else relative to the scale.
        against: the run that it is judged by; "" for none.
        verdict: what comes of it.
        seconds: the time it took; None where it did not run.
    """

    run: str
    answers: str
    error: str
    against: str
    verdict: Verdict
    seconds: float | None


def run_rows(report: CheckReport) -> list[RunRow]:
    """A row for each run, in the order of the report; what did not run comes last."""
    modes = {side.id: side.mode for side in report.sides}
    judged: dict[str, list[Comparison]] = {side.id: [] for side in report.sides}
    for comparison in report.comparisons:
        if comparison.actual in modes and comparison.reference in modes:  # items one by one are no run
            judged[comparison.actual].append(comparison)
    references = {comparison.reference for of_run in judged.values() for comparison in of_run}
    rows = [_row(side, judged[side.id], modes, is_reference=side.id in references) for side in report.sides]
    for finding in report.findings:
        run = str(finding.evidence.get("side", ""))
        if finding.code in ABSENT and run not in modes:
            rows.append(RunRow(run, "", "", "", Verdict(ABSENT[finding.code]), None))
    return rows


def _row(side: Side, comparisons: list[Comparison], modes: dict[str, str], *, is_reference: bool) -> RunRow:
    correct = "" if side.correct is None else f"{side.correct}/{side.of}"
    if not comparisons:
        verdict = Verdict.REFERENCE if is_reference else Verdict.ALONE
        return RunRow(side.id, correct, "", "", verdict, side.seconds)
    worst = max(comparisons, key=_excess)
    verdict = Verdict.OK
    if modes[worst.reference] == side.mode:
        verdict = Verdict.OK if all(comparisons) else Verdict.OFF
    elif not all(c and c.top1_agreement in (None, 1.0) for c in comparisons):
        verdict = Verdict.DIFFERS
    return RunRow(side.id, correct or _agreement(comparisons), _error(worst), worst.reference, verdict, side.seconds)


def _excess(comparison: Comparison) -> tuple[bool, float]:
    """How bad a comparison is: a failed one before any that passed, NaN before any number."""
    count = comparison.noise_floors
    far = comparison.difference.max_rel if count is None else count
    return not comparison, math.inf if math.isnan(far) else far


def _error(comparison: Comparison) -> str:
    count = floors(comparison)
    return f"{count} floors" if count else f"{comparison.difference.max_rel:.2g} rel"


def _agreement(comparisons: list[Comparison]) -> str:
    """How many classes agree, or which share of boxes, pixels or tokens; "" where there are none."""
    shares = [c for c in comparisons if c.agreement is not None]
    if not shares:
        return ""
    least = min(shares, key=lambda c: c.agreement or 0.0)
    if least.top1_agreement is None:
        return f"{least.agreement:.1%}"
    return f"{round(least.top1_agreement * least.difference.images)}/{least.difference.images}"

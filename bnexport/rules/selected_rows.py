"""RT008: two runs select other rows, because rounding moves scores across a threshold or decides a tie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnexport.results.actions import advise
from bnexport.results.rows import FEW, HALF, RowCounts
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.rule import Rule

RT008 = Rule(
    "RT008",
    "different rows selected",
    meaning=(
        "The number of rows of an output depends on the data (NonMaxSuppression, NonZero, Unique, Compress), "
        "and some rows of two runs have no partner in the other one. Rounding moves scores across the threshold, or decides between "
        "boxes with nearly the same score."
    ),
    measured=(
        "Rows are matched, in any order: by the indices that were chosen where both runs give them, otherwise by all their values. "
        "Partners are compared within the tolerance. The tensors that the rows are selected from have a fixed shape and are compared, "
        "and the selection of the reference is run on those that the other run computed: where the tensors agree and it chooses the "
        "same rows, rounding explains the difference. Otherwise the check fails where more than one row and more than "
        "{HALF:share} of them have no partner, or {FEW:share} where the tensors cannot be compared or do not agree."
    ),
    neighbours="RT004, RT005 and EX001: partners, or the tensors that the rows are selected from, differ by more than rounding.",
    remedy="Compare the detections on labelled images.",
    thresholds={"FEW": FEW, "HALF": HALF},
)


@dataclass(frozen=True, slots=True)
class OtherRows:
    """Rows of two runs that have no partner.

    Args:
        actual: the run that is judged.
        reference: the one it is judged by.
        tensors: the outputs that have these rows.
        counts: how many there are.
        agree: whether the tensors that they are selected from agree; None where they could not be compared.
        strict: whether both runs compute in the same precision.
    """

    actual: str
    reference: str
    tensors: tuple[str, ...]
    counts: RowCounts
    agree: bool | None
    strict: bool


def other_rows(unmatched: Sequence[OtherRows]) -> Finding | None:
    """RT008: two runs select other rows, which rounding explains; None where they do not."""
    if not unmatched:
        return None
    parts = []
    for rows in unmatched:
        counts = rows.counts
        lost = (counts.actual - counts.matched, counts.reference - counts.matched)
        parts.append(
            f"{' and '.join(rows.tensors)}: {lost[0]} of {counts.actual} rows of {rows.actual} and {lost[1]} of "
            f"{counts.reference} of {rows.reference} have no partner, in {counts.batches} batches ({_cause(rows)})"
        )
    evidence = {
        "outputs": [
            {
                "actual": rows.actual,
                "reference": rows.reference,
                "tensor": rows.tensors[0],
                "tensors": list(rows.tensors),
                "batches": rows.counts.batches,
                "rows": rows.counts.actual,
                "reference_rows": rows.counts.reference,
                "matched": rows.counts.matched,
                "sources_agree": rows.agree,
                "explained": rows.counts.explained,
            }
            for rows in unmatched
        ]
    }
    severity = Severity.WARNING if any(rows.strict for rows in unmatched) else Severity.INFO
    message = f"the selected rows differ: {'; '.join(parts)}"
    return RT008.finding(severity, message, evidence, (advise("compare the detections on labelled images"),))


def _cause(rows: OtherRows) -> str:
    if not rows.strict:
        return "reduced precision moves scores across the threshold or changes a tie"
    if rows.counts.explained and rows.agree is None:
        return (
            "the reference's selection chooses the same from the tensors computed there, which could not be shown to agree: so "
            "few may be rounding"
        )
    if rows.counts.explained:
        return "the reference's selection chooses the same from the tensors computed there: rounding moved scores across the threshold or changed a tie"
    if rows.agree:
        return (
            "the tensors that they are selected from agree: rounding moved scores across the threshold or changed a tie"
        )
    return "the tensors that they are selected from could not be compared: so few may be rounding"

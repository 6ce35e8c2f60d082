"""Every run against every output, in one table: what a report with several runtimes shows first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bnexport.reporting.words import floors
from bnexport.results.verdict import CheckReport, Comparison

FEWEST = 3
"""A table of so many rows says more than the list of comparisons."""


class State(StrEnum):
    """What a cell says; the names of the classes of the page."""

    RIGHT = "right"
    DIFFERS = "differs"
    EMPTY = "dim"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one run computes for one output."""

    state: State
    text: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Runs by outputs.

    Args:
        tensors: the outputs, as reports call them.
        rows: for each run a cell for each output.
    """

    tensors: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]


def matrix(report: CheckReport) -> Matrix | None:
    """Each run with the run it is judged by; None where there are fewer than `FEWEST` of them."""
    modes = {side.id: side.mode for side in report.sides}
    by_run: dict[str, dict[str, Comparison]] = {}
    for comparison in report.comparisons:
        actual, reference = comparison.actual, comparison.reference
        if actual in modes and modes[actual] == modes.get(reference):  # neither the two modes nor items one by one
            by_run.setdefault(actual, {}).setdefault(comparison.tensor, comparison)
    tensors = tuple(dict.fromkeys(tensor for of_run in by_run.values() for tensor in of_run))
    rows = {run: tuple(_cell(of_run.get(tensor)) for tensor in tensors) for run, of_run in by_run.items()}
    for finding in report.findings:
        if finding.code in _ABSENT and (run := str(finding.evidence.get("side", ""))) not in rows:
            rows[run] = (Cell(State.DIFFERS, _ABSENT[finding.code]),) * len(tensors)
    return Matrix(tensors, rows) if len(rows) >= FEWEST else None


_ABSENT = {"RT015": "ended", "RT016": "refused"}
"""What became of a run that computes nothing, by the finding that says so."""


def _cell(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell(State.EMPTY)
    far = floors(comparison)
    error = f"{far} floors" if far else f"{comparison.difference.max_rel:.2g}"
    return Cell(State.RIGHT if comparison else State.DIFFERS, error)

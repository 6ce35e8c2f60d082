"""Every run against every output, in one table: what a report with several runtimes shows first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bnexport.reporting.run_rows import ABSENT
from bnexport.reporting.words import floors
from bnexport.results.rounding import EXPLAINED
from bnexport.results.runs import Precision
from bnexport.results.verdict import CheckReport, Comparison

FEWEST = 3
"""A table of so many rows says more than the list of comparisons."""


class State(StrEnum):
    """What a cell says; the names of the classes of the page."""

    RIGHT = "right"
    REDUCED = "reduced"
    """It rounds more than float32, as its precision does, or no tolerance is known."""
    BEYOND = "beyond"
    """It is further off than its precision explains."""
    DIFFERS = "differs"
    EMPTY = "dim"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one run computes for one output.

    Args:
        state: how it is judged.
        text: the error in noise floors, or relative to the scale where no floor is known; or what became of the run.
        word: the verdict in one word.
        max_rel: the largest error, relative to the scale; "" where nothing was compared.
        expected: the error as a multiple of the one that reduced precision explains; "" where that does not apply.
    """

    state: State
    text: str = ""
    word: str = ""
    max_rel: str = ""
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Runs by outputs.

    Args:
        tensors: the outputs, as reports call them.
        rows: for each run a cell for each output.
        references: the run that each is judged by; "" for one that computed nothing.
    """

    tensors: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]
    references: Mapping[str, str]


def matrix(report: CheckReport, *, fewest: int = FEWEST) -> Matrix | None:
    """Each run with the run it is judged by; None where there are fewer than `fewest` of them."""
    sides = {side.id: side for side in report.sides}
    by_run: dict[str, dict[str, Comparison]] = {}
    for comparison in report.comparisons:
        actual, reference = sides.get(comparison.actual), sides.get(comparison.reference)
        if actual and reference and actual.mode == reference.mode:  # neither the two modes nor items one by one
            of_run = by_run.setdefault(actual.id, {})
            before = of_run.get(comparison.tensor)
            if before is None or (before and not comparison):
                of_run[comparison.tensor] = comparison
    tensors = tuple(dict.fromkeys(tensor for of_run in by_run.values() for tensor in of_run))
    rows = {
        run: tuple(_cell(of_run.get(tensor), sides[run].precision) for tensor in tensors)
        for run, of_run in by_run.items()
    }
    for finding in report.findings:
        if finding.code in ABSENT and (run := str(finding.evidence.get("side", ""))) not in rows:
            rows[run] = (Cell(State.DIFFERS, word := ABSENT[finding.code], word),) * len(tensors)
    references = {run: next(iter(of_run.values())).reference for run, of_run in by_run.items()}
    return Matrix(tensors, rows, references) if len(rows) >= fewest else None


def _cell(comparison: Comparison | None, precision: str) -> Cell:
    if comparison is None:
        return Cell(State.EMPTY)
    far, largest = floors(comparison), f"{comparison.difference.max_rel:.2g}"
    state, word = State.RIGHT, "agrees"
    if not comparison:
        state, word = State.DIFFERS, "differs"
    elif precision != Precision.FLOAT32:
        explained = comparison.error_ratio is None or comparison.error_ratio <= EXPLAINED
        state, word = (State.REDUCED if explained else State.BEYOND), precision
    elif not has_limit(comparison):
        state, word = State.REDUCED, "not judged"
    return Cell(state, f"{far} floors" if far else largest, word, largest, times_expected(comparison))


def has_limit(comparison: Comparison) -> bool:
    """Whether there is an error that would fail it: a run as it is deployed is reported, whatever it computes."""
    return not comparison or math.isfinite(comparison.tolerance)


def times_expected(comparison: Comparison) -> str:
    """The error as a multiple of the one that reduced precision explains, "" where that does not apply."""
    ratio = comparison.error_ratio
    return "" if ratio is None or not math.isfinite(ratio) else f"{ratio:.2g} x expected"

"""The rows of the tables of the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnexport.reporting.matrix import Cell, State, has_limit, matrix, times_expected
from bnexport.reporting.neighbourhood import describe_error, state_of
from bnexport.reporting.ordering import Order, by_excess, orders, reach
from bnexport.reporting.words import floors
from bnexport.results.rounding import EXPLAINED
from bnexport.results.verdict import CheckReport, Comparison, Finding, LayerError, Side


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in the first table.

    Args:
        id: the run.
        notes: what it is judged by, unless that is the first reference of its mode, and its precision where that is not float32.
        cells: one for each output; empty for a run that others are judged by.
        reference: whether others are judged by it.
        correct: how many of the labelled items are right, "" where there are no labels.
    """

    id: str
    notes: tuple[str, ...]
    cells: tuple[Cell, ...]
    reference: bool
    correct: str = ""


@dataclass(frozen=True, slots=True)
class Runs:
    """The first table: the outputs, and every run."""

    tensors: tuple[str, ...]
    rows: tuple[RunRow, ...]

    @property
    def labelled(self) -> bool:
        """Whether any run has items with labels."""
        return any(row.correct for row in self.rows)

    @property
    def with_floors(self) -> bool:
        """Whether any error is known in noise floors."""
        return any(cell.text.endswith("floors") for row in self.rows for cell in row.cells)


def runs(report: CheckReport) -> Runs:
    """Every run against every output."""
    overview = matrix(report, fewest=1)
    cells: Mapping[str, tuple[Cell, ...]] = overview.rows if overview else {}
    references: Mapping[str, str] = overview.references if overview else {}
    judges = {c.reference for c in report.comparisons}
    usual = {side.mode: side.id for side in reversed(report.sides) if side.id in references.values()}
    rows = [
        _run(side, cells.get(side.id, ()), references.get(side.id, ""), usual.get(side.mode, ""), side.id in judges)
        for side in report.sides
    ]
    ids = {row.id for row in rows}
    absent = [RunRow(run, (), of_run, reference=False) for run, of_run in cells.items() if run not in ids]
    return Runs(overview.tensors if overview else (), tuple(rows + absent))


def _run(side: Side, cells: tuple[Cell, ...], reference: str, usual: str, judges: bool) -> RunRow:
    notes = (
        f"against {reference}" if reference not in ("", usual) else "",
        side.precision if side.precision != "float32" else "",
    )
    correct = "" if side.correct is None else f"{side.correct} of {side.of}"
    return RunRow(side.id, tuple(filter(None, notes)), cells, judges and not cells, correct)


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One comparison, with its error in numbers and as a bar (`bnexport.reporting.ordering.reach`)."""

    comparison: Comparison
    max_abs: str
    max_rel: str
    floors: str
    expected: str
    reach: int | None

    @property
    def judged(self) -> bool:
        """Whether an error would fail it."""
        return has_limit(self.comparison)


def comparisons(report: CheckReport) -> tuple[Order[ErrorRow], ...]:
    """Every comparison, as they were made, by error, and by output."""
    rows = [
        ErrorRow(
            c,
            f"{c.difference.max_abs:.3g}",
            f"{c.difference.max_rel:.2g}",
            floors(c),
            times_expected(c),
            reach(c.difference.max_rel, c.tolerance),
        )
        for c in report.comparisons
    ]
    keys = {"by error": lambda row: by_excess(row.comparison), "by output": lambda row: row.comparison.tensor}
    return orders(rows, "as compared", keys)


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer, with its error in words and as a bar."""

    layer: LayerError
    state: str
    error: str
    reach: int | None


def layers(report: CheckReport) -> tuple[Order[LayerRow], ...]:
    """Every layer in the order of computation, by error, and by name."""
    rows = [
        LayerRow(
            layer,
            str(state_of(layer)),
            describe_error(layer),
            reach(layer.max_rel, layer.tolerance) if layer.known else None,
        )
        for layer in report.layers
    ]
    keys = {"by error": lambda row: by_excess(row.layer), "by name": lambda row: row.layer.name}
    return orders(rows, "in order of computation", keys)


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """The error that reduced precision explains beside the measured one, both as rms, and as shares of the larger one in percent."""

    comparison: Comparison
    expected: str
    measured: str
    times: str
    expected_share: int
    measured_share: int

    @property
    def state(self) -> State:
        """Whether the precision explains the error."""
        return State.REDUCED if (self.comparison.error_ratio or 0.0) <= EXPLAINED else State.BEYOND


def expected_errors(report: CheckReport) -> tuple[ExpectedRow, ...]:
    """Every comparison for which it was measured how much reduced precision explains."""
    rows = []
    for c in report.comparisons:
        times = times_expected(c)
        if not c.expected_rms or c.error_ratio is None or not times:
            continue
        largest = max(1.0, c.error_ratio)
        measured = c.expected_rms * c.error_ratio
        shares = round(100 / largest), round(100 * c.error_ratio / largest)
        rows.append(ExpectedRow(c, f"{c.expected_rms:.2g}", f"{measured:.2g}", times.partition(" ")[0], *shares))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class CostRow:
    """What one quantised tensor costs alone (QT004), and its share of the largest cost in percent."""

    tensor: str
    cost: str
    share: int
    range: str
    values: str
    clipped: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Costs:
    """The ranking of quantised tensors.

    Args:
        orders: the rows, by cost and by name.
        text: how many were measured, and what is expected of all together.
    """

    orders: tuple[Order[CostRow], ...]
    text: str


def costs(report: CheckReport) -> Costs | None:
    """What each quantised tensor costs; None where that was not measured."""
    finding = next((f for f in report.findings if f.code == "QT004"), None)
    ranking: Sequence[Mapping[str, Any]] = finding.evidence.get("ranking", ()) if finding else ()
    if finding is None or not ranking:
        return None
    largest = max(entry["cost"] for entry in ranking) or 1.0
    rows = [
        CostRow(
            entry["tensor"],
            f"{100 * entry['cost']:.3g} %",
            round(100 * entry["cost"] / largest),
            _interval(entry["range"]),
            _interval(entry["values"]),
            f"{100 * entry['clipped']:.3g} %",
            tuple(entry["nodes"]),
        )
        for entry in sorted(ranking, key=lambda entry: -entry["cost"])
    ]
    return Costs(orders(rows, "by cost", {"by name": lambda row: row.tensor}), _describe_costs(finding, len(rows)))


def _describe_costs(finding: Finding, count: int) -> str:
    evidence = finding.evidence
    text = f"The error of the outputs, as a share of their rms, if this tensor alone is quantised: {count} of {evidence['groups']} measured."
    text += f" {100 * evidence['expected']:.2g} % are expected of all together."
    keep = evidence["nodes_to_exclude"]
    return text + (f" With {len(keep)} nodes in float {100 * evidence['error_left']:.2g} % are left." if keep else "")


def _interval(ends: Sequence[float]) -> str:
    low, high = ends
    return f"{low:.3g} to {high:.3g}"

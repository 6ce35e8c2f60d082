"""The releases of a runtime in a report: a row for each."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from bnexport.results.releases import Release, ReleaseMatrix, ReleaseOutcome
from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport

if TYPE_CHECKING:
    from rich.console import Console

_COLOUR = {"right": "green", "skipped": "dim", "not run": "dim"}
"""By outcome; every other one is red."""


def release_rows(matrix: ReleaseMatrix) -> list[tuple[str, str, str, str, str]]:
    """For each release its number, what it does, the largest error, the same in noise floors, and why it did not run.

    Neighbours that were not run are one row.
    """
    rows = []
    for waiting, some in groupby(matrix.releases, lambda release: release.outcome == ReleaseOutcome.NOT_RUN):
        releases = list(some)
        if waiting and len(releases) > 1:
            versions = f"{releases[0].version} to {releases[-1].version} ({len(releases)})"
            rows.append((versions, str(ReleaseOutcome.NOT_RUN), "", "", ""))
            continue
        rows += [
            (
                release.version,
                str(release.outcome),
                "" if release.max_rel is None else f"{release.max_rel:.2g}",
                _floors(release),
                release.reason,
            )
            for release in releases
        ]
    return rows


def show_releases(report: CheckReport, console: Console) -> None:
    """Prints them, and what was run."""
    matrix = report.releases
    if matrix is None:
        return
    table = Table(f"release of {escape(plain(matrix.package))}", "", "max rel", "floors", "", box=None, pad_edge=False)
    table.header_style = "dim"
    for row in release_rows(matrix):
        version, outcome, far, floors, reason = (escape(plain(cell)) for cell in row)
        table.add_row(version, f"[{_COLOUR.get(outcome, 'red')}]{outcome}[/]", far, floors, reason)
    console.print(table)
    for line in filter(None, (matrix.described, matrix.note)):
        console.print(f"[dim]{escape(plain(line))}[/]", soft_wrap=True)
    console.print()


def _floors(release: Release) -> str:
    count = release.noise_floors
    return "" if count is None else f"{count:.2g}" if count < 100 else f"{count:,.0f}"

"""A check on one screen: the verdict, the main cause and the next command, then a line for each run and each finding.

`show_summary` is what a command prints. Everything that a report has is in `bnexport.reporting.text`, which -v prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from bnexport.numerics.depth import first_off
from bnexport.reporting.releases import show_releases
from bnexport.reporting.run_rows import RunRow, Verdict, run_rows
from bnexport.reporting.text import COLOUR, has_images, safe, show_speed, show_sweep
from bnexport.reporting.words import cut, facts, in_task_terms, verdict
from bnexport.results.sweep import SweepOutcome
from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport, Finding, Severity

if TYPE_CHECKING:
    from rich.console import Console

_QUIET = (Verdict.OK, Verdict.ALONE)
"""Verdicts of runs that need not be seen."""

MOST_RUNS = 12
"""So many runs are listed; those that agree are left out first."""

MOST_FINDINGS = 6
"""So many findings are listed, the most severe ones."""

_CAUSE_LINES = 3
"""So many lines the main cause may take."""

_COLUMNS: Mapping[str, Callable[[RunRow], str]] = {
    "correct": lambda row: row.answers,
    "worst error": lambda row: row.error,
    "against": lambda row: row.against,
    "": lambda row: row.verdict,
    "seconds": lambda row: "" if row.seconds is None else f"{row.seconds:.2f}",
}
"""The columns after that of the run: the title, and the text of a row."""

_OPTIONAL = ("against", "seconds")
"""Columns that are left out, this one first, where the screen is too narrow for them."""

_STATE = {Verdict.OK: "green", Verdict.OFF: "red", Verdict.DIFFERS: "yellow", Verdict.ENDED: "red"}
_STATE |= {Verdict.REFUSED: "red", Verdict.REFERENCE: "dim", Verdict.ALONE: "dim"}


def show_summary(report: CheckReport, console: Console, *, width: int | None = None) -> None:
    """Prints the report on one screen.

    Args:
        report: the report.
        console: where.
        width: the columns of the screen, to which sentences are shortened; None where there is no screen.
    """
    cause = report.findings[0] if report.findings and report.findings[0].severity == Severity.ERROR else None
    word, _, sentence = verdict(report).partition(" ")
    console.print(f"[bold {'green' if report else 'red'}]{word}[/]", escape(sentence), soft_wrap=True)
    if cause is not None:
        _show_cause(cause, console, width)
    console.print()
    _show_runs(run_rows(report), report, console)
    _show_layers(report, console, width)
    for line in in_task_terms(report, failed=True):
        _show_line("", line, console, width)
    if any(case.outcome != SweepOutcome.PASSED for case in report.sweep):
        show_sweep(report, console, failed=True)
    show_speed(report, console)
    show_releases(report, console)
    rest = report.findings if cause is None else report.findings[1:]
    _show_findings(rest, console, width, printed=_first_command(cause) if cause else "")
    if report.bundle:
        for finding in report.bundle.known:
            _show_line(f"[dim]recorded in the bundle: {safe(finding.code)}[/]", finding.message, console, width)
    for line in facts(report):
        console.print(f"[dim]{escape(cut(line, width))}[/]", soft_wrap=True)
    if more := _list_more(report):
        console.print(f"[dim]-v shows {more}[/]", soft_wrap=True)


def _show_cause(cause: Finding, console: Console, width: int | None) -> None:
    message = cut(plain(cause.message), width and _CAUSE_LINES * width - len(cause.code) - 1)
    console.print(f"[{COLOUR[cause.severity]}]{safe(cause.code)}[/]", escape(message), soft_wrap=True)
    for action in cause.actions[:1]:
        if action.command:
            console.print("  ->", safe(action.command), soft_wrap=True)
        console.print("    " if action.command else "  ->", safe(action.reason), soft_wrap=True)


def _show_findings(findings: tuple[Finding, ...], console: Console, width: int | None, printed: str) -> None:
    """A line for each finding, and its first command below it, once."""
    commands = {printed, ""}
    for finding in findings[:MOST_FINDINGS]:
        _show_line(f"[{COLOUR[finding.severity]}]{safe(finding.code)}[/]", finding.message, console, width)
        if (command := _first_command(finding)) not in commands:
            console.print("  ->", safe(command), soft_wrap=True)
            commands.add(command)
    if (more := len(findings) - MOST_FINDINGS) > 0:
        console.print(f"[dim]and {more} more {'finding' if more == 1 else 'findings'}[/]")


def _first_command(finding: Finding) -> str:
    return next((action.command for action in finding.actions if action.command), "")


def _show_line(title: str, sentence: str, console: Console, width: int | None) -> None:
    """A title, which is markup, and a sentence in one line."""
    left = None if width is None else width - len(console.render_str(title).plain) - 1
    console.print(f"{title} {escape(cut(plain(sentence), left))}".lstrip(), soft_wrap=True)


def _show_runs(rows: Sequence[RunRow], report: CheckReport, console: Console) -> None:
    """The table of runs, in as many columns as fit."""
    shown = _most_telling(rows)
    titles = _fitting(shown, console.width)
    table = Table("run", box=None, pad_edge=False, header_style="dim")
    table.columns[0].overflow = "fold"
    for title in titles:
        labelled = title != "correct" or any(side.correct is not None for side in report.sides)
        justify: Literal["left", "right"] = "right" if title in ("worst error", "seconds") else "left"
        table.add_column(title if labelled else "agree", justify=justify, no_wrap=True)
    for row in shown:
        style = _STATE[row.verdict]
        cells = [
            f"[{style}]{safe(text)}[/]" if (text := _COLUMNS[title](row)) and not title else safe(text)
            for title in titles
        ]
        table.add_row(safe(row.run), *cells)
    console.print(table)
    if hidden := [row for row in rows if row not in shown]:
        agree = ", all ok" if all(row.verdict in _QUIET for row in hidden) else ""
        console.print(f"[dim]and {len(hidden)} more {'run' if len(hidden) == 1 else 'runs'}{agree}[/]")
    console.print()


def _most_telling(rows: Sequence[RunRow]) -> list[RunRow]:
    """At most `MOST_RUNS` of them in their order: those that are not ok, then the first ones."""
    first = sorted(range(len(rows)), key=lambda nth: rows[nth].verdict in _QUIET)[:MOST_RUNS]
    return [rows[nth] for nth in sorted(first)]


def _fitting(rows: Sequence[RunRow], width: int) -> list[str]:
    """The titles of the columns that have something to show and fit beside the names of the runs."""
    wide = {title: max((cell_len(text(row)) for row in rows), default=0) for title, text in _COLUMNS.items()}
    titles = [title for title in _COLUMNS if wide[title]]
    names = max((cell_len(row.run) for row in rows), default=0)
    for title in _OPTIONAL:
        if names + sum(2 + max(wide[one], len(one)) for one in titles) > width and title in titles:
            titles.remove(title)
    return titles


def _show_layers(report: CheckReport, console: Console, width: int | None) -> None:
    """The layer where the error begins, where a check fails and layers were compared."""
    first = None if report else first_off(report.layers)
    if first is None:
        return
    floors = f", {first.max_rel / first.noise_floor:,.0f} noise floors" if first.noise_floor else ""
    count = sum(layer.off for layer in report.layers)
    sentence = (
        f"{first.name} ({first.kind}): error {first.max_rel:.2g}{floors}; {count} of {len(report.layers)} are off"
    )
    _show_line("first bad layer:", sentence, console, width)


def _list_more(report: CheckReport) -> str:
    """What the whole report has besides; "" for nothing."""
    parts = {
        report.images.noun.many: has_images(report),
        "tensors": bool(report.comparisons),
        "layers": bool(report.layers),
        "what was tried": bool(report.sweep),
        "further actions": sum(len(finding.actions) for finding in report.findings) > 1,
    }
    names = [name for name, there in parts.items() if there]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))

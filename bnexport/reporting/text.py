"""A check for people with everything that it has: the verdict, the reason and the next step in the first lines, then the numbers.

What a command prints without -v is in `bnexport.reporting.summary`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from bnexport.reporting.releases import show_releases
from bnexport.reporting.words import class_name, floors, footer, in_task_terms, verdict
from bnexport.results.actions import Action
from bnexport.results.sweep import SweepOutcome
from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport, Finding, Severity

if TYPE_CHECKING:
    from rich.console import Console

COLOUR = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}
_OUTCOME = {SweepOutcome.PASSED: "green", SweepOutcome.FAILED: "red", SweepOutcome.DIFFERS: "yellow"} | dict.fromkeys(
    (SweepOutcome.UNDECIDED, SweepOutcome.REFUSED, SweepOutcome.NOT_TRIED), "dim"
)
_IMAGES_SHOWN = 12


def safe(text: str) -> str:
    r"""`text` as it may be printed: control characters shown as escapes, square brackets not read as markup.

    >>> safe("a" + chr(27) + "[31mb")
    'a\\x1b[31mb'
    """
    return escape(plain(text))


def show_check(report: CheckReport, console: Console) -> None:
    """Prints the report."""
    worst = report.findings[0] if report.findings else None
    word, _, sentence = verdict(report).partition(" ")
    console.print(f"[bold {'green' if report else 'red'}]{word}[/]", escape(sentence), soft_wrap=True)
    if worst is not None and worst.severity == Severity.ERROR:
        _show(worst, console, steps=1)
    console.print()
    _show_sides(report, console)
    _show_images(report, console)
    _show_comparisons(report, console)
    _show_layers(report, console)
    show_sweep(report, console)
    show_speed(report, console)
    show_releases(report, console)
    rest = report.findings[1:] if not report else report.findings
    if worst is not None and not report and len(worst.actions) > 1:
        console.print(f"{safe(worst.code)}: further actions")
        for action in worst.actions[1:]:
            _show_action(action, console)
    for finding in rest:
        _show(finding, console, steps=len(finding.actions))
    if report.bundle:
        for finding in report.bundle.known:
            console.print(
                f"[dim]recorded in the bundle: {safe(finding.code)}[/]", safe(finding.message), soft_wrap=True
            )
    console.print(f"[dim]{escape(footer(report))}[/]", soft_wrap=True)


def _show(finding: Finding, console: Console, *, steps: int) -> None:
    console.print(f"[{COLOUR[finding.severity]}]{safe(finding.code)}[/]", safe(finding.message), soft_wrap=True)
    for action in finding.actions[:steps]:
        _show_action(action, console)


def _show_action(action: Action, console: Console) -> None:
    """The command on a line of its own, so that it can be copied, and the reason below it."""
    if action.command:
        console.print("  ->", safe(action.command), soft_wrap=True)
        console.print("    ", safe(action.reason), soft_wrap=True)
    else:
        console.print("  ->", safe(action.reason), soft_wrap=True)


def _show_sides(report: CheckReport, console: Console) -> None:
    table = Table("run", "correct", "seconds", box=None, pad_edge=False, header_style="dim")
    for side in report.sides:
        right = "" if side.correct is None else f"{side.correct}/{side.of}"
        table.add_row(safe(side.id), right, f"{side.seconds:.2f}")
    console.print(table)
    console.print()


def has_images(report: CheckReport) -> bool:
    """Whether the report lists what runs answer for each image."""
    return report.images.count <= _IMAGES_SHOWN and any(side.answers for side in report.sides)


def _show_images(report: CheckReport, console: Console) -> None:
    """For each image its answers, and which runs give them."""
    if not has_images(report):
        return
    images = report.images
    table = Table(images.noun.one, "label", "answer", "runs", box=None, pad_edge=False, header_style="dim")
    for i, name in enumerate(images.names):
        label = images.labels[i]
        runs: dict[tuple[int, str], list[str]] = {}
        for side in (side for side in report.sides if side.answers):
            sure = f" {side.confidence[i]:.3f}" if side.confidence else ""
            runs.setdefault((side.answers[i], sure), []).append(side.id)
        first = (safe(name), escape(class_name(report, label)) if label >= 0 else "?")
        for (answer, sure), of_answer in runs.items():
            text = f"{escape(class_name(report, answer))}{sure}"
            who = "all runs" if len(runs) == 1 and len(of_answer) > 1 else ", ".join(of_answer)
            table.add_row(*first, f"[red]{text}[/]" if label >= 0 and answer != label else text, safe(who))
            first = ("", "")
    console.print(table)
    console.print()


def _show_comparisons(report: CheckReport, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("compared", "with", "tensor"):
        table.add_column(title, overflow="fold")
    for title in ("max abs", "max rel", "floors", "same class", ""):
        table.add_column(title, no_wrap=True)
    for c in report.comparisons:
        same = (
            "" if c.top1_agreement is None else f"{round(c.top1_agreement * c.difference.images)}/{c.difference.images}"
        )
        table.add_row(
            safe(c.actual),
            safe(c.reference),
            safe(c.tensor),
            f"{c.difference.max_abs:.3g}",
            f"{c.difference.max_rel:.2g}",
            floors(c),
            same,
            "[green]ok[/]" if c else "[red]differs[/]",
        )
    console.print(table)
    for line in in_task_terms(report):
        console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
    console.print()


def _show_layers(report: CheckReport, console: Console) -> None:
    """The growth of the error along depth."""
    if not report.layers:
        return
    reduced = any(layer.expected is not None for layer in report.layers)
    counted = "expected" if reduced else "floors"
    table = Table("layer", "kind", "max rel", counted, "", box=None, pad_edge=False, header_style="dim")
    for layer in report.layers:
        floors = "" if not layer.noise_floor or not layer.known else _floors(layer.max_rel / layer.noise_floor)
        if reduced:
            floors = "" if layer.expected is None else f"{layer.expected:.2g}"
        state = "[red]off[/]" if layer.off else "[green]ok[/]" if layer.known else "[dim]not found[/]"
        far = layer.problem if layer.problem and layer.known else "" if not layer.known else f"{layer.max_rel:.2g}"
        table.add_row(safe(layer.name), safe(layer.kind), safe(far), floors, state)
    console.print(table)
    console.print()


def show_sweep(report: CheckReport, console: Console, *, failed: bool = False) -> None:
    """What was tried beyond the data; with `failed` only what did not pass."""
    sweep = [case for case in report.sweep if not (failed and case.outcome == SweepOutcome.PASSED)]
    if not sweep:
        return
    table = Table("tried", "run", "max rel", "passes up to", "", box=None, pad_edge=False, header_style="dim")
    for case in sweep:
        table.add_row(
            safe(case.case),
            safe(case.side),
            "" if case.max_rel is None else f"{case.max_rel:.2g}",
            "" if case.tolerance is None else f"{case.tolerance:.2g}",
            f"[{_OUTCOME[case.outcome]}]{safe(case.outcome)}[/]",
        )
    console.print(table)
    reasons: dict[tuple[SweepOutcome, str], list[str]] = {}
    for case in sweep:
        if case.reason and case.outcome in (SweepOutcome.NOT_TRIED, SweepOutcome.REFUSED, SweepOutcome.UNDECIDED):
            reasons.setdefault((case.outcome, case.reason), []).append(case.case)
    for (outcome, reason), cases in reasons.items():
        console.print(f"[dim]{outcome}: {safe(', '.join(dict.fromkeys(cases)))} ({safe(reason)})[/]", soft_wrap=True)
    console.print()


def show_speed(report: CheckReport, console: Console) -> None:
    """How fast each run is."""
    if not report.speed:
        return
    table = Table("speed of", box=None, pad_edge=False, header_style="dim")
    for name in ("batch", "per second", "of onnxruntime"):
        table.add_column(name, justify="right")
    for speed in report.speed:
        ratio = "" if speed.ratio is None else f"{speed.ratio:.2f}"
        table.add_row(safe(speed.side), str(speed.batch), f"{speed.per_second:.3g}", ratio)
    console.print(table)
    console.print()


def _floors(count: float) -> str:
    return f"{count:.2g}" if count < 100 else f"{count:.0f}"


def show_packing(
    path: Path, samples: int, sets: int, size: int, refused: str, report: CheckReport, console: Console
) -> None:
    """Prints the result of packing, and the findings of the check before it."""
    if refused:
        console.print("[bold red]REFUSED[/]", safe(f"{path}: {refused}"), soft_wrap=True)
    else:
        items = report.images.noun.with_count(samples)
        parts = f" in {sets} data sets" if sets > 1 else ""
        console.print(
            safe(f"{path}: {items}{parts}, {size / 1e6:.1f} MB, checked before packing"),
            soft_wrap=True,
        )
    for finding in report.findings:
        suffix = "" if refused else " (recorded in the bundle)"
        console.print(
            f"[{COLOUR[finding.severity]}]{safe(finding.code)}[/]{suffix}", safe(finding.message), soft_wrap=True
        )
    step = f"bnexport check {report.model.path} {report.images.source}" if refused else f"bnexport verify {path}"
    console.print("next:", safe(step), soft_wrap=True)

"""A check as Markdown, for a step summary or a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from bnexport.reporting.matrix import Cell, State, matrix
from bnexport.reporting.releases import release_rows
from bnexport.reporting.words import floors, footer, in_task_terms, verdict
from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport, Severity

_SIGN = {Severity.ERROR: "❌", Severity.WARNING: "⚠️", Severity.INFO: "ℹ️"}  # noqa: RUF001 - the sign for information


def check(report: CheckReport) -> str:
    """The verdict, the findings with what to do, and the tables of sides and comparisons."""
    parts = [f"## {'✅' if report else '❌'} {text(verdict(report))}", ""]
    for finding in report.findings:
        parts.append(f"- {_SIGN[finding.severity]} **{text(finding.code)}** {text(finding.message)}")
        for action in finding.actions:
            parts.append(f"  - {text(action.reason)}")
            if action.command:
                parts += ["", "    ```sh", f"    {plain(action.command)}", "    ```", ""]
    if overview := matrix(report):
        rows = [(run, *map(_cell, cells)) for run, cells in overview.rows.items()]
        parts += ["", *table(("run", *overview.tensors), rows)]
    parts += [
        "",
        *table(
            ("run", "correct", "seconds"),
            [
                (side.id, "" if side.correct is None else f"{side.correct}/{side.of}", f"{side.seconds:.2f}")
                for side in report.sides
            ],
        ),
    ]
    parts += [
        "",
        *table(
            ("compared", "with", "tensor", "max rel", "noise floors", ""),
            [
                (
                    c.actual,
                    c.reference,
                    c.tensor,
                    f"{c.difference.max_rel:.2g}",
                    floors(c),
                    "ok" if c else "**differs**",
                )
                for c in report.comparisons
            ],
        ),
    ]
    if report.sweep:
        cases = [
            (c.case, c.side, "" if c.max_rel is None else f"{c.max_rel:.2g}", str(c.outcome), c.reason)
            for c in report.sweep
        ]
        parts += ["", *table(("tried", "run", "max rel", "", "reason"), cases)]
    if report.speed:
        speeds = [
            (s.side, str(s.batch), f"{s.per_second:.3g}", "" if s.ratio is None else f"{s.ratio:.2f}")
            for s in report.speed
        ]
        parts += ["", *table(("speed of", "batch", "per second", "of onnxruntime"), speeds)]
    if report.releases:
        parts += [
            "",
            *table(("release", "outcome", "max rel", "noise floors", "reason"), release_rows(report.releases)),
        ]
        parts += ["", f"{text(report.releases.described)}."]
    parts += ["", *(f"- {text(line)}" for line in in_task_terms(report))]
    return "\n".join([*parts, "", f"<sub>{text(footer(report))}</sub>", ""])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in lines; cells are text."""
    lines = [
        head,
        ["---"] * len(head),
        *([cell if cell == "**differs**" else text(cell) for cell in row] for row in rows),
    ]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cell(cell: Cell) -> str:
    return f"{_STATE[cell.state]} {cell.text}".strip()


_STATE = {State.RIGHT: "✅", State.REDUCED: "≈", State.BEYOND: "⚠️", State.DIFFERS: "❌", State.EMPTY: ""}


def text(value: str) -> str:
    """Text in which nothing is markup, neither Markdown's nor HTML's."""
    return re.sub(r"([\\`*_\[\]|~#!@]|:(?=//))", r"\\\1", escape(plain(value), quote=False))

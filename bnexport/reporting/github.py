"""A check as annotations of GitHub Actions (GitHub, "Workflow commands for GitHub Actions")."""

from __future__ import annotations

from bnexport.reporting.words import verdict
from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport, Severity

_COMMAND = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def check(report: CheckReport) -> str:
    """The verdict, and a line for each finding; what a model or a file name brings along cannot become a command."""
    lines = [_data(verdict(report))]
    for finding in report.findings:
        message = "\n".join([finding.message, *(f"-> {step}" for step in finding.fix)])
        lines.append(f"::{_COMMAND[finding.severity]} title={_property('bnexport ' + finding.code)}::{_data(message)}")
    failed = [c for c in report.comparisons if not c]
    lines += [
        f"::error title={_property('bnexport comparison')}::{_data(f'{c.tensor} of {c.actual} against {c.reference}: {c.reason}')}"
        for c in failed
    ]
    return "\n".join(lines)


def _data(text: str) -> str:
    lines = [plain(line) for line in text.split("\n")]
    return "%0A".join(line.replace("%", "%25") for line in lines)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

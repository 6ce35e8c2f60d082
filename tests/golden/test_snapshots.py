"""What programs and people read stays what it was: reports of two checks made by hand in every text form, and the help of every command.

`pytest tests/golden/test_snapshots.py --snapshot-update` writes `__snapshots__` anew; the difference belongs into the review. Numbers are
those of records made here, so that no machine is in them; the version is masked.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
import typer.main
from rich.console import Console
from syrupy.assertion import SnapshotAssertion
from typer.testing import CliRunner

from bnexport.cli import app
from bnexport.reporting import github, json, junit, markdown, ndjson
from bnexport.reporting.text import show_check
from bnexport.results.verdict import CheckReport
from bnexport.version import __version__
from tests.unit.test_summary import make

FAILED = make(wrong="mnn", layers=153)
REPORTS = {"pass": make(), "fail": replace(FAILED, layers=FAILED.layers[147:])}
"""With three layers before the first wrong one, and three from there."""
FORMS: dict[str, Callable[[CheckReport], str]] = {
    "json": lambda report: json.dumps(json.check(report)),
    "ndjson": lambda report: "\n".join(ndjson.check(report)),
    "markdown": markdown.check,
    "junit": junit.check,
    "github": github.check,
    "text": lambda report: printed(report),
}
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def printed(report: CheckReport) -> str:
    """The whole text report, as `-v` prints it to a file."""
    stream = io.StringIO()
    show_check(report, Console(file=stream, width=120, highlight=False))
    return stream.getvalue()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("verdict", REPORTS)
def test_reports(verdict: str, form: str, snapshot: SnapshotAssertion) -> None:
    """Each form of a report that passes and of one that fails in a layer of one runtime."""
    assert FORMS[form](REPORTS[verdict]).replace(__version__, "VERSION") == snapshot


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, snapshot: SnapshotAssertion) -> None:
    """Commands, options, their defaults and their sentences."""
    done = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})
    assert done.exit_code == 0, done.output
    assert done.stdout.replace(__version__, "VERSION") == snapshot

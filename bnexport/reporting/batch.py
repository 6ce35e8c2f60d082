"""A batch for people and machines: text, NDJSON, JUnit, Markdown and HTML, all from the same results."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from rich.markup import escape

from bnexport.reporting.html import page
from bnexport.reporting.markdown import table, text
from bnexport.reporting.words import encodable
from bnexport.results.batched import Batch, Result
from bnexport.results.text import plain

if TYPE_CHECKING:
    from rich.console import Console


_COLOUR = {"pass": "green", "fail": "red", "error": "yellow", "timeout": "yellow"}


MOST_NAMES = 8
"""So many names of checks are listed where not everything is wanted."""


def line(result: Result, position: int, total: int) -> str:
    """A result in one line, with rich's markup."""
    why = reason(result)
    text = f"[{position}/{total}] [{_COLOUR[result.status]}]{result.status.upper()}[/] {escape(plain(result.name))} ({result.seconds:.1f} s)"
    return text.replace(f"[{position}/{total}]", rf"\[{position}/{total}]", 1) + (
        f": {escape(plain(why))}" if why else ""
    )


def reason(result: Result) -> str:
    """Why it did not pass; "" where it did."""
    if result.report is None:
        return result.error
    worst = next((f for f in result.report["findings"] if f["severity"] == "error"), None)
    return f"{worst['code']} {worst['message']}" if worst else ""


def show(batch: Batch, console: Console, *, verbose: bool = False) -> None:
    """Prints the counts, and what changed since the run before.

    Args:
        batch: what came of it.
        console: where.
        verbose: everything, which is a line for each check, and the names of all that changed.
    """
    if verbose:
        for position, result in enumerate(batch.results, start=1):
            console.print(line(result, position, len(batch.results)), soft_wrap=True)
    console.print(_counts(batch), f"of {len(batch.results)} checks; {len(batch.repeated)} run now")
    for title, names in _changes(batch):
        listed = names if verbose else names[:MOST_NAMES]
        more = f" and {len(names) - len(listed)} more (-v)" if len(listed) < len(names) else ""
        console.print(f"{title}: {escape(plain(', '.join(listed)))}{more}", soft_wrap=True)


def record(result: Result) -> str:
    """One check as one line of JSON."""
    fields = {"name": result.name, "status": result.status, "seconds": result.seconds, "reason": reason(result) or None}
    return encodable(json.dumps({**fields, "report": result.report}, ensure_ascii=False, allow_nan=False))


def ndjson(batch: Batch) -> str:
    """One JSON object a line for each check, in the plan's order."""
    return "".join(f"{record(result)}\n" for result in batch.results)


def junit(batch: Batch) -> str:
    """A test case for each check: failures are verdicts, errors are checks without one."""
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

    suite = TestSuite("bnexport batch")
    for result in batch.results:
        case = TestCase(plain(result.name), "bnexport.batch", result.seconds)
        if result.status != "pass":
            kind = Failure if result.status == "fail" else Error
            case.result = [kind(plain(reason(result)), result.status)]
        suite.add_testcase(case)
    document = JUnitXml("bnexport")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call] # junitparser types only part of itself
    content: bytes = document.tostring()  # type: ignore[no-untyped-call] # as above
    return '<?xml version="1.0" encoding="utf-8"?>\n' + content.decode() + "\n"


def markdown(batch: Batch) -> str:
    """The counts, what changed, and a table."""
    lines = [f"## {_counts(batch)}", ""]
    lines += [f"- {title}: {text(', '.join(names))}" for title, names in _changes(batch)]
    rows = [(r.name, r.status, f"{r.seconds:.1f}", reason(r)) for r in batch.results]
    return "\n".join([*lines, "", *table(("check", "status", "seconds", "reason"), rows), ""])


def html(batch: Batch) -> str:
    """A page with the same table."""
    content = page(
        "batch.html.j2",
        counts=_counts(batch),
        changes=[(title, ", ".join(names)) for title, names in _changes(batch)],
        rows=[(result, reason(result)) for result in batch.results],
    )
    return content + "\n"


def _counts(batch: Batch) -> str:
    """How many checks have each status."""
    return ", ".join(f"{count} {status}" for status, count in Counter(r.status for r in batch.results).items())


def _changes(batch: Batch) -> list[tuple[str, list[str]]]:
    """What changed since the run before: a title and the names of the checks."""
    changes = (("new failures", batch.new_failures), ("fixed", batch.fixed))
    return [(title, names) for title, names in changes if names]

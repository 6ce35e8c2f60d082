"""A batch for people and machines: text, NDJSON, JUnit, Markdown and HTML, all from the same results."""

from __future__ import annotations

import json
from collections import Counter
from html import escape as html_escape
from typing import TYPE_CHECKING

from rich.markup import escape

from bnexport.reporting.markdown import table, text
from bnexport.reporting.words import encodable, plain
from bnexport.results.batched import Batch, Result

if TYPE_CHECKING:
    from rich.console import Console


_COLOUR = {"pass": "green", "fail": "red", "error": "yellow", "timeout": "yellow"}


def line(result: Result, done: int, total: int) -> str:
    """A result in one line, with rich's markup."""
    why = reason(result)
    told = f"[{done}/{total}] [{_COLOUR[result.status]}]{result.status.upper()}[/] {escape(plain(result.name))} ({result.seconds:.1f} s)"
    return told.replace(f"[{done}/{total}]", rf"\[{done}/{total}]", 1) + (f": {escape(plain(why))}" if why else "")


def reason(result: Result) -> str:
    """Why it did not pass; "" where it did."""
    if result.report is None:
        return result.error
    worst = next((f for f in result.report["findings"] if f["severity"] == "error"), None)
    return f"{worst['code']} {worst['message']}" if worst else ""


def show(batch: Batch, console: Console) -> None:
    """Prints the counts, and what changed since the run before."""
    counts = Counter(result.status for result in batch.results)
    console.print(
        ", ".join(f"{count} {status}" for status, count in counts.items()),
        f"of {len(batch.results)} checks; {len(batch.repeated)} run now",
    )
    for title, names in (("new failures", batch.new_failures), ("fixed", batch.fixed)):
        if names:
            console.print(f"{title}: {escape(plain(', '.join(names)))}", soft_wrap=True)


def record(result: Result) -> str:
    """One check as one line of JSON."""
    told = {"name": result.name, "status": result.status, "seconds": result.seconds, "reason": reason(result) or None}
    return encodable(json.dumps({**told, "report": result.report}, ensure_ascii=False, allow_nan=False))


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
    counts = Counter(result.status for result in batch.results)
    lines = ["## " + ", ".join(f"{count} {status}" for status, count in counts.items()), ""]
    lines += [
        f"- {title}: {text(', '.join(names))}"
        for title, names in (("new failures", batch.new_failures), ("fixed", batch.fixed))
        if names
    ]
    rows = [(r.name, r.status, f"{r.seconds:.1f}", reason(r)) for r in batch.results]
    return "\n".join([*lines, "", *table(("check", "status", "seconds", "reason"), rows), ""])


def html(batch: Batch) -> str:
    """A page with the same table."""
    counts = Counter(result.status for result in batch.results)
    rows = "".join(
        f'<tr class="{r.status}"><td>{_safe(r.name)}</td><td>{r.status}</td><td>{r.seconds:.1f}</td><td>{_safe(reason(r))}</td></tr>\n'
        for r in batch.results
    )
    changes = "".join(
        f"<p>{title}: {_safe(', '.join(names))}</p>"
        for title, names in (("new failures", batch.new_failures), ("fixed", batch.fixed))
        if names
    )
    return _PAGE.format(
        counts=", ".join(f"{count} {status}" for status, count in counts.items()), changes=changes, rows=rows
    )


def _safe(value: str) -> str:
    return html_escape(plain(value))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>bnexport batch</title>
<style>p {{ overflow-wrap: anywhere; }} body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1.2rem auto; max-width: 70rem; padding: 0 1rem; }} .wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }} td, th {{ text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #8884; vertical-align: top; }}
.fail td:nth-child(2) {{ color: #c8443f; }} .pass td:nth-child(2) {{ color: #2f8f55; }} .error td:nth-child(2), .timeout td:nth-child(2) {{ color: #b57b12; }}</style></head>
<body><h1>{counts}</h1>{changes}<div class="wide"><table><tr><th>check</th><th>status</th><th>seconds</th><th>reason</th></tr>
{rows}</table></div></body></html>
"""

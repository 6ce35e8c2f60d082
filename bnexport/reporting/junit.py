"""A check as JUnit XML (junitparser): a test case for each comparison, and one for each finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport, Comparison, Finding, Severity

if TYPE_CHECKING:
    from junitparser import TestCase


def check(report: CheckReport) -> str:
    """The XML. Findings that are errors are failures; warnings and the rest pass and say what they have to say."""
    from junitparser import JUnitXml, TestSuite

    suite = TestSuite(plain(report.bundle.path if report.bundle else report.model.path))
    seconds = {side.id: side.seconds for side in report.sides}
    others = {release.run for release in report.releases.releases if not release.judged} if report.releases else set()
    for comparison in report.comparisons:
        case = _comparison_case(comparison, seconds.pop(comparison.actual, 0.0), judged=comparison.actual not in others)
        suite.add_testcase(case)
    for finding in report.findings:
        suite.add_testcase(_finding_case(finding))
    for name, value in report.environment.items():
        suite.add_property(plain(str(name)), plain(str(value)))
    document = JUnitXml("bnexport")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call] # junitparser types only part of itself
    text: bytes = document.tostring()  # type: ignore[no-untyped-call] # as above
    return '<?xml version="1.0" encoding="utf-8"?>\n' + text.decode()


def _comparison_case(comparison: Comparison, seconds: float, *, judged: bool) -> TestCase:
    """A comparison; one on which the verdict does not depend passes, and says what it has to say."""
    from junitparser import Failure, TestCase

    name = plain(f"{comparison.tensor} against {comparison.reference}")
    case = TestCase(name, f"bnexport.{plain(comparison.actual)}", seconds)
    if not comparison and judged:
        case.result = [Failure(plain(comparison.reason), "comparison")]
    elif not comparison:
        case.system_out = plain(comparison.reason)
    return case


def _finding_case(finding: Finding) -> TestCase:
    from junitparser import Failure, TestCase

    case = TestCase(plain(finding.code), "bnexport.findings")
    text = "\n".join([plain(finding.message), *(f"-> {plain(step)}" for step in finding.fix)])
    if finding.severity == Severity.ERROR:
        failure = Failure(plain(finding.message), plain(finding.code))
        failure.text = text
        case.result = [failure]
    else:
        case.system_out = f"{finding.severity}: {text}"
    return case

"""A rule: a finding's code with its message and explanation, next to the function that raises it."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bnexport.results.actions import Action
from bnexport.results.verdict import Finding, Severity


class _Numbers(string.Formatter):
    """`str.format` that knows `{LIMIT:share}`, a share in percent."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return f"{100 * value:g} %" if format_spec == "share" else str(super().format_field(value, format_spec))


@dataclass(frozen=True, slots=True)
class Rule:
    """What raises the findings of one code.

    The four paragraphs name thresholds as `{NAME}`, `{NAME:g}` or `{NAME:share}`, so that an explanation cannot state another
    number than the one by which a finding is raised.

    Args:
        code: the stable code, such as "BN005".
        title: its name.
        meaning: what a finding with this code means.
        measured: how it is measured.
        remedy: what to do.
        neighbours: how to tell it from other codes; "" where it has no neighbours.
        thresholds: the constants that decide, by their names in the module of the rule.
    """

    code: str
    title: str
    meaning: str
    measured: str
    remedy: str
    neighbours: str = ""
    thresholds: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paragraphs(self) -> Iterator[tuple[str, str]]:
        """Heading and text of each paragraph of the explanation, thresholds filled in.

        >>> rule = Rule("XX001", "far away", "It is far away.", "Raised above {FAR:share}.", "Move it.", thresholds={"FAR": 0.1})
        >>> dict(rule.paragraphs)["how it is measured"]
        'Raised above 10 %.'
        """
        for heading, text in (
            ("what it means", self.meaning),
            ("how it is measured", self.measured),
            ("its neighbours", self.neighbours or "-"),
            ("what to do", self.remedy),
        ):
            yield heading, _Numbers().vformat(text, (), self.thresholds)

    def finding(
        self,
        severity: Severity,
        message: str,
        evidence: Mapping[str, object],
        actions: Sequence[Action] = (),
        layers: Sequence[str] = (),
    ) -> Finding:
        """A finding with this code."""
        return Finding(self.code, severity, message, evidence, tuple(actions), tuple(layers))


_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def sort_findings(findings: Iterable[Finding | None]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then the rest; otherwise as they came. A rule that raised nothing gave None."""
    return tuple(
        sorted((finding for finding in findings if finding is not None), key=lambda finding: _ORDER[finding.severity])
    )

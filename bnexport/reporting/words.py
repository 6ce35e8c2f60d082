"""Text that may be printed anywhere: what a file name or a model brings along cannot act on a terminal or a page."""

from __future__ import annotations

import re

from bnexport.results.runs import RECORDED
from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport, Comparison

_SURROGATE = re.compile("[\ud800-\udfff]")

_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON may hold as it is, and terminals and readers of lines act on: C1 controls, line ends, directions of text."""


_REDUCED = ("QT001", "RT003")
"""The findings that say what reduced precision costs."""


def encodable(text: str) -> str:
    r"""JSON text in which characters that nobody sees are escapes, which parsers read as these characters.

    Lone surrogates, which stand for bytes of a name that is not UTF-8 and which no parser has to accept, become the
    text of an escape.

    >>> encodable('"' + chr(0xDCFF) + '.png"'), encodable('"' + chr(0x9B) + '"')
    ('"\\\\udcff.png"', '"\\u009b"')
    """
    seen = _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return _SURROGATE.sub(lambda match: f"\\\\u{ord(match[0]):04x}", seen)


def verdict(report: CheckReport) -> str:
    """The verdict in one sentence."""
    what = report.bundle.path if report.bundle else report.model.path
    if not report:
        return f"FAIL {plain(what)}"
    return f"PASS {plain(what)}: {_pass_sentence(report)}"


def _pass_sentence(report: CheckReport) -> str:
    if report.releases and report.bundle:
        judged = ", ".join(release.version for release in report.releases.releases if release.judged)
        return f"the outputs of {plain(report.releases.package)} {plain(judged)} agree with those of {plain(report.bundle.reference)} that are stored in the bundle"
    if report.bundle:
        outputs = "the outputs on this machine"
        if any(side.runtime == RECORDED for side in report.sides):
            outputs += ", and those that were recorded,"
        return f"{outputs} agree with those of {plain(report.bundle.reference)} on the machine that packed the bundle{_precision_cost(report)}"
    several = len({side.runtime for side in report.sides} | {side.provider for side in report.sides}) > 2
    same = "all runs agree; there is no other runtime to compare with"
    if report.deployed and report.model.format == "onnx":
        same = f"{plain(report.deployed)} computes the same outputs"
    elif several:
        same = "all runtimes compute the same outputs"
    same += _precision_cost(report)
    modes_differ = any(finding.code == "BN005" for finding in report.findings)
    return f"{same}; training mode differs from inference mode (BN005)" if modes_differ else same


def _precision_cost(report: CheckReport) -> str:
    """What outputs are equal up to; "" where they are equal within rounding."""
    codes = {finding.code for finding in report.findings}
    reduced = [code for code in _REDUCED if code in codes]
    return f" up to what reduced precision costs ({', '.join(reduced)})" if reduced else ""


def floors(comparison: Comparison) -> str:
    """The error in noise floors, "" where none is known."""
    count = comparison.noise_floors
    return "" if count is None else f"{count:.2g}" if count < 100 else f"{count:,.0f}"


def in_task_terms(report: CheckReport, *, failed: bool = False) -> list[str]:
    """What the differences mean for outputs that are more than numbers: all figures where a comparison failed, otherwise the first one.

    Args:
        report: the report.
        failed: only those of comparisons that failed.
    """
    return [
        f"{plain(c.tensor)} ({c.task.kind}) of {plain(c.actual)}: {plain(c.task.brief if c else c.task.described)}"
        for c in report.comparisons
        if c.task is not None and not (failed and c)
    ]


def class_name(report: CheckReport, index: int) -> str:
    """The name of a class; its number where it has none."""
    if index < 0:
        return "none"
    classes = report.images.classes
    return plain(classes[index]) if index < len(classes) else str(index)


def preparation(report: CheckReport) -> str:
    """How the images were prepared, and where that was learned; "" for arrays."""
    p = report.preprocessing
    if not p:
        return ""
    fit = f" ({p['fit']})" if p.get("fit", "stretch") != "stretch" else ""
    order = f", {p['order']}" if p.get("order", "rgb") != "rgb" else ""
    return f"{p['size'][0]}x{p['size'][1]}x{p['channels']}{fit}{order}, {p['resize']}, scaling {p['scaling']} ({report.preprocessing_origin})"


def facts(report: CheckReport) -> list[str]:
    """What was checked on what, and by which rule: a line each."""
    frozen = f" ({report.model.frozen} frozen)" if report.model.frozen else ""
    parts = [
        f"signed with {report.bundle.signer}" if report.bundle and report.bundle.signer else "",
        report.images.noun.with_count(report.images.count),
        preparation(report),
        f"{report.model.layers} BatchNormalization layers{frozen}",
    ]
    return [plain(line) for line in ("; ".join(part for part in parts if part), report.tolerance) if line]


def footer(report: CheckReport) -> str:
    """The facts in one line, and what the figures are relative to."""
    checked, *rule = facts(report)
    return "; ".join((checked, "max rel is relative to the largest value of the reference", *rule))


def cut(text: str, width: int | None) -> str:
    """A sentence in so many characters: it ends behind a part of it, or else behind a word; None for as many as it has.

    >>> cut("the logits differ by 0.98 of their scale; 1 of 3 is correct", 50)
    'the logits differ by 0.98 of their scale ...'
    >>> cut("the logits differ by 0.98 of their scale", 24)
    'the logits differ by ...'
    """
    if width is None or len(text) <= width:
        return text
    beginning = text[: max(width - 4, 1)]
    ends = [match.start() for match in _BREAK.finditer(text) if match.start() <= len(beginning)]
    if ends and ends[-1] > len(beginning) * _SENSIBLE:
        return f"{text[: ends[-1]]} ..."
    words = beginning.rpartition(" ")[0] if not text[len(beginning)].isspace() else beginning
    return f"{words or beginning} ..."


_BREAK = re.compile(r"[;:,](?= )| (?=\()")
"""Where a part of a sentence ends."""

_SENSIBLE = 2 / 3
"""A part of a sentence that is shorter than this share of the line leaves too much of it empty."""

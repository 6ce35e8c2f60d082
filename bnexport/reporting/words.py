"""Text that may be printed anywhere: what a file name or a model brings along cannot act on a terminal or a page."""

from __future__ import annotations

import re

from bnexport.results.runs import RECORDED
from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport, Comparison

_SURROGATE = re.compile("[\ud800-\udfff]")

_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON may hold as it is, and terminals and readers of lines act on: C1 controls, line ends, directions of text."""


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
        return f"{outputs} agree with those of {plain(report.bundle.reference)} on the machine that packed the bundle"
    several = len({side.runtime for side in report.sides} | {side.provider for side in report.sides}) > 2
    same = "all runs agree; there is no other runtime to compare with"
    if report.deployed and report.model.format == "onnx":
        same = f"{plain(report.deployed)} computes the same outputs"
    elif several:
        same = "all runtimes compute the same outputs"
    differ = any(finding.code == "BN005" for finding in report.findings)
    return f"{same}; training mode differs from inference mode (BN005)" if differ else same


def floors(comparison: Comparison) -> str:
    """The error in noise floors, "" where none is known."""
    count = comparison.noise_floors
    return "" if count is None else f"{count:.2g}" if count < 100 else f"{count:,.0f}"


def in_task_terms(report: CheckReport) -> list[str]:
    """What the differences mean for outputs that are more than numbers: all figures where a comparison failed, otherwise the first one."""
    return [
        f"{plain(c.tensor)} ({c.task.kind}) of {plain(c.actual)}: {plain(c.task.brief if c else c.task.described)}"
        for c in report.comparisons
        if c.task is not None
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


def footer(report: CheckReport) -> str:
    """What was checked on what, and by which rule."""
    frozen = f" ({report.model.frozen} frozen)" if report.model.frozen else ""
    parts = [
        f"signed with {report.bundle.signer}" if report.bundle and report.bundle.signer else "",
        f"{report.images.count} {report.images.noun.many}",
        preparation(report),
        f"{report.model.layers} BatchNormalization layers{frozen}",
        "max rel is relative to the largest value of the reference",
        report.tolerance,
    ]
    return plain("; ".join(part for part in parts if part))

"""A recalibration as text: what was written or refused, what that does to the answers, and what the images and the old statistics show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bnexport.results.outcomes import Recalibration
from bnexport.results.text import plain
from bnexport.results.verdict import Finding
from bnexport.rules.diagnose import STATISTICS_WRONG


def lines(recalibration: Recalibration, output: Path, *, verbose: bool = False) -> Iterator[str]:
    """The lines of the text.

    Args:
        recalibration: what came of it.
        output: the file that was to be written.
        verbose: everything, which is also what to do about each finding.
    """
    return (plain(line) for line in _lines(recalibration, output, verbose=verbose))


def _lines(recalibration: Recalibration, output: Path, *, verbose: bool) -> Iterator[str]:
    if recalibration.refused:
        yield f"REFUSED: {output} was not written"
        yield recalibration.refused
        yield "  -> check the preprocessing and run bnexport check, or write the model anyway with --force"
    else:
        yield (
            f"{recalibration.written}: {recalibration.sites} BatchNormalization nodes recalibrated from "
            f"{recalibration.images} images in {recalibration.stages} stages"
        )
    if recalibration.folded:
        yield f"{recalibration.folded} nodes folded"
    residual = recalibration.residual
    yield f"largest residual: {residual.largest:.1e} standard deviations ({residual.site or 'all nodes'})"
    before, after = recalibration.before, recalibration.after
    if before.correct is not None:
        yield f"correct before: {before.correct} of {before.of}, after: {after.correct} of {after.of}"
    elif before.answers:
        same = sum(a == b for a, b in zip(before.answers, after.answers, strict=True))
        yield f"{same} of {len(after.answers)} images keep their class (no labels available)"
    for finding in recalibration.findings:
        if not recalibration.refused or finding.message not in recalibration.refused:
            about_old = recalibration.written and finding.code in STATISTICS_WRONG
            yield f"{'before: ' if about_old else ''}{finding.code} {finding.message}"
            if verbose:
                yield from _list_actions(finding)
    if recalibration.written and not recalibration.folded:
        yield f"next: bnexport check {recalibration.written} IMAGES"


def _list_actions(finding: Finding) -> Iterator[str]:
    for action in finding.actions:
        yield f"  -> {action.command or action.reason}"
        if action.command:
            yield f"     {action.reason}"

"""A check as lines of JSON, for scripts that read a line at a time: each has a `kind`; the fields are those of the whole report (`json`)."""

from __future__ import annotations

from collections.abc import Iterator

from bnexport.reporting import json
from bnexport.results.verdict import CheckReport

_ENTRIES = {
    "sides": "side",
    "comparisons": "comparison",
    "layers": "layer",
    "sweep": "case",
    "speed": "speed",
    "findings": "finding",
}


def check(report: CheckReport) -> Iterator[str]:
    """The report: a line for each image, side, comparison, layer, case of a sweep, speed and finding, and at last one with the verdict and everything else."""
    return (json.line(values) for values in _lines(report))


def _lines(report: CheckReport) -> Iterator[dict[str, object]]:
    sides = [side for side in report.sides if side.answers]
    for nth, (name, label) in enumerate(zip(report.images.names, report.images.labels, strict=True)):
        yield {
            "kind": "image",
            "name": name,
            "label": label if label >= 0 else None,
            "answers": {side.id: side.answers[nth] if side.answers[nth] >= 0 else None for side in sides},
            "confidence": {side.id: side.confidence[nth] for side in sides if side.confidence},
        }
    whole = json.check(report)
    for key, kind in _ENTRIES.items():
        yield from ({"kind": kind, **entry} for entry in whole.pop(key))
    yield {"kind": "check", **whole}

"""A check as JSON, by the schema beside this file (check.schema.json). Fields are only ever added.

The text is written by the standard library: msgspec refuses lone surrogates (names that are not UTF-8) and NumPy's
floats. The schema is a file by hand: it is what is promised, and reports are held against it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bnexport.reporting.words import encodable
from bnexport.results.drift import Drift
from bnexport.results.outcomes import Folding, Recalibration
from bnexport.results.releases import ReleaseMatrix
from bnexport.results.verdict import BundleFacts, CheckReport, Comparison, Finding, Side

SCHEMA_VERSION = "1.0"
SCHEMA = Path(__file__).with_name("check.schema.json")


def dumps(values: Mapping[str, object]) -> str:
    """`values` as JSON text; NaN and infinities become null, which no comparison can mistake for a number."""
    return encodable(json.dumps(_plain(values), ensure_ascii=False, indent=2, allow_nan=False))


def line(values: Mapping[str, object]) -> str:
    """The same in one line."""
    return encodable(json.dumps(_plain(values), ensure_ascii=False, allow_nan=False))


def check(report: CheckReport) -> dict[str, Any]:
    """The report as plain values."""
    facts, images = report.model, report.images
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "bnexport", "version": report.environment.get("bnexport", "")},
        "verdict": "pass" if report else "fail",
        "model": {
            "path": facts.path,
            "sha256": facts.sha256,
            "format": facts.format,
            "parameters": facts.parameters,
            "batch_normalization": {"layers": facts.layers, "frozen": facts.frozen},
        },
        "images": {
            "source": images.source,
            "count": images.count,
            "unreadable": [{"file": name, "reason": reason} for name, reason in images.unreadable],
            "classes": list(images.classes),
        },
        "preprocessing": {**report.preprocessing, "origin": report.preprocessing_origin}
        if report.preprocessing
        else None,
        "sides": [_side(side) for side in report.sides],
        "comparisons": [_comparison(comparison) for comparison in report.comparisons],
        "findings": [_finding(finding) for finding in report.findings],
        "tolerance": report.tolerance,
        "deployed": report.deployed or None,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "inputs": list(layer.inputs),
                "tensor": layer.tensor or None,
                "max_rel": layer.max_rel,
                "noise_floor": layer.noise_floor,
                "expected": layer.expected,
                "off": layer.off,
                "problem": layer.problem or None,
                "matched": layer.matched or None,
                "reordered": layer.reordered or None,
            }
            for layer in report.layers
        ],
        "speed": [{**asdict(speed), "items_per_second": speed.per_second} for speed in report.speed],
        "sweep": [{**asdict(case), "outcome": str(case.outcome)} for case in report.sweep],
        "releases": _releases(report.releases) if report.releases else None,
        "drift": _drift(report.drift) if report.drift else None,
        "environment": dict(report.environment),
        **(_bundle(report.bundle) if report.bundle else {}),
    }


def _releases(matrix: ReleaseMatrix) -> dict[str, object]:
    return {
        "package": matrix.package,
        "wanted": matrix.wanted,
        "runtime": matrix.runtime,
        "runs": len(matrix.ran),
        "described": matrix.described,
        "note": matrix.note or None,
        "changes": [{"before": before, "after": after} for before, after in matrix.changes],
        "releases": [
            {
                **asdict(release),
                "outcome": str(release.outcome),
                **{name: getattr(release, name) or None for name in ("run", "answer", "reason", "python")},
            }
            for release in matrix.releases
        ],
    }


def _drift(drift: Drift) -> dict[str, object]:
    return {
        "initial_weight": drift.fit.initial_weight,
        "r_squared": drift.fit.r_squared,
        "estimated_updates": drift.fit.updates,
        "sites": [asdict(site) for site in drift.sites],
    }


def _bundle(facts: BundleFacts) -> dict[str, object]:
    return {
        "files_checked": facts.files,
        "bundle": {
            "path": facts.path,
            "reference": facts.reference,
            "tool": facts.tool,
            "environment": facts.environment,
            "known": [_finding(finding) for finding in facts.known],
            "signer": facts.signer or None,
        },
    }


def packing(path: Path, samples: int, sets: int, size: int, refused: str, report: CheckReport) -> dict[str, object]:
    """What became of a packing as plain values, the check that was made first among them."""
    return {
        "schema_version": SCHEMA_VERSION,
        "written": None if refused else str(path),
        "refused": refused or None,
        "samples": samples,
        "data_sets": sets,
        "bytes": size,
        "check": check(report),
    }


def reduction(
    path: Path, finding: Finding, nodes: Sequence[str], error: float, report: CheckReport, *, random_weights: bool
) -> dict[str, object]:
    """What became of a reduction as plain values, the check that was made first among them."""
    return {
        "schema_version": SCHEMA_VERSION,
        "written": str(path),
        "finding": _finding(finding),
        "nodes": list(nodes),
        "max_rel": error,
        "random_weights": random_weights,
        "check": check(report),
    }


def recalibration(result: Recalibration) -> dict[str, object]:
    """The result of a recalibration as plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "images": result.images,
        "stages": result.stages,
        "sites": result.sites,
        "residual": result.residual.largest,
        "residual_mean": result.residual.mean,
        "residual_log_std": result.residual.log_std,
        "scratch_bytes": result.scratch_bytes,
        "before": {"top1": _top1(result.before)},
        "after": {"top1": _top1(result.after)},
        "findings": [_finding(finding) for finding in result.findings],
        "written": None if result.written is None else str(result.written),
        "refused": result.refused or None,
        "folded": result.folded,
    }


def folding(result: Folding) -> dict[str, object]:
    """The result of a fold as plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "folded": [{"node": name, "into": into, "how": how} for name, into, how in result.folded],
        "refused": [{"node": name, "reason": reason} for name, reason in result.refused],
        "max_rel": result.max_rel,
        "tolerance": result.tolerance,
        "written": None if result.written is None else str(result.written),
    }


def _top1(side: Side) -> dict[str, int] | None:
    return None if side.correct is None else {"correct": side.correct, "of": side.of}


def _side(side: Side) -> dict[str, object]:
    return {
        "id": side.id,
        "runtime": side.runtime,
        "mode": side.mode,
        "provider": side.provider,
        "top1": _top1(side),
        "seconds": side.seconds,
        "precision": side.precision,
    }


def _comparison(comparison: Comparison) -> dict[str, object]:
    values = asdict(comparison)
    difference = values.pop("difference")
    if comparison.task is not None:
        values["task"]["sentence"] = comparison.task.described
    return {**values, "noise_floors": comparison.noise_floors, **difference}


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "severity": str(finding.severity),
        "message": finding.message,
        "layers": list(finding.layers),
        "evidence": dict(finding.evidence),
        "fix": list(finding.fix),
        "actions": [action.as_dict() for action in finding.actions],
    }


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)

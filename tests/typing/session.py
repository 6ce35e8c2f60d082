"""A Python session as a type checker sees it: mypy reads this file, nobody runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np

import bnexport


def session() -> None:
    """What is written in a session."""
    report = bnexport.check("model.keras", "images")
    assert_type(report, bnexport.CheckReport)
    assert_type(report.findings, tuple[bnexport.Finding, ...])
    assert_type(report.findings[0].severity, bnexport.Severity)
    assert_type(report.findings[0].actions, tuple[bnexport.Action, ...])
    assert_type(report.comparisons[0].difference, bnexport.Difference)
    assert_type(report.sides[0], bnexport.Side)
    assert_type(bool(report), bool)

    bnexport.check(Path("model.onnx"), np.zeros((2, 8, 8, 1)), targets=["onnx-reference"])
    bnexport.check("model.onnx", {"a": np.zeros((2, 3)), "labels": np.zeros(2, np.int64)})
    bnexport.check("model.onnx", [(np.zeros((2, 3)), np.zeros(2))], nothing=None)  # type: ignore[call-arg]
    bnexport.check("model.onnx", "images", deployed="other.onnx", reference={"y": np.zeros((2, 3))})
    bnexport.check(3, "images")  # type: ignore[arg-type]

    assert_type(bnexport.verify("bundle"), bnexport.CheckReport)
    assert_type(bnexport.export("model.keras", "model.onnx"), bnexport.Export)
    assert_type(bnexport.fold("a.onnx", Path("b.onnx")), bnexport.Folding)
    assert_type(bnexport.recalibrate("model.keras", "images", "new.onnx"), bnexport.Recalibration)
    assert_type(bnexport.train("images", "model.keras"), bnexport.Training)
    assert_type(bnexport.iter_checks("plan.toml"), Iterator[bnexport.Result])
    assert_type(bnexport.doctor(), bnexport.Health)

"""Detectors and other graphs whose number of rows depends on the data: rows are matched, and rounding is told from a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnexport import check, pack, verify
from bnexport.comparison.opening import Request
from bnexport.results.verdict import CheckReport
from bnexport.runtimes import ort_session
from tests.e2e import quantised_nets

RNG = np.random.default_rng(0)
ANCHORS = 48

HEAD = """c = Conv<kernel_shape = [1, 1]>(x, w, b)  {norm}  flat = Reshape(n, cells)
    logits, corner, size = Split<axis = 1>(flat, parts)  {scores}
    wide = Exp(size)  far = Add(corner, wide)  columns = Concat<axis = 1>(corner, far)
    boxes = Transpose<perm = [0, 2, 1]>(columns)  chosen = NonMaxSuppression(boxes, scores, most, overlap, threshold)
    where = Gather<axis = 1>(chosen, image_and_box)  {decode}  sure_all = GatherND(scores, chosen)  {order}"""
PARTS = {
    "norm": "n = Identity(c)",
    "scores": "scores = Sigmoid(logits)",
    "decode": "kept_all = GatherND(boxes, where)",
    "order": "kept = Identity(kept_all)  sure = Identity(sure_all)",
}
OUTPUTS = {
    "kept": "float[K, 4] kept",
    "sure": "float[K] sure",
    "chosen": "int64[K, 3] chosen",
    "columns": "float[N, 4, 48] columns",
}


def weights(threshold: float = 0.6) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "w": rng.normal(0, 1, (6, 4, 1, 1)).astype(np.float32),
        "b": rng.normal(0, 1, 6).astype(np.float32),
        "cells": np.int64([0, 6, ANCHORS]),
        "parts": np.int64([2, 2, 2]),
        "image_and_box": np.int64([0, 2]),
        "most": np.int64([20]),
        "overlap": np.float32([0.5]),
        "threshold": np.float32([threshold]),
        "minus": np.int64([-1]),
        "end": np.int64([-(2**62)]),
        "zeroth": np.int64([0]),
        "little": np.float32(0.01),
        "ones": np.float32(np.ones((1, 6, 1, 1))),
    }


def detector(
    outputs: tuple[str, ...] = ("kept", "sure"), changes: dict[str, Any] | None = None, **parts: str
) -> onnx.ModelProto:
    """A detector of a convolution, decoding and NonMaxSuppression."""
    text = f"g (float[N, 4, 6, 8] x) => ({', '.join(OUTPUTS[o] for o in outputs)}) {{ {HEAD.format(**PARTS | parts)} }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    for name, value in {**weights(), **(changes or {})}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


BACKWARDS = "kept = Slice(kept_all, minus, end, zeroth, minus)  sure = Slice(sure_all, minus, end, zeroth, minus)"
X = RNG.normal(0, 1, (6, 4, 6, 8)).astype(np.float32)


def checked(
    folder: Path, model: onnx.ModelProto, other: onnx.ModelProto | None = None, x: Any = X, **options: Any
) -> CheckReport:
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    np.savez(folder / "data.npz", x=x)
    if other is not None:
        (folder / "other.onnx").write_bytes(other.SerializeToString())
        options["deployed"] = folder / "other.onnx"
    return check(folder / "net.onnx", inputs=folder / "data.npz", providers=["cpu"], **options)


def codes(report: CheckReport) -> list[str]:
    return [finding.code for finding in report.findings]


@pytest.mark.parametrize("outputs", [("kept", "sure"), ("chosen",), ("kept",), ("chosen", "kept", "sure", "columns")])
def test_a_detector_passes(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    """V2: nothing is wrong with a NonMaxSuppression head, whatever it gives out; each image has its own rows."""
    report = checked(tmp_path, detector(outputs))
    assert report, str(report)
    assert not {"BN006", "RT008"} & set(codes(report))
    alone = {c.tensor for c in report.comparisons if "one by one" in c.reference}
    assert alone >= {*outputs, "scores"}
    assert all(c.difference.images for c in report.comparisons)


def test_another_order_passes(tmp_path: Path) -> None:
    """The rows of a file in the opposite order are the same rows, also where nothing but the rows themselves shows it."""
    for outputs in (("kept", "sure"), ("kept",)):
        report = checked(tmp_path, detector(outputs), detector(outputs, order=BACKWARDS))
        assert report, str(report)
        assert "RT008" not in codes(report)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("decode", "kept_off = GatherND(boxes, where)  kept_all = Mul(kept_off, growth)"),  # behind the selection
        ("decode", "kept_off = GatherND(boxes, where)  kept_all = Add(kept_off, far_off)"),
        ("scores", "weak = Sigmoid(logits)  scores = Mul(weak, nearly)"),  # before it
    ],
)
def test_a_wrong_decode_fails_by_name(tmp_path: Path, part: str, text: str) -> None:
    """Boxes that are off by a thousandth, or lie elsewhere, and scores that are off, are differences, not another selection."""
    changes = {"growth": np.float32(1.001), "far_off": np.float32(100), "nearly": np.float32(0.999)}
    report = checked(tmp_path, detector(changes=changes), detector(changes=changes, **{part: text}))
    assert not report
    assert "RT008" not in codes(report)[:1]
    failed = {c.tensor for c in report.comparisons if not c}
    assert failed & ({"kept"} if part == "decode" else {"sure", "scores"}), str(report)


def threshold_between(first: onnx.ModelProto, second: onnx.ModelProto) -> np.ndarray:
    """A threshold at which the first of two graphs selects one box more, because it computes one score a little larger."""
    x, scores, rows = {"x": X}, [], []
    for model in (first, second):
        whole = onnx.ModelProto()
        whole.CopyFrom(model)
        whole.graph.output.append(onnx.ValueInfoProto(name="scores"))
        scores.append(
            ort_session.Session(whole.SerializeToString(), optimized=False).run(x, ["scores"])["scores"].ravel()
        )
    for low in scores[1][(scores[0] > scores[1]) & (scores[0] > 0.55)]:
        rows = []
        for model in (first, second):
            moved = onnx.ModelProto()
            moved.CopyFrom(model)
            [stored] = [tensor for tensor in moved.graph.initializer if tensor.name == "threshold"]
            stored.CopyFrom(numpy_helper.from_array(np.float32([low]), "threshold"))
            rows.append(len(ort_session.Session(moved.SerializeToString(), optimized=False).run(x, ["sure"])["sure"]))
        if rows[0] == rows[1] + 1:
            return np.float32([low])
    raise AssertionError("no score is computed in two ways")


OTHER_SIGMOID = "minus_l = Neg(logits)  e = Exp(minus_l)  d = Add(e, one_f)  scores = Reciprocal(d)"


def test_a_score_at_the_threshold_is_a_warning(tmp_path: Path) -> None:
    """One detection that rounding moves across the threshold is RT008, with counts; the check passes."""
    one = {"one_f": np.float32(1)}
    low = threshold_between(detector(changes=one), detector(changes=one, scores=OTHER_SIGMOID))
    changes = {"threshold": low, **one}
    report = checked(tmp_path, detector(changes=changes), detector(changes=changes, scores=OTHER_SIGMOID))
    assert report, str(report)
    [finding] = [f for f in report.findings if f.code == "RT008"]
    [rows] = finding.evidence["outputs"]
    assert finding.severity == "warning"
    assert rows["reference_rows"] == rows["rows"] + 1
    assert rows["explained"]
    assert rows["sources_agree"]
    assert "the reference's selection chooses the same" in finding.message


@pytest.mark.parametrize(
    "edit", [{"threshold": np.float32([0.9])}, {"overlap": np.float32([0.1])}, {"most": np.int64([3])}]
)
def test_another_selection_is_no_rounding(tmp_path: Path, edit: dict[str, Any]) -> None:
    """A file with another threshold, overlap or number of boxes selects other rows from the same scores: the check fails and says so."""
    report = checked(tmp_path, detector(), detector(changes=edit))
    assert not report
    assert "the selection differs" in str(report)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_a_file_of_a_fixed_batch_size_is_held_against_all_images(tmp_path: Path, size: int) -> None:
    """A detector that was exported for a number of images gives the rows of each image in turn, and none of those that fill up a batch."""
    fixed = detector()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    report = checked(tmp_path, detector(), fixed)
    assert report, str(report)


NONZERO = "g (float[N, 3] x) => (int64[2, K] y) { h = Sigmoid(x)  b = Greater(h, half)  {} }"


def test_nonzero_rows_are_matched(tmp_path: Path) -> None:
    """V2: a NonZero head passes, in any order too; indices that are off by one fail, however many exist on both sides."""

    def model(tail: str) -> onnx.ModelProto:
        made = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {NONZERO.replace("{} }", tail + " }")}')
        values = {
            "half": np.float32(0.05),
            "minus": np.int64([-1]),
            "end": np.int64([-(2**62)]),
            "one": np.int64([1]),
            "up": np.int64([[1], [0]]),
        }
        for name, value in values.items():
            made.graph.initializer.append(numpy_helper.from_array(value, name))
        return made

    x = RNG.normal(size=(12, 3)).astype(np.float32)
    plain = model("y = NonZero(b)")
    assert checked(tmp_path, plain, x=x)
    assert checked(tmp_path, plain, model("z = NonZero(b)  y = Slice(z, minus, end, one, minus)"), x=x)
    report = checked(tmp_path, plain, model("z = NonZero(b)  y = Add(z, up)"), x=x)
    assert not report
    assert "have no partner" in str(report)


def test_nothing_selected_at_all(tmp_path: Path) -> None:
    """No box on either side passes by what it is selected from; all boxes on one side fail."""
    none = {"threshold": np.float32([2.0])}
    report = checked(tmp_path, detector(changes=none))
    assert report, str(report)
    assert {"scores", "boxes"} <= {c.tensor for c in report.comparisons}
    assert not checked(tmp_path, detector(changes=none), detector())


WEAKER = "strong = Sigmoid(logits)  scores = Mul(strong, factor)"


@pytest.mark.parametrize(
    ("outputs", "threshold", "factor", "words"),
    [
        (("kept",), 0.6, 0.7, "172 of 290 rows have no partner"),  # what is selected is right, and much is not
        (("kept", "sure"), 0.6, 0.1, "231 of 231 rows have no partner"),
        (("kept", "sure"), 2.0, 0.5, "neither run selects a row"),
        (("kept", "sure"), 2.0, float("nan"), "values are not finite"),
    ],
)
def test_broken_scores_fail_whatever_is_selected(
    outputs: tuple[str, ...], threshold: float, factor: float, words: str, tmp_path: Path
) -> None:
    """Fewer rows, none on one side and none on both: no rounding and no error of usage, also where the same is selected from these scores."""
    changes = {"threshold": np.float32([threshold]), "factor": np.float32(factor)}
    report = checked(tmp_path, detector(outputs, changes), detector(outputs, changes, scores=WEAKER))
    assert not report
    first = report.findings[0]
    assert first.code == "EX001", str(report)
    assert words in first.message
    assert first.evidence["first_layer"] == "scores"
    assert "RT008" not in codes(report)


def test_a_detector_that_normalises_by_the_batch_is_found(tmp_path: Path) -> None:
    """BN006 where the rows of an image depend on the others; its boxes tell it too."""
    by_batch = "m = ReduceMean<keepdims = 1>(c, first)  n = Sub(c, m)"
    model = detector(changes={"first": np.int64([0])}, norm=by_batch)
    report = checked(tmp_path, model)
    assert not report
    [finding] = [f for f in report.findings if f.code == "BN006"]
    assert finding.evidence["normalises_by_batch"]
    failed = {c.tensor for c in report.comparisons if "one by one" in c.reference and not c}
    assert "kept" in failed or "sure" in failed or "scores" in failed


def test_a_bundle_of_a_detector_is_verified(tmp_path: Path) -> None:
    """What rows are selected from is packed too, and the rows are matched."""
    checked(tmp_path, detector())
    packing = pack(Request(tmp_path / "net.onnx", inputs=tmp_path / "data.npz"), tmp_path / "bundle", samples=4)
    assert packing, packing.refused
    report = verify(tmp_path / "bundle", providers=["cpu"])
    assert report, str(report)
    assert {"kept", "sure", "scores", "boxes"} <= {c.tensor for c in report.comparisons}


@pytest.mark.parametrize(("how", "code"), [("half_io", "RT003"), ("good", "QT001")])
def test_a_detector_at_reduced_precision_is_told_in_boxes(tmp_path: Path, how: str, code: str) -> None:
    """A detector in float16 or int8 is judged by its boxes; another selection there is an information."""
    folder = quantised_nets.save(tmp_path / "net", detector(), X)
    report = check(
        folder / "net.onnx",
        inputs=folder / "data.npz",
        deployed=quantised_nets.quantise(folder, how),
        providers=["cpu"],
    )
    [finding] = [f for f in report.findings if f.code == code]
    assert "boxes match one of the" in finding.message
    assert all(f.severity != "warning" for f in report.findings if f.code == "RT008")
    assert report or how == "good", str(report)

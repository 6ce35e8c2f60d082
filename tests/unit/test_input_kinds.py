"""Inputs that are not float32 pictures: text, other layouts, tables of scores; and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnexport import check, fold, pack, recalibrate, verify
from bnexport.comparison.opening import Request
from bnexport.datasets.arrays.fit import class_numbers, fit_arrays
from bnexport.errors import InputError
from bnexport.onnx_graph import protobuf
from bnexport.results.verdict import CheckReport
from bnexport.runtimes.outputs import as_array

RNG = np.random.default_rng(0)

WORDS = """g (string[N, 4] words) => (float[N, 3] scores, string[N, 4] again) {
    ids = ai.onnx.ml.LabelEncoder<keys_strings = ["a", "b", "c"], values_int64s = [1, 2, 3], default_int64 = 0>(words)
    x = Gather(table, ids)  c = Transpose<perm = [0, 2, 1]>(x)
    n = BatchNormalization(c, gamma, beta, mean, var)  scores = ReduceMean<axes = [2], keepdims = 0>(n)
    again = ai.onnx.ml.LabelEncoder<keys_int64s = [1, 2, 3], values_strings = ["alpha", "b", "c"]>(ids) }"""


def graph(text: str, **weights: Any) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17, "ai.onnx.ml" : 3]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    return model


def words() -> onnx.ModelProto:
    ones = np.ones(3, np.float32)
    table = np.float32([[0, 0, 0], [1, 2, 0], [0, 1, 1], [2, 0, 1]])
    return graph(WORDS, table=table, gamma=ones, beta=0 * ones, mean=0 * ones, var=ones)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def codes(report: CheckReport) -> dict[str, Any]:
    return {finding.code: finding for finding in report.findings}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    np.savez(tmp_path / "text.npz", words=RNG.choice(["a", "b", "c", "épée"], (40, 4)), labels=np.arange(40) % 3)
    return tmp_path / "text.npz"


def test_text_is_checked_packed_and_verified(tmp_path: Path, text: Path) -> None:
    """V7: strings run through a check, a bundle, its verification and a recalibration."""
    model = saved(tmp_path, words())
    report = check(model, inputs=text, providers=["cpu"], targets=["onnx-reference"])
    assert {c.tensor for c in report.comparisons} == {"scores", "again"}
    assert all(c.difference.max_abs == 0 for c in report.comparisons if c.tensor == "again")
    assert "BN001" in codes(report)  # the zeros and ones are not the statistics of these words
    assert "BN006" not in codes(report)
    packing = pack(Request(model, inputs=text, providers=["cpu"]), tmp_path / "bundle")
    assert packing, packing.refused
    stored = protobuf.array_from((tmp_path / "bundle/test_data_set_0/input_0.pb").read_bytes(), "input_0.pb")
    assert stored.dtype.kind == "U"
    assert set(stored.flat) <= {"a", "b", "c", "épée"}
    assert verify(tmp_path / "bundle", providers=["cpu"])
    repaired = recalibrate(model, None, tmp_path / "new.onnx", inputs=text)
    assert repaired, repaired.refused
    assert "BN001" not in codes(check(tmp_path / "new.onnx", inputs=text, providers=["cpu"]))


def test_a_text_model_is_folded(tmp_path: Path) -> None:
    """Both graphs are compared on text of numbers, which is unknown to any table."""
    net = """g (string[N] words) => (float[N, 3] y) {
        ids = ai.onnx.ml.LabelEncoder<keys_strings = ["a"], values_int64s = [1], default_int64 = 0>(words)
        x = Gather(table, ids)  h = Gemm(x, w)  y = BatchNormalization(h, gamma, beta, mean, var) }"""
    ones = np.ones(3, np.float32)
    square = RNG.normal(size=(3, 3)).astype(np.float32)
    model = graph(net, table=square, w=square, gamma=ones, beta=ones, mean=ones, var=ones)
    folding = fold(saved(tmp_path, model), tmp_path / "folded.onnx")
    assert folding.written == tmp_path / "folded.onnx"
    assert len(folding.folded) == 1


def test_text_of_python_is_taken(tmp_path: Path) -> None:
    """Arrays and lists of str, as pandas and NumPy have them."""
    model = saved(tmp_path, words())
    rows = [["a", "b", "c", "d"], ["b", "b", "a", "a"]]
    for data in (np.array(rows), np.array(rows, np.object_), {"words": rows}):
        assert {c.tensor for c in check(model, data, providers=["cpu"]).comparisons} == {"scores", "again"}


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((2, 4), np.float32), "the input words takes text: found float32; expected an array of strings"),
        (np.full((2, 4), b"a"), "the input words takes text: found |S1"),
        (np.full((2, 3), "a"), "the input words has the wrong shape: found (2, 3); expected (?, 4)"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, array: np.ndarray, sentence: str) -> None:
    """One sentence that names the input, what was found and what is expected."""
    with pytest.raises(InputError) as refused:
        check(saved(tmp_path, words()), {"words": array}, providers=["cpu"])
    assert sentence in str(refused.value)


def test_other_text_is_a_difference() -> None:
    """Text is compared for equality, whatever its length."""
    from bnexport.numerics.compare import RunningDifference

    running = RunningDifference()
    running.add(np.array(["a", "long"]), np.array(["a", "b"]))
    assert running.result().max_abs == 1


def test_scores_by_class_are_a_table() -> None:
    """The ZipMap of scikit-learn's converters gives a list of mappings; other sequences are refused."""
    scores = as_array("p", [{0: 0.5, 2: 0.5}, {0: 1.0, 2: 0.0}])
    assert scores.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    for odd in ([], [np.zeros(2)], [{0: 1.0}, {1: 1.0}]):
        with pytest.raises(InputError, match="the output p cannot be compared: found"):
            as_array("p", odd)


def test_a_classifier_of_scikit_learn_is_checked(tmp_path: Path) -> None:
    """Its classes are text, its probabilities come by class."""
    classifier = """g (float[N, 2] x) => (string[N] label, seq(map(string, float)) probabilities) {
        label, raw = ai.onnx.ml.LinearClassifier<coefficients = [1.0, 0.0, 0.0, 1.0, -1.0, -1.0],
            intercepts = [0.0, 0.0, 0.1], classlabels_strings = ["cat", "dog", "owl"], post_transform = "SOFTMAX">(x)
        probabilities = ai.onnx.ml.ZipMap<classlabels_strings = ["cat", "dog", "owl"]>(raw) }"""
    report = check(saved(tmp_path, graph(classifier)), RNG.normal(size=(9, 2)).astype(np.float32), providers=["cpu"])
    assert report, str(report)
    assert {c.tensor for c in report.comparisons} == {"label", "probabilities"}


@pytest.mark.parametrize(
    ("given", "wanted", "axes"),
    [
        ((5, 3, 8, 8), (None, 8, 8, 3), (0, 2, 3, 1)),
        ((5, 8, 8, 3), (None, 3, None, None), (0, 3, 1, 2)),
        ((5, 2, 8, 8, 8), (None, 8, 8, 8, 2), (0, 2, 3, 4, 1)),
        ((5, 8, 8, 3), (None, None, None, None), None),
        ((5, 8, 8, 3), (), None),
    ],
)
def test_channels_are_moved_where_only_that_fits(
    given: tuple[int, ...], wanted: tuple[int | None, ...], axes: tuple[int, ...] | None
) -> None:
    """Arrays with the channels first for an input with the channels last, and the other way round."""
    fit = fit_arrays({"a": (given, np.dtype("f4"))}, "data", {"x": wanted}, {})
    assert fit.axes == ({} if axes is None else {"x": axes})
    assert bool(fit.notes) == bool(fit.axes)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            (5, 8, 4, 4),
            "found (5, 8, 4, 4), which would fit as (5, 4, 4, 8) with the channels moved to the end and (5, 4, 8, 4)",
        ),
        ((5, 8, 8, 8), "found (5, 8, 8, 8); expected (?, 4, ?, ?)"),
        ((5, 8, 4), "found (5, 8, 4); expected (?, 4, ?, ?)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(given: tuple[int, ...], sentence: str) -> None:
    """One sentence with both shapes; nothing is moved where two ways would fit."""
    with pytest.raises(InputError) as refused:
        fit_arrays({"a": (given, np.dtype("f4"))}, "data", {"x": (None, 4, None, None)}, {})
    assert sentence in str(refused.value)


def test_moved_channels_are_reported(tmp_path: Path) -> None:
    """IN007 says what was done, and the numbers are those of the transposed array."""
    model = saved(tmp_path, graph("g (float[N, 2, 2, 3] x) => (float[N, 2, 2, 3] y) { y = Relu(x) }"))
    report = check(model, RNG.normal(size=(4, 3, 2, 2)).astype(np.float32), providers=["cpu"])
    assert report, str(report)
    assert (
        "the channels are moved to the end (found (4, 3, 2, 2); expected (?, 2, 2, 3))"
        in codes(report)["IN007"].message
    )


def test_labels_may_be_names() -> None:
    """Names are looked up among the model's classes, or sorted where it has none."""
    labels = np.array(["dog", "", "cat"])
    numbers, classes = class_numbers(labels, "data", ())
    assert (numbers.tolist(), classes) == ([1, -1, 0], ("cat", "dog"))
    assert class_numbers(labels, "data", ("dog", "cat"))[0].tolist() == [0, -1, 1]
    with pytest.raises(InputError, match="the label 'cat' is not a class of the model: expected dog, owl"):
        class_numbers(labels, "data", ("dog", "owl"))

"""Rows without an order are matched as a person would match them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from onnx import parser

from bnexport.comparison.selected import SelectedRows, join_rows, number_items
from bnexport.datasets.feeds import Feed
from bnexport.numerics.rows import match_rows
from bnexport.onnx_graph.selections import selected_outputs
from bnexport.results.heads import Selection
from bnexport.results.rows import RowCounts

RNG = np.random.default_rng(0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_matching_undoes_a_permutation(seed: int) -> None:
    """Rows in another order, each moved by rounding, find their own partner; removed rows leave theirs alone."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 640, (30, 4)).astype(np.float32)
    labels = rng.integers(0, 3, 30)
    order = rng.permutation(30)[: rng.integers(1, 31)]
    moved = boxes[order] * np.float32(1 + 3e-7)
    rows, columns = match_rows([moved, labels[order]], [boxes, labels])
    np.testing.assert_array_equal(order[rows], columns)
    assert len(rows) == len(order)
    back, forth = match_rows([boxes, labels], [moved, labels[order]])
    assert {*zip(forth.tolist(), back.tolist(), strict=True)} == {*zip(rows.tolist(), columns.tolist(), strict=True)}


def test_rows_that_are_named_are_partners_however_far_apart() -> None:
    """Indices name rows; without them rows that are far apart, or of another label, have no partner."""
    index, boxes = np.array([[0, 0, 3], [0, 0, 7]]), np.array([[1.0, 2], [3, 4]])
    rows, columns = match_rows([index[::-1], boxes[::-1] + 5], [index, boxes], names=0)
    assert (rows.tolist(), columns.tolist()) == ([1, 0], [0, 1])
    assert not len(match_rows([boxes + 5], [boxes])[0])
    assert not len(match_rows([boxes, np.array([0, 1])], [boxes, np.array([1, 0])])[0])
    assert len(match_rows([boxes + 0.05], [boxes], close=0.1)[0]) == 2


def test_odd_rows() -> None:
    """No rows, equal rows, NaN, text and one value in each row."""
    nothing = np.zeros((0, 4))
    assert [len(x) for x in match_rows([nothing], [nothing])] == [0, 0]
    assert len(match_rows([nothing], [np.ones((3, 4))])[0]) == 0
    assert len(match_rows([np.ones((5, 4))], [np.ones((3, 4))])[0]) == 3
    broken = np.array([[np.nan, 1.0], [2.0, 3.0]])
    rows, _ = match_rows([broken], [broken])
    assert len(rows) == 2  # equal to the last bit: the comparison says that it is not finite
    assert len(match_rows([broken], [np.array([[0.0, 1.0], [2.0, 3.0]])])[0]) == 1
    text = np.array([["a"], ["b"]], object)
    assert match_rows([text[::-1]], [text])[0].tolist() == [1, 0]
    assert match_rows([np.float16([[2], [1]])], [np.float16([[1], [2]])])[0].tolist() == [1, 0]


@pytest.mark.parametrize("spread", [0.0, 1e-4, 640.0])
def test_many_rows_are_quick(spread: float) -> None:
    """10,000 rows, be they equal, nearly equal or spread, take seconds at most."""
    boxes = (100 + spread * RNG.uniform(size=(10_000, 4))).astype(np.float32)
    order = RNG.permutation(10_000)
    begun = time.perf_counter()
    rows, _ = match_rows([boxes[order] * np.float32(1 + 1e-7)], [boxes])
    assert len(rows) > 9_900
    assert time.perf_counter() - begun < 10  # 0.3 s here


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("float[N, 3] x) => (int64[2, K] y) { b = Greater(x, zero)  y = NonZero(b)",
         Selection(1, "y", names_rows=True, batch=0, certain=True)),
        ("float[N, 3] x) => (int64[1, K] y) { f = Reshape(x, flat)  b = Greater(f, zero)  y = NonZero(b)",
         Selection(1, "y", names_rows=True, certain=True)),
        ("float[N, 9, 4] x, float[N, 2, 9] s) => (int64[K, 3] y) { y = NonMaxSuppression(x, s, most)",
         Selection(0, "y", names_rows=True, batch=0, certain=True)),
        ("float[N, 9, 4] x, float[N, 2, 9] s) => (float[K, 4] y) { c = NonMaxSuppression(x, s, most)"
         " w = Gather<axis = 1>(c, which)  y = GatherND(x, w)", Selection(0, "c", certain=True)),
        ("float[N, 9, 4] x, float[N, 2, 9] s) => (float[1, 4] y) { c = NonMaxSuppression(x, s, most)"
         " w = Gather<axis = 1>(c, which)  k = GatherND(x, w)  y = ReduceSum(k, zeroth)", None),
        ("float[N, 3] x) => (float[N, 3] y) { b = Greater(x, zero)  z = NonZero(b)  s = Shape(z)  f = Cast<to = 1>(s)"
         " k = Gather(f, one)  y = Mul(x, k)", None),  # one row for each item
    ],
)  # fmt: skip
def test_which_axis_holds_selected_rows(text: str, selection: Selection | None) -> None:
    """The axis is known from the shapes; an output behind a selection with a fixed shape, or with a row for each item, is none."""
    weights = """<float zero = {0}, int64[1] flat = {-1}, int64[1] most = {5}, int64[2] which = {0, 2}, int64[1] zeroth = {0}, int64 one = {1}>"""
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18]> g ({text.replace(") {", f") {weights} {{", 1)} }}'
    )
    selected = selected_outputs(model)
    assert selected.get("y") == selection


def test_items_are_numbered() -> None:
    """Rows of single items become those of a batch: by the operator's own index, or by a column that the batch counts in."""
    parts = [np.array([[0, 1, 7]]), np.array([[0, 0, 2], [0, 1, 3]])]
    nms = Selection(0, "y", names_rows=True, batch=0)
    assert join_rows(parts, nms, 1).tolist() == [[0, 1, 7], [1, 0, 2], [1, 1, 3]]
    assert join_rows([x.T for x in parts], Selection(1, batch=0), 4).T.tolist() == [[0, 1, 7], [4, 0, 2], [4, 1, 3]]
    floats = [x.astype(np.float32) for x in parts]
    whole = np.float32([[0, 1, 7], [1, 0, 2], [1, 1, 3]])
    assert number_items(floats, whole, Selection()).tolist() == whole.tolist()
    one_class = np.float32([[0, 5], [0, 6]])
    assert number_items([one_class[:1], one_class[1:]], one_class, Selection()).tolist() == one_class.tolist()


def counted(actual: int, reference: int, matched: int, unexplained: int | None = None) -> RowCounts:
    counts = RowCounts()
    counts.add(actual, reference, matched, unexplained)
    return counts


@pytest.mark.parametrize(
    ("counts", "agree", "problem"),
    [
        (counted(10, 10, 10), None, ""),
        (counted(100, 101, 100), None, ""),
        (counted(3, 2, 2), None, ""),  # one row
        (counted(12, 12, 10), None, "could not be compared"),
        (counted(12, 12, 10), True, ""),
        (counted(12, 12, 5), True, "unless rounding decides most of them"),
        (counted(12, 12, 5, 0), True, ""),  # the reference's selection chooses them too
        (
            counted(59, 231, 59, 0),
            None,
            "differ by more than rounding, or have another form or order",
        ),  # from other tensors
        (counted(230, 231, 230, 0), None, ""),
        (counted(12, 12, 10, 4), True, "the selection differs"),
        (counted(12, 12, 11), False, "differ by more than rounding"),
    ],
)
def test_when_rows_without_a_partner_are_no_rounding(counts: RowCounts, agree: bool | None, problem: str) -> None:
    """Few rows may be rounding; many are where the selection of the reference chooses the same; both causes are named where two are possible."""
    said = counts.problem(agree, "onnx-inference@cpu")
    assert problem in said
    assert bool(said) == bool(problem)


def test_an_axis_that_may_be_one_of_items_is_not_matched() -> None:
    """Where the shape does not tell rows from items and there are as many, they are compared by position."""
    rows = SelectedRows({"y": Selection()})
    batch = Feed({}, ("a", "b"), np.full(2, -1))
    assert rows.match(batch, {"y": np.eye(2)}, {"y": np.eye(2)}) == {}
    assert "y" in rows.match(batch, {"y": np.eye(3)}, {"y": np.eye(3)})
    assert SelectedRows({"y": Selection(-3)}).match(batch, {"y": np.eye(3)}, {"y": np.eye(3)}) == {}

"""The items on which two runs are looked at once more."""

from __future__ import annotations

import numpy as np
import pytest

from bnexport.comparison.expectations import Expectation, Expected
from bnexport.comparison.pairs import Lost, Pair
from bnexport.datasets.feeds import Feed
from bnexport.numerics.compare import Limit, RunningDifference, judge
from bnexport.results.heads import Heads
from bnexport.results.runs import RunSpec

ITEMS = 20


def lost(actual: np.ndarray, wanted: np.ndarray) -> Lost:
    """A batch of 20 items, each of which holds its position, whose output y differs."""
    spec = RunSpec("onnxruntime", "inference", "cpu", artifact="onnx")
    running = RunningDifference()
    running.add(np.zeros(1), np.ones(1))
    failed = judge("a", "b", "y", running.result(), Limit(0.0, 0.0), None)
    x = np.arange(ITEMS, dtype=np.float32)[:, None]
    feed = Feed({"x": x}, tuple(map(str, range(ITEMS))), np.zeros(ITEMS, np.int64))
    pair = Pair(Expectation(spec, spec, Expected.EQUAL, "inference"), Heads(("y",)))
    return Lost(pair, (failed,), feed, {"y": wanted}, {"y": actual})


def test_the_noisiest_items_and_the_largest_output() -> None:
    """Those with the largest differences, and the one that the scale of the tensor comes from."""
    wanted = np.ones((ITEMS, 3), np.float32)
    wanted[4] = 100
    actual = wanted.copy()
    actual[[2, 9, 17], 1] += [0.1, 0.3, 0.2]
    assert lost(actual, wanted).noisiest(3)["x"][:, 0].tolist() == [4, 9, 17]
    assert len(lost(actual, wanted).noisiest(ITEMS)["x"]) == ITEMS


@pytest.mark.parametrize(
    "change",
    [lambda y: y[:7], lambda y: np.where(y == 1, np.nan, y), lambda y: y.astype(str)],
    ids=["rows", "nan", "text"],
)
def test_where_rows_are_not_items_all_are_taken(change) -> None:  # type: ignore[no-untyped-def]
    """Another number of rows, values that are not finite, text."""
    wanted = change(np.ones((ITEMS, 3), np.float32))
    assert len(lost(wanted, wanted).noisiest(3)["x"]) == ITEMS

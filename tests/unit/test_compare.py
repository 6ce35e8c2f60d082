"""The comparator cannot be fooled."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bnexport.numerics.compare import IncomparableError, RunningDifference, agreement, answers, judge
from bnexport.results.tolerance import Limit

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(size=(6, 5)).astype(np.float32)


def difference(actual: np.ndarray, reference: np.ndarray, splits: int = 1) -> RunningDifference:
    running = RunningDifference()
    for a, r in zip(np.array_split(actual, splits), np.array_split(reference, splits), strict=True):
        running.add(a, r)
    return running


def test_equal_is_equal() -> None:
    """The same array is at distance 0, cosine 1 and infinite signal to noise."""
    found = difference(REFERENCE, REFERENCE).result()
    assert (found.max_abs, found.max_rel, found.cosine, found.snr_db) == (0, 0, 1, math.inf)


def test_numbers_are_numpys() -> None:
    """Every figure equals the same formula written out in float64."""
    actual = REFERENCE + RNG.normal(0, 1e-3, REFERENCE.shape).astype(np.float32)
    found = difference(actual, REFERENCE).result()
    a, r = actual.astype(float), REFERENCE.astype(float)
    # float64 sums of 30 terms in another order: a few ulp
    assert found.max_abs == pytest.approx(np.abs(a - r).max(), rel=1e-14)
    assert found.max_rel == pytest.approx(np.abs(a - r).max() / np.abs(r).max(), rel=1e-14)
    assert found.mean_abs == pytest.approx(np.abs(a - r).mean(), rel=1e-13)
    assert found.cosine == pytest.approx((a * r).sum() / np.linalg.norm(a) / np.linalg.norm(r), rel=1e-13)
    assert found.snr_db == pytest.approx(10 * np.log10((r**2).sum() / ((a - r) ** 2).sum()), rel=1e-13)
    assert found.worst_image == np.abs(a - r).max(axis=1).argmax()


@pytest.mark.parametrize("splits", [2, 3, 6])
def test_batches_do_not_matter(splits: int) -> None:
    """Split into batches, the result is the same."""
    actual = REFERENCE * 1.01
    whole, parts = difference(actual, REFERENCE).result(), difference(actual, REFERENCE, splits).result()
    assert parts.worst_image == whole.worst_image
    assert parts.max_abs == whole.max_abs
    assert parts.snr_db == pytest.approx(whole.snr_db, rel=1e-13)


def test_relative_error_is_relative_to_the_reference() -> None:
    """Swapping the sides changes the relative error."""
    assert difference(2 * REFERENCE, REFERENCE).result().max_rel == pytest.approx(1, rel=1e-6)
    assert difference(REFERENCE, 2 * REFERENCE).result().max_rel == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["actual", "reference", "both-nan"])
def test_what_is_not_finite_never_passes(bad: float, side: str) -> None:
    """NaN on either or on both sides, or infinity on one, fails whatever the tolerance."""
    actual, reference = REFERENCE.copy(), REFERENCE.copy()
    if side == "both-nan":
        bad = np.nan
    if side != "reference":
        actual[2, 3] = bad
    if side != "actual":
        reference[2, 3] = bad
    found = difference(actual, reference).result()
    judged = judge("a", "b", "logits", found, Limit(1e30), None)
    assert not judged
    assert "not finite" in judged.reason
    assert found.worst_image == 2


def test_nan_in_an_early_batch_is_not_forgotten() -> None:
    """A later finite batch does not replace NaN."""
    actual = REFERENCE.copy()
    actual[0, 0] = np.nan
    assert math.isnan(difference(actual, REFERENCE, 3).result().max_abs)


@pytest.mark.parametrize(
    ("actual", "words"),
    [
        (REFERENCE[:5], "shapes differ"),
        (REFERENCE.T, "shapes differ"),
        (REFERENCE.astype(np.int64), "dtypes differ"),
    ],
)
def test_other_shapes_and_dtypes_cannot_be_compared(actual: np.ndarray, words: str) -> None:
    """They are errors, not broadcasts."""
    with pytest.raises(IncomparableError, match=words):
        RunningDifference().add(actual, REFERENCE)


def test_nothing_cannot_be_compared() -> None:
    """No batch, or an empty one, is an error and not a pass."""
    with pytest.raises(IncomparableError, match="nothing to compare"):
        RunningDifference().result()
    with pytest.raises(IncomparableError, match="nothing to compare"):
        RunningDifference().add(np.zeros((0, 3)), np.zeros((0, 3)))


def test_a_reference_of_zeros() -> None:
    """Anything but zeros is infinitely far from it."""
    zeros = np.zeros((2, 2))
    assert difference(zeros, zeros).result().max_rel == 0
    assert not judge("a", "b", "x", difference(zeros + 1e-9, zeros).result(), Limit(1e-4), None)


def test_the_tolerance_is_a_limit_not_a_suggestion() -> None:
    """An error at the tolerance passes, one above it does not, and the reason says by how much."""
    found = difference(np.array([[1.5]]), np.array([[1.0]])).result()
    assert judge("a", "b", "x", found, Limit(0.5), None)
    failed = judge("a", "b", "x", found, Limit(0.49), None)
    assert not failed
    assert failed.reason == "the relative error 0.5 is above 0.49; the smallest rtol that would pass is 0.5"


def test_an_answer_that_is_not_finite_agrees_with_nothing() -> None:
    """Two sides that both say NaN do not agree."""
    broken = answers(np.array([[np.nan, 1.0], [0.0, 1.0]]))
    assert broken.tolist() == [-1, 1]
    assert agreement(broken, broken) == 0.5


def test_a_single_logit_answers_by_its_sign() -> None:
    """One score above zero is class 1."""
    assert answers(np.array([[-0.1], [0.1]])).tolist() == [0, 1]

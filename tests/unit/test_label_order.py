"""IN009: labels that count classes in another order."""

from __future__ import annotations

import pytest

from bnexport.numerics.label_order import find_label_order
from bnexport.recalibration.remedy import advice
from bnexport.recalibration.trial import Trial
from bnexport.results.verdict import Severity, Side
from bnexport.rules.label_order import labels_in_another_order

LABELS = [0] * 6 + [1] * 6 + [2] * 6


def side(name: str, answers: list[int]) -> Side:
    right = sum(a == b for a, b in zip(LABELS, answers, strict=True))
    return Side(name, "keras", "inference", "cpu", right, len(LABELS), answers, [], 0.0)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([2] * 6 + [1] * 6 + [0] * 6, {0: 2, 2: 0}),
        ([1] * 6 + [2] * 6 + [0] * 6, {0: 1, 1: 2, 2: 0}),
        ([2] * 5 + [0] + [1] * 6 + [0] * 6, {0: 2, 2: 0}),
        ([2] * 4 + [0] * 2 + [1] * 6 + [0] * 6, {}),
        ([1] * 18, {}),
        ([1] * 6 + [2] * 12, {}),
        (LABELS, {}),
        ([-1] * 18, {}),
    ],
)
def test_exchanged_classes_are_found(answers: list[int], found: dict[int, int]) -> None:
    """Only a closed exchange of most items counts: a model that answers one class, or that is wrong, has none."""
    assert find_label_order(LABELS, answers) == found


def test_few_items_say_nothing() -> None:
    """Four items of a class may be an accident."""
    assert find_label_order([0] * 4 + [1] * 4, [1] * 4 + [0] * 4) == {}
    assert find_label_order([-1] * 8, [0] * 8) == {}


def test_the_run_that_shows_it_best_is_named() -> None:
    """With stale statistics only training mode shows it."""
    sides = [side("keras-inference", [1] * 18), side("keras-training", [2] * 6 + [1] * 6 + [0] * 6)]
    finding = labels_in_another_order(sides, LABELS, ("cat", "dog", "fox"))
    assert finding is not None
    assert (finding.code, finding.severity) == ("IN009", Severity.WARNING)
    assert finding.message == (
        "keras-training answers images of cat as fox, images of fox as cat: the labels count the classes in another order than the outputs, "
        "or the model confuses them; with these exchanged 18 of 18 are correct instead of 6"
    )
    assert labels_in_another_order(sides[:1], LABELS, ()) is None


def test_a_run_that_agrees_with_the_labels_refutes_it() -> None:
    """Where training mode is right, inference mode confuses the classes, and the labels are in order."""
    sides = [side("keras-inference", [2] * 6 + [1] * 6 + [0] * 6), side("keras-training", [0] * 5 + [1] * 7 + [2] * 6)]
    assert labels_in_another_order(sides, LABELS, ()) is None


def test_advice_that_rests_on_labels_waits_for_their_order() -> None:
    """Which answers are correct decides whether recalibrating helps."""
    exchanged = side("keras-inference", [2] * 6 + [1] * 6 + [0] * 6)
    finding = labels_in_another_order([exchanged], LABELS, ())
    assert finding is not None
    trial = Trial.__new__(Trial)  # what recalibrating would give is not looked at
    [first, _] = advice(exchanged, exchanged, trial, [finding])
    assert "in the same order (IN009)" in first.reason

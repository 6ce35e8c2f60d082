"""How close is close enough: floors, stated tolerances, and what users say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bnexport.numerics.compare import RunningDifference, judge, round_up
from bnexport.results.tolerance import LEAST, SMALLEST_FLOOR, Limit, Tolerances

FLOORS = {
    ("inference", "y"): 1e-6,
    ("training", "y"): 1e-5,
    ("inference", "p"): SMALLEST_FLOOR,
    ("inference", "p/logits"): 1e-6,
    ("inference", "tiny"): SMALLEST_FLOOR,
}


def test_eight_floors_of_the_mode() -> None:
    """A side passes within 8 floors of its own mode's pass."""
    known = Tolerances(FLOORS, 8, "")
    assert known.limit("inference", "y", "y", None).rtol == 8e-6
    assert known.limit("training", "y", "y", None).rtol == pytest.approx(8e-5)


def test_never_below_sixteen_eps() -> None:
    """Where both Keras passes happen to agree, rounding in another order still passes."""
    limit = Tolerances(FLOORS, 8, "").limit("inference", "tiny", "tiny", None)
    assert limit.rtol == LEAST == 16 * np.finfo(np.float32).eps


def test_saturated_probabilities_may_move_as_their_logits_do() -> None:
    """Logits of size 10,000 may be off by .08; a probability that is not saturated may then be off by half of that, whatever the measured images say."""
    limit = Tolerances(FLOORS, 8, "").limit("inference", "p", "probabilities", 1e4)
    assert limit.floor == pytest.approx(1e-6 * 1e4 / 2)
    z = np.array([[0.0, 0.08]])
    p = 1 / (1 + np.exp(z[:, ::-1] - z))
    assert np.abs(p - 0.5).max() <= limit.rtol


def test_without_floors_the_tolerance_is_stated() -> None:
    """By mode, and wider in half precision; the words say why."""
    unknown = Tolerances(missing="no float64 pass")
    assert unknown.limit("inference", "y", "y", None) == Limit(1e-4)
    assert unknown.limit("training", "y", "y", None) == Limit(1e-3)
    assert Tolerances(half=True).limit("inference", "y", "y", None) == Limit(2e-2)
    assert "no float64 pass" in unknown.described


def test_what_users_say_wins() -> None:
    """For one tensor or for all; the floor is still known, so that the error can be counted in it."""
    said = Tolerances(FLOORS, 8, "", rtol={"": 1e-3, "y": 1e-2}, atol={"y": 0.5})
    assert said.limit("inference", "y", "y", None) == Limit(1e-2, 0.5, 1e-6)
    assert said.limit("inference", "tiny", "tiny", None) == Limit(1e-3, 0.0, SMALLEST_FLOOR)
    assert "--rtol y=0.01" in said.described


@pytest.mark.parametrize(("scale", "allowed"), [(1.0, 0.6), (10.0, 0.15), (0.0, math.inf)])
def test_both_tolerances_add_up(scale: float, allowed: float) -> None:
    """An error passes up to atol + rtol * scale."""
    assert Limit(0.1, 0.5).relative(scale, 0.5) == pytest.approx(allowed)


@pytest.mark.parametrize(("error", "passes"), [(0.0, True), (0.5, True), (0.51, False), (1e6, False)])
def test_beside_a_reference_of_zeros_the_absolute_tolerance_decides(error: float, passes: bool) -> None:
    """An error of any size is infinite relative to 0; the reason names the atol that would pass."""
    running = RunningDifference()
    running.add(np.array([[error]]), np.array([[0.0]]))
    judged = judge("a", "b", "x", running.result(), Limit(0.1, 0.5), None)
    assert bool(judged) == passes
    assert passes or "smallest atol that would pass" in judged.reason
    assert "inf" not in judged.reason


def test_the_reason_counts_floors_and_names_a_tolerance_that_passes() -> None:
    """What a failure suggests as --rtol makes it pass."""
    running = RunningDifference()
    running.add(np.array([[1.00012345]]), np.array([[1.0]]))
    failed = judge("a", "b", "x", running.result(), Limit(8e-6, 0.0, 1e-6), None)
    assert not failed
    assert "123 noise floors" in failed.reason
    suggested = float(failed.reason.rsplit(" ", 1)[1])
    assert judge("a", "b", "x", running.result(), Limit(suggested), None)


@pytest.mark.parametrize("value", [1.0, 0.1, 9.99e-5, 1.2345e-7, 3.0, 123456.0, 0.0995])
def test_rounded_up_is_never_less(value: float) -> None:
    """Two digits, and at most a tenth more."""
    assert value <= float(round_up(value)) <= 1.11 * value

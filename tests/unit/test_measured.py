"""What several rules read from comparisons: intervals, limits exactly where they are, and which comparison counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bnexport.results.verdict import LayerError
from bnexport.rules.measured import AnswerLimits, Right, describe_inputs, describe_layer, fewer_right, interval


@given(st.integers(1, 2000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
@settings(deadline=None)
def test_the_interval_is_wilsons(shares: tuple[int, int]) -> None:
    """Its ends are the shares p from which what was seen lies 1.96 standard deviations away: (share - p)^2 = z^2 p (1 - p) / n."""
    count, of = shares
    share, square = count / of, 1.96**2
    ends = np.sort(np.roots([1 + square / of, -2 * share - square / of, share**2]).real)
    np.testing.assert_allclose(interval(count, of), ends, atol=1e-6)  # roots of a parabola that may touch the axis
    low, high = interval(count, of)
    assert low <= share <= high
    assert (low == 0) == (count == 0)
    assert (high == 1) == (count == of)


@pytest.mark.parametrize(
    ("gained", "lost", "labelled", "fewer"),
    [
        (0, 4, 4, False),  # two standard deviations of a sign test on four: not more than that
        (0, 5, 5, True),
        (4, 12, 100, False),
        (4, 13, 100, True),
        (0, 20, 1000, False),  # 2 % of the labelled items, exactly
        (0, 21, 1000, True),
        (21, 0, 1000, False),  # more are right
    ],
)
def test_fewer_are_right_beyond_both_limits(gained: int, lost: int, labelled: int, fewer: bool) -> None:
    """What lies exactly at a limit is within it."""
    assert fewer_right(gained, lost, labelled) is fewer


def test_limits_are_exceeded_and_not_met() -> None:
    """An agreement and a loss at their limits are no violations; beyond them each is one, with both numbers."""
    limits = AnswerLimits(min_agreement=0.75, max_accuracy_drop=0.25)

    def right(reference: int, actual: int) -> Right:
        return Right(8, inference=reference, training=actual, only_inference=reference - actual, only_training=0)

    assert limits.violations(0.75, right(8, 6)) == []
    assert limits.violations(0.7499, right(8, 6)) == ["74.99 % get the same class, the limit is 75 %"]
    assert limits.violations(0.75, right(8, 5)) == ["37.5 % of the labelled items are lost, the limit is 25 %"]
    assert len(limits.violations(0.0, right(8, 0))) == 2
    assert limits.violations(None, None) == []
    assert AnswerLimits().violations(0.0, right(8, 0)) == []


def test_every_layer_that_may_be_the_cause_is_named() -> None:
    """What lies between the first layer that is off and those that agree, and what may be folded into it."""

    def layer(name: str, kind: str, error: float | None, *inputs: str) -> LayerError:
        return LayerError(
            name, kind, inputs, "" if error is None else name, float("nan") if error is None else error, 1e-6
        )

    first = layer("conv", "Conv2D", 0.1, "pad")
    layers = [layer("x", "Conv2D", 0.0), layer("pad", "ZeroPadding2D", None, "x"), first]
    layers.append(layer("bn", "BatchNormalization", None, "conv"))
    assert describe_layer(first, node=False, layers=layers) == (
        "the layer conv (Conv2D) or in bn, which may be folded into it, or in pad before it, which could not be compared"
    )
    assert describe_inputs(first, layers) == "what was compared before agrees"
    assert describe_layer(first, node=False, layers=[layers[0], first]) == "the layer conv (Conv2D)"
    assert describe_inputs(first, [layers[0], first]) == "its input agrees"

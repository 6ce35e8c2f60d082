"""Chance and batch statistics told apart, on numbers made for it."""

from __future__ import annotations

import numpy as np
import pytest

from bnexport.numerics.randomness import shares
from bnexport.rules.randomness import random_layers

RNG = np.random.default_rng(0)
INFERENCE = RNG.normal(size=(64, 10))


@pytest.mark.parametrize(("chance", "shift"), [(0.5, 0.5), (1.0, 0.1), (0.1, 1.0), (1.0, 0.0)])
def test_the_shares_are_those_of_the_squares(chance: float, shift: float) -> None:
    """With noise of one size and a shift of another, the share of chance is noise squared over both squared."""
    training = INFERENCE + shift
    draws = [training + RNG.normal(0, chance, INFERENCE.shape) for _ in range(6)]
    finding = random_layers(["dropout"], shares(INFERENCE, training, draws))
    assert finding is not None
    # 6 * 640 values: the variance of noise is known to some 2 %
    assert finding.evidence["random_share"] == pytest.approx(chance**2 / (chance**2 + shift**2), rel=0.1)
    assert finding.evidence["scatter"] == pytest.approx(chance, rel=0.1)


def test_random_layers_that_do_nothing_are_not_mentioned() -> None:
    """Equal draws are no finding, whatever the modes do."""
    assert random_layers(["dropout"], shares(INFERENCE, INFERENCE + 1, [INFERENCE + 1] * 3)) is None

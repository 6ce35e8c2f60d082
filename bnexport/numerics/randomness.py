"""The parts of chance and of batch statistics in the gap between what `fit` computes and what inference mode computes.

With i the inference pass, t the training pass without random layers, and d_1 ... d_k training passes with them:

    gap of BatchNormalization  B = mean (t - i)^2
    gap of chance              R = mean over draws of mean (d - t)^2
    scatter                    mean over draws of mean (d - mean d)^2 k / (k - 1)

R / (R + B) is the share of chance. Random layers that only scatter, and do not shift, have R = scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnexport.types import Array


@dataclass(frozen=True, slots=True)
class Shares:
    """The gap between what `fit` and what inference mode compute, in its two parts; gaps are relative to the size of the inference pass.

    Args:
        random_gap: sqrt(R).
        batch_normalization_gap: sqrt(B).
        scatter: the square root of the scatter.
        random_share: R / (R + B).
        draws: how many training passes with random layers on there were.
    """

    random_gap: float
    batch_normalization_gap: float
    scatter: float
    random_share: float
    draws: int


def shares(inference: Array, training: Array, draws: Sequence[Array]) -> Shares | None:
    """What is chance and what is BatchNormalization; None where the draws are equal.

    Args:
        inference: the inference pass, shape (N, ...).
        training: the training pass with random layers off, the same shape.
        draws: training passes with random layers on, two or more.
    """
    i, t = np.asarray(inference, np.float64), np.asarray(training, np.float64)
    d = np.stack([np.asarray(draw, np.float64) for draw in draws])
    if (d == d[0]).all():
        return None
    scatter = float(np.var(d, axis=0, ddof=1).mean())
    size = math.sqrt(float(np.mean(i**2))) or 1.0
    chance, statistics = float(np.mean((d - t) ** 2)), float(np.mean((t - i) ** 2))
    return Shares(
        random_gap=math.sqrt(chance) / size,
        batch_normalization_gap=math.sqrt(statistics) / size,
        scatter=math.sqrt(scatter) / size,
        random_share=chance / (chance + statistics),
        draws=len(draws),
    )

"""Chance and batch statistics told apart in the gap between what `fit` computes and what inference mode computes.

With i the inference pass, t the training pass without random layers, and d_1 ... d_k training passes with them:

    gap of BatchNormalization  B = mean (t - i)^2
    gap of chance              R = mean over draws of mean (d - t)^2
    scatter                    mean over draws of mean (d - mean d)^2 k / (k - 1)

R / (R + B) is the share of chance. Random layers that only scatter, and do not shift, have R = scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.results.verdict import Action, Finding, Severity

SHOWN = 4


def random_layers(
    layers: Sequence[str], inference: NDArray[Any], training: NDArray[Any], draws: Sequence[NDArray[Any]]
) -> Finding | None:
    """ST001: random layers change what `fit` computes; None where repeated passes are equal.

    Args:
        layers: their names.
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
    share = chance / (chance + statistics)
    evidence = {
        "random_gap": math.sqrt(chance) / size,
        "batch_normalization_gap": math.sqrt(statistics) / size,
        "scatter": math.sqrt(scatter) / size,
        "random_share": share,
        "draws": len(draws),
    }
    named = ", ".join(layers[:SHOWN]) + (", …" if len(layers) > SHOWN else "")
    message = (
        f"{len(layers)} random layers ({named}) are on in fit and off in inference: repeated training passes over one batch differ by {evidence['scatter']:.2g} of the outputs' size; "
        f"of the gap between fit and inference {share:.0%} is theirs, {1 - share:.0%} BatchNormalization's"
    )
    actions = (Action("judge training by evaluate(), which switches them off; this check runs without them too"),)
    return Finding("ST001", Severity.INFO, message, evidence, actions, tuple(layers))

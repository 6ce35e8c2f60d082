"""ST001: random layers, beside BatchNormalization."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.numerics.randomness import Shares
from bnexport.results.actions import advise
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.rule import Rule

ST001 = Rule(
    "ST001",
    "random layers",
    meaning=(
        "Dropout and similar layers are active in fit and inactive in inference, as intended. They also make "
        "training results differ from inference. This part of the difference is not caused by "
        "BatchNormalization."
    ),
    measured=(
        "The training pass is repeated on one batch with different random numbers. Its distance to the "
        "training pass without random layers is their part. The distance of that pass to the inference pass "
        "is the part of BatchNormalization."
    ),
    neighbours="BN005: the difference that is left with the random layers off.",
    remedy="Judge training with evaluate(), which switches random layers off.",
)

SHOWN = 4
"""How many names of layers a message lists."""


def random_layers(layers: Sequence[str], shares: Shares | None) -> Finding | None:
    """ST001: random layers change what `fit` computes; None where repeated passes are equal.

    Args:
        layers: their names.
        shares: what is theirs of the gap between fit and inference; None where it is nothing.
    """
    if shares is None:
        return None
    evidence = {
        "random_gap": shares.random_gap,
        "batch_normalization_gap": shares.batch_normalization_gap,
        "scatter": shares.scatter,
        "random_share": shares.random_share,
        "draws": shares.draws,
    }
    named = ", ".join(layers[:SHOWN]) + (", …" if len(layers) > SHOWN else "")
    subject, part = ("1 random layer", "it") if len(layers) == 1 else (f"{len(layers)} random layers", "these layers")
    message = (
        f"{subject} ({named}) {'is' if len(layers) == 1 else 'are'} active in fit and inactive in inference: repeated training passes over one "
        f"batch differ by {shares.scatter:.2g} of the scale of the outputs; of the gap between fit and inference, "
        f"{shares.random_share:.0%} is due to {part} and {1 - shares.random_share:.0%} to BatchNormalization"
    )
    actions = (advise("judge training with evaluate(), which switches them off; this check runs without them too"),)
    return ST001.finding(Severity.INFO, message, evidence, actions, layers)

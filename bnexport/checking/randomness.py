"""How much of what `fit` sees is chance (ST001): dropout and other random layers distinguished from BatchNormalization."""

from __future__ import annotations

from bnexport.comparison.reference import Reference
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.numerics.randomness import shares
from bnexport.progress import Progress
from bnexport.results.verdict import Finding
from bnexport.rules.randomness import random_layers

DRAWS = 4
"""How often the training pass is repeated."""


def measure(reference: Reference, layers: list[str], feed: Feed, progress: Progress) -> Finding | None:
    """ST001 for a model with random layers; None where they change nothing.

    Args:
        reference: the model.
        layers: its random layers.
        feed: a batch.
        progress: notified of the stage.
    """
    if not layers:
        return None
    progress.stage("repeating the training pass")
    inference, training = (reference.run(mode, feed.inputs) for mode in ("inference", "training"))
    name = next((n for n in inference if n.endswith("/logits")), next(iter(inference)))
    try:
        draws = [reference.drawn(feed.inputs, seed)[name] for seed in range(DRAWS)]
    except InputError as error:  # MixUp needs labels
        progress.note(f"what the random layers change is not known: {error}")
        return None
    return random_layers(layers, shares(inference[name], training[name], draws))

"""The options of a training: one record for the keywords of `bnexport.train` and the flags of `bnexport train` and demo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict

from bnexport.comparison.options import BATCH_SIZE
from bnexport.errors import UsageError
from bnexport.results.options import Flag, option

TRAINING = "Training"
"""The panel that groups the options of training in the help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How a net is overfitted; the fields are keywords of `bnexport.train`.

    Args:
        arch: a net of keras.applications.
        epochs: how often to go through the images.
        momentum: for every BatchNormalization layer; None keeps the architecture's own (.99 in most).
        learning_rate: Adam's.
        batch_size: images in one step.
        seed: for the initial weights and the shuffling.
        extend_to: go on to at most so many epochs while training mode does not get every image right; 0 for never.

    Raises:
        UsageError: the momentum is invalid.
    """

    arch: str = option(
        Flag(name="arch", default="ResNet50", panel=TRAINING, help="The network, by its name in keras.applications.")
    )
    epochs: int = option(
        Flag(
            name="epochs",
            kind=int,
            default=5,
            least=1,
            metavar="N",
            panel=TRAINING,
            help="The number of passes over the images.",
        )
    )
    momentum: float | None = option(
        Flag(
            name="momentum",
            kind=float,
            panel=TRAINING,
            help="The momentum of every BatchNormalization layer, for example 0.9. By default the network keeps its own, "
            "which is 0.99 for most.",
        )
    )
    learning_rate: float = option(
        Flag(
            name="learning-rate",
            kind=float,
            default=1e-3,
            least=0,
            metavar="N",
            panel=TRAINING,
            help="The learning rate of Adam.",
        )
    )
    batch_size: int = option(replace(BATCH_SIZE, panel=TRAINING, help="The number of images in a training step."))
    seed: int = option(
        Flag(
            name="seed",
            kind=int,
            default=0,
            metavar="N",
            panel=TRAINING,
            help="The random seed for the initial weights and the order of the images.",
        )
    )
    extend_to: int = 0

    def __post_init__(self) -> None:
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UsageError("the momentum is invalid", found=str(self.momentum), expected="0 or more and below 1")


class TrainingKeywords(TypedDict, total=False):
    """The fields of `TrainingOptions` as keywords, each with its default."""

    arch: str
    epochs: int
    momentum: float | None
    learning_rate: float
    batch_size: int
    seed: int
    extend_to: int

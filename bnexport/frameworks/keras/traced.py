"""What passes from the trace of a Keras model to its conversion (no framework enters here)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnexport.types import Array

if TYPE_CHECKING:
    import tensorflow as tf

MARKER = "bnexport_site_"
"""The scope of the op that stands for the n-th BatchNormalization call is this and n."""


@dataclass(frozen=True, slots=True)
class TracedSite:
    """One call of a BatchNormalization layer, as it was traced.

    Args:
        name: the layer's path; from a layer's second call on with "#2", "#3" and so on behind it.
        axis: the channel axis of the layer's input in Keras (not negative).
        momentum: the layer's momentum.
        epsilon: the layer's epsilon.
        frozen: True where the layer's `trainable` is False, so that it runs on moving statistics in training too.
    """

    name: str
    axis: int
    momentum: float
    epsilon: float
    frozen: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """A Keras model's inference pass as a TensorFlow graph whose inputs are the model's inputs and all its weights.

    Args:
        graph_def: the graph, a tensorflow GraphDef.
        inputs: TensorFlow's name of each graph input, and the name it shall have.
        outputs: the same for the outputs; the logits are among them.
        sites: the BatchNormalization calls, in the order of their markers.
        weights: the value of each graph input that is a weight, by the name it shall have.
        logits: for each output that ends in softmax or sigmoid, the name of the tensor before it.
        layers: the names of the model's layers.
        constants: the value of each weight that is a constant of the graph, by the name it shall have.
    """

    graph_def: tf.compat.v1.GraphDef
    inputs: dict[str, str]
    outputs: dict[str, str]
    sites: tuple[TracedSite, ...]
    weights: dict[str, Array]
    logits: dict[str, str]
    layers: frozenset[str]
    constants: dict[str, Array] = field(default_factory=dict)

"""What a model gives out: its outputs, which of them end in softmax or sigmoid, and what its classes are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bnexport.graph import tensors
from bnexport.subjects.subject import Subject


@dataclass(frozen=True, slots=True)
class Heads:
    """What a model gives out.

    Args:
        outputs: their names, in order.
        squash: "softmax" or "sigmoid" for each output that ends so.
        classes: their names, from the model or from the images' folder; empty where unknown.
        named_by_model: whether it is the model that names them.
    """

    outputs: tuple[str, ...]
    squash: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    named_by_model: bool = False

    def shown(self, name: str) -> str:
        """What a report calls a tensor: a model with one output has logits and probabilities, others have names."""
        if len(self.outputs) > 1 or name.removesuffix("/logits") not in self.squash:
            return name
        return "logits" if name.endswith("/logits") else "probabilities"


def heads_of(subject: Subject, classes: tuple[str, ...]) -> Heads:
    """The heads of a model that is checked, with the classes that it or the images name."""
    return Heads(
        tuple(output.name for output in subject.graph.graph.output),
        {output: kind for output, (_, kind) in tensors.squashed(subject.graph).items()},
        classes,
        bool(subject.known and subject.known.classes),
    )

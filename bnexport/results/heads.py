"""What a model gives out: its outputs, which of them end in softmax or sigmoid, and what its classes are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bnexport.results.tasks import OutputTask


@dataclass(frozen=True, slots=True)
class Selection:
    """An output whose number of rows depends on the data.

    Args:
        axis: of the rows.
        group: the tensor by which the rows are chosen, the same for outputs that belong together; "" where it is not known.
        names_rows: whether each row is the index of what was chosen, so that no two rows are equal.
        batch: where in a row the position of the item in its batch stands; None where that is not known.
        certain: whether it is certain that the axis is one of selected rows, and not one of items.
    """

    axis: int = 0
    group: str = ""
    names_rows: bool = False
    batch: int | None = None
    certain: bool = False


@dataclass(frozen=True, slots=True)
class Heads:
    """What a model gives out.

    Args:
        outputs: their names, in order.
        squash: "softmax" or "sigmoid" for each output that ends so.
        classes: their names, from the model or from the images' folder; empty where unknown.
        named_by_model: whether it is the model that names them.
        bounded: outputs that end in softmax, sigmoid, hard sigmoid or tanh: their natural size is 1.
        selected: outputs whose number of rows depends on the data.
        inner: tensors inside by which such rows are selected.
        tasks: what the outputs are for, where that is stated or the graph shows it.
        selections: the outputs of `selected` whose shape depends on the data, and the indices by which their rows are chosen; None
            in bundles of earlier versions, which do not know.
        sources: the tensors by which rows are chosen, be they inside or outputs.
    """

    outputs: tuple[str, ...]
    squash: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    named_by_model: bool = False
    bounded: frozenset[str] = frozenset()
    selected: frozenset[str] = frozenset()
    inner: frozenset[str] = frozenset()
    tasks: Mapping[str, OutputTask] = field(default_factory=dict)
    selections: Mapping[str, Selection] | None = None
    sources: tuple[str, ...] = ()

    @property
    def rows(self) -> Mapping[str, Selection]:
        """The tensors whose rows are matched: `selections`, or all of `selected` where these are not known."""
        return {name: Selection() for name in sorted(self.selected)} if self.selections is None else self.selections

    @property
    def natural(self) -> Mapping[str, float]:
        """The size below which no output's scale is taken: onnxruntime's sigmoid is exact to 1e-7 of 1, not of 1e-5."""
        return dict.fromkeys({*self.bounded, *self.squash}, 1.0)

    def shown(self, name: str) -> str:
        """What a report calls a tensor: a model with one output has logits and probabilities, others have names.

        >>> Heads(("predictions",), {"predictions": "softmax"}).shown("predictions/logits")
        'logits'
        """
        if len(self.outputs) > 1 or name.removesuffix("/logits") not in self.squash:
            return name
        return "logits" if name.endswith("/logits") else "probabilities"

"""What several rules read from comparisons that failed, and from labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnexport.numerics.depth import off_before, unknown_inputs, unknown_readers
from bnexport.results.tasks import AGREEING, OutputKind
from bnexport.results.verdict import Comparison, LayerError

DEVIATIONS = 2.0
"""Answers are lost where more are lost than so many standard deviations of a sign test,"""

SHOWN = 3
"""So many layers are named that could not be compared."""

LOST = 0.02
"""and more than this share of the labelled images."""


def fewer_right(gained: int, lost: int, labelled: int) -> bool:
    """Whether `lost` answers that were right, against `gained` ones that were wrong before, are more than chance explains.

    >>> fewer_right(0, 2, 10), fewer_right(0, 5, 10)
    (False, True)
    """
    return lost - gained > max(DEVIATIONS * math.sqrt(gained + lost), LOST * labelled)


@dataclass(frozen=True, slots=True)
class Right:
    """How many of `labelled` images each mode gets right; `only_training` and `only_inference` by one mode alone."""

    labelled: int
    inference: int
    training: int
    only_inference: int
    only_training: int

    @property
    def lost(self) -> bool:
        """Whether inference mode gets fewer right than chance explains."""
        return fewer_right(self.only_inference, self.only_training, self.labelled)


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """How many answers reduced precision may cost.

    Args:
        min_agreement: the smallest share of items that must get the same class; None for no limit.
        max_accuracy_drop: the largest share of labelled items by which fewer may be right; None for no limit.
    """

    min_agreement: float | None = None
    max_accuracy_drop: float | None = None

    def violations(
        self, agreement: float | None, right: Right | None, kind: OutputKind = OutputKind.CLASSES
    ) -> list[str]:
        """The limits that are exceeded, in words.

        >>> AnswerLimits(min_agreement=0.99).violations(0.98, None)
        ['98 % get the same class, the limit is 99 %']
        """
        reasons = []
        if self.min_agreement is not None and agreement is not None and agreement < self.min_agreement:
            reasons.append(f"{100 * agreement:.4g} % {AGREEING[kind]}, the limit is {100 * self.min_agreement:g} %")
        if self.max_accuracy_drop is not None and right is not None:
            drop = (right.inference - right.training) / right.labelled
            if drop > self.max_accuracy_drop:
                reasons.append(
                    f"{100 * drop:.3g} % of the labelled items are lost, the limit is {100 * self.max_accuracy_drop:g} %"
                )
        return reasons


NO_LIMITS = AnswerLimits()


def interval(count: float, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of which `count` in `of` were seen (Wilson 1927).

    >>> [round(end, 3) for end in interval(4, 16)], interval(0, 5)[0]
    ([0.102, 0.495], 0.0)
    """
    z, share = 1.96, count / of
    middle, spread = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    low, high = (middle - spread) / (1 + z * z / of), (middle + spread) / (1 + z * z / of)
    return (low if count else 0.0), (high if count < of else 1.0)


def describe_agreement(same: int, of: int, many: str) -> str:
    """How many items get the same class, with Wilson's interval.

    >>> describe_agreement(15, 16, "images")
    '15 of 16 images get the same class (93.8 %, 95 % interval 71.7 to 98.9 %)'
    """
    low, high = interval(same, of)
    return (
        f"{same} of {of} {many} get the same class ({100 * same / of:.3g} %, 95 % interval {100 * low:.3g} to "
        f"{100 * high:.3g} %)"
    )


def describe_right(right: Right, reference: str) -> str:
    """How many labelled items a run (`training`) and its reference (`inference`) get right."""
    return f"{right.training} of {right.labelled} are correct, and {right.inference} with {reference}"


def answering(compared: Sequence[Comparison]) -> Comparison | None:
    """The comparison that says what a difference costs in answers: the first one, or the first one with classes, or with a task; None where none does."""
    with_classes = (c for c in compared if c.top1_agreement is not None)
    return next(with_classes, None) or next((c for c in compared if c.agreement is not None), None)


def kind_of(comparison: Comparison) -> OutputKind:
    """What its answers are."""
    return (
        OutputKind.CLASSES if comparison.top1_agreement is not None or comparison.task is None else comparison.task.kind
    )


def describe_answers(comparison: Comparison, many: str) -> str:
    """How many answers are the same, in words."""
    of = comparison.difference.images
    if comparison.top1_agreement is not None:
        return describe_agreement(round(comparison.top1_agreement * of), of, many)
    return f"in {comparison.tensor} {comparison.task.described}" if comparison.task else ""


def evidence_of(failed: Sequence[Comparison]) -> dict[str, object]:
    """The numbers of the comparison that failed, and the names of the others."""
    first = failed[0]
    difference = first.difference
    return {
        "actual": first.actual,
        "reference": first.reference,
        "tensor": first.tensor,
        "also": [c.tensor for c in failed[1:]],
        "max_abs": difference.max_abs,
        "max_rel": difference.max_rel,
        "noise_floors": first.noise_floors,
        "tolerance": first.tolerance,
        "worst_image": difference.worst_image,
    }


def is_within_a_tolerance(comparison: Comparison) -> bool:
    """Whether a larger tolerance would make a comparison pass that failed."""
    difference = comparison.difference
    far = comparison.error_ratio is not None or not difference.max_rel <= comparison.tolerance
    return difference.images > 0 and not difference.nonfinite and far


def describe(failed: Sequence[Comparison]) -> str:
    """The comparison that failed, in words."""
    first = failed[0]
    task = next((f"; in {c.tensor} {c.task.described}" for c in failed if c.task is not None), "")
    return f"{first.tensor} of {first.actual} against {first.reference}: {first.reason}{task}"


def describe_layer(layer: LayerError, *, node: bool, layers: Sequence[LayerError] = ()) -> str:
    """The layer in words, with those of `layers` that may be the cause as well; of a reference file the node, by what the deployed file calls its output."""
    matched = f", {layer.matched}" if layer.matched else ""
    name = f"the node that makes {layer.tensor}" if node else f"the layer {layer.name}"
    folded = () if node else unknown_readers(layer, layers)
    others = f" or in {_list_names(folded)}, which may be folded into it" if folded else ""
    if unknown := unknown_inputs(layer, layers):
        others += f"{',' if folded else ''} or in {_list_names(unknown)} before it, which could not be compared"
    return f"{name} ({layer.kind}{matched}){others}"


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def describe_output(layer: LayerError) -> str:
    """How a layer's tensor is off."""
    if layer.problem:
        return layer.problem
    far = f"its output differs by {layer.max_rel:.2g}, rounding explains {layer.tolerance:.1g}"
    return f"{far}, and {layer.reordered}" if layer.reordered else far


def describe_inputs(first: LayerError, layers: Sequence[LayerError]) -> str:
    """What is known of the layers before the one where an error begins."""
    by_name = {layer.name: layer for layer in layers}
    if next(off_before(first.inputs, by_name, set()), None) is not None:
        return "its input differs as well"
    return "what was compared before agrees" if unknown_inputs(first, layers) else "its input agrees"

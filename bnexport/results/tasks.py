"""What an output is for, and a difference in its terms: boxes, pixels, neighbours, tokens, units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class OutputKind(StrEnum):
    """What the rows of an output are."""

    CLASSES = "classes"
    BOXES = "boxes"
    MASK = "mask"
    EMBEDDING = "embedding"
    SEQUENCE = "sequence"
    VALUES = "values"


@dataclass(frozen=True, slots=True)
class OutputTask:
    """What an output is for.

    Args:
        kind: what its rows are.
        columns: of boxes: what each column is (`bnexport.numerics.tasks.detections`); empty for x1, y1, x2, y2.
        axis: the axis of the columns of boxes, or of the classes of a mask; None where the shape shows it.
        threshold: boxes with a score above it count, and pixels of a mask with one channel are set above it; None for the default.
        scores: the output with the scores of the boxes; "" where they are among the columns, or there are none.
        classes: the output with the classes of the boxes; "" likewise.
        unit: of values, such as "kg".
        end: the token that ends a sequence; None where nothing does.
    """

    kind: OutputKind
    columns: tuple[str, ...] = ()
    axis: int | None = None
    threshold: float | None = None
    scores: str = ""
    classes: str = ""
    unit: str = ""
    end: int | None = None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How far two runs are apart, in the terms of the task.

    Args:
        kind: what the output is.
        figures: the numbers, by name; None for one that these items do not have.
        agreement: the share of what one run gives that the other gives too, from 0 to 1; None where there is no such share.
        unit: of the figures of values; "" where it is not stated.
    """

    kind: OutputKind
    figures: Mapping[str, float | None] = field(default_factory=dict)
    agreement: float | None = None
    unit: str = ""

    @property
    def brief(self) -> str:
        """The figure that matters most, in words."""
        return _BRIEF[self.kind](self)

    @property
    def described(self) -> str:
        """All figures in one sentence."""
        more = _MORE[self.kind](self)
        return f"{self.brief} ({more})" if more else self.brief

    def number(self, name: str) -> float:
        """A figure; NaN where these items do not have it."""
        value = self.figures.get(name)
        return math.nan if value is None else value


def percent(share: float | None) -> str:
    """A share in words, which is "100 %" only where it is 1.

    >>> percent(0.99999), percent(1.0), percent(0.5), percent(None)
    ('99.99 %', '100 %', '50 %', 'an unknown share')
    """
    if share is None or math.isnan(share):
        return "an unknown share"
    return f"{math.floor(share * 1e4 + 1e-9) / 100:g} %"


def _boxes(result: TaskResult) -> str:
    actual, reference = result.figures["actual_boxes"], result.figures["reference_boxes"]
    if not actual and not reference:
        return "there are no boxes on either side"
    return f"{result.figures['matched']} of {actual} boxes match one of the {reference} of the reference"


def _more_boxes(result: TaskResult) -> str:
    if not result.figures["matched"]:
        return ""
    parts = [f"mean IoU {_iou(result.number('mean_iou'))}, smallest {_iou(result.number('smallest_iou'))}"]
    if result.figures["largest_score_difference"] is not None:
        parts.append(f"scores differ by up to {result.number('largest_score_difference'):.2g}")
    return "; ".join(parts)


def _iou(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{math.floor(value * 1e4 + 1e-6) / 1e4:g}"


def _mask(result: TaskResult) -> str:
    return f"{percent(result.agreement)} of the pixels get the same class"


def _more_mask(result: TaskResult) -> str:
    return (
        f"mean IoU {_iou(result.number('mean_iou'))} over {result.figures['classes']} classes; "
        f"{percent(result.number('worst_agreement'))} in the worst item"
    )


def _embedding(result: TaskResult) -> str:
    return f"the smallest cosine is {result.number('smallest_cosine'):.6g}"


def _more_embedding(result: TaskResult) -> str:
    mean = f"mean {result.number('mean_cosine'):.6g}"
    if result.agreement is None:
        return f"{mean}; there are too few items to compare neighbours"
    return (
        f"{mean}; {percent(result.agreement)} of the {result.figures['neighbours']} nearest neighbours are the same "
        f"among {result.figures['rows_for_neighbours']} items"
    )


def _sequence(result: TaskResult) -> str:
    return f"{percent(result.agreement)} of the tokens are the same"


def _more_sequence(result: TaskResult) -> str:
    equal = f"{result.figures['equal_sequences']} of {result.figures['sequences']} sequences are equal"
    rate = result.figures["token_error_rate"]
    return equal if rate is None else f"{equal}; token error rate {rate:.3g}"


def _values(result: TaskResult) -> str:
    return f"the largest absolute error is {_in_unit(result, 'largest_error')}"


def _more_values(result: TaskResult) -> str:
    return f"mean {_in_unit(result, 'mean_error')}"


def _in_unit(result: TaskResult, name: str) -> str:
    return f"{result.number(name):.3g}{f' {result.unit}' if result.unit else ''}"


def _nothing(_: TaskResult) -> str:
    return ""


AGREEING = {
    OutputKind.CLASSES: "get the same class",
    OutputKind.BOXES: "of the boxes match",
    OutputKind.MASK: "of the pixels get the same class",
    OutputKind.EMBEDDING: "of the nearest neighbours are the same",
    OutputKind.SEQUENCE: "of the tokens are the same",
}
"""What the agreement is the share of."""

_BRIEF = {
    OutputKind.CLASSES: _nothing,
    OutputKind.BOXES: _boxes,
    OutputKind.MASK: _mask,
    OutputKind.EMBEDDING: _embedding,
    OutputKind.SEQUENCE: _sequence,
    OutputKind.VALUES: _values,
}
_MORE = {
    OutputKind.CLASSES: _nothing,
    OutputKind.BOXES: _more_boxes,
    OutputKind.MASK: _more_mask,
    OutputKind.EMBEDDING: _more_embedding,
    OutputKind.SEQUENCE: _more_sequence,
    OutputKind.VALUES: _more_values,
}

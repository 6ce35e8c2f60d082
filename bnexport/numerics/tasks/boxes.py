"""How far two detectors are apart: their boxes matched by IoU within each class.

The IoU of two boxes is the area they share, divided by the area that either covers. Pairs are matched from the largest IoU down, each box once;
among equal ones the pair with the closest scores comes first. So the result depends neither on the order of the boxes nor on which side is
called the reference. (COCO goes by score, because there one side is the truth.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnexport.numerics.tasks.detections import BoxHead, Detections, read_boxes
from bnexport.results.tasks import OutputKind, TaskResult

SAME = 0.5
"""Boxes match at this IoU and above, as in Pascal VOC and COCO's AP50."""


_NO_BOXES = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


class BoxAgreement:
    """The boxes of two runs. Feed it batches, then ask for the `result`.

    Args:
        columns: what the columns of the boxes are (`bnexport.numerics.tasks.detections`).
        axis: their axis; None where the shape shows it.
        threshold: boxes with a score above it count.
    """

    def __init__(self, columns: Sequence[str] = (), axis: int | None = None, threshold: float = -math.inf) -> None:
        self._columns, self._axis, self._threshold = columns, axis, threshold
        self._counts = [0, 0]
        self._matched = 0
        self._sum_iou, self._smallest_iou, self._score_difference = 0.0, math.inf, 0.0
        self._scored = False

    def add(self, actual: BoxHead, reference: BoxHead) -> None:
        """One more batch.

        Raises:
            InputError: the shapes do not hold boxes, or hold those of another number of images.
        """
        ours, theirs = (read_boxes(h, self._columns, self._axis, self._threshold) for h in (reference, actual))
        for image in {**ours, **theirs}:
            self._add_image(theirs.get(image, _NO_BOXES), ours.get(image, _NO_BOXES))

    def _add_image(self, actual: Detections, reference: Detections) -> None:
        self._counts[0] += len(actual.scores)
        self._counts[1] += len(reference.scores)
        rows, columns, overlap = match(actual, reference)
        if not len(rows):
            return
        self._matched += len(rows)
        self._sum_iou += float(overlap.sum())
        self._smallest_iou = min(self._smallest_iou, float(overlap.min()))
        if actual.scored and reference.scored:
            self._scored = True
            apart = np.abs(actual.scores[rows] - reference.scores[columns])
            self._score_difference = max(self._score_difference, float(apart.max()))

    def result(self) -> TaskResult:
        """The share of boxes that match, 2 matched / (boxes on both sides), over all batches so far; None where there are no boxes."""
        actual, reference = self._counts
        both, matched = actual + reference, self._matched
        return TaskResult(
            OutputKind.BOXES,
            {
                "actual_boxes": actual,
                "reference_boxes": reference,
                "matched": matched,
                "unmatched_actual": actual - matched,
                "unmatched_reference": reference - matched,
                "mean_iou": min(1.0, self._sum_iou / matched) if matched else None,
                "smallest_iou": self._smallest_iou if matched else None,
                "largest_score_difference": self._score_difference if self._scored else None,
            },
            2 * matched / both if both else None,
        )


def iou(actual: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoU of each of M boxes with each of K.

    A box whose second corner lies before its first one overlaps only boxes that are turned likewise. Boxes without an area overlap where they are
    equal. A box with a coordinate that is not finite overlaps nothing.

    Args:
        actual: x1, y1, x2, y2; shape (M, 4).
        reference: the same, shape (K, 4).

    Returns:
        Shape (M, K), from 0 to 1.

    >>> iou(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 2.0, 2.0]])).tolist()
    [[0.5, 1.0]]
    """
    shared, covers = np.ones((len(actual), len(reference))), [np.ones(len(actual)), np.ones(len(reference))]
    alike = np.ones(shared.shape, np.bool_)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for axis in (0, 1):
            (low_a, high_a), (low_r, high_r) = (_ends(side[:, axis], side[:, axis + 2]) for side in (actual, reference))
            shared *= np.clip(np.minimum.outer(high_a, high_r) - np.maximum.outer(low_a, low_r), 0, None)
            covers[0] *= high_a - low_a
            covers[1] *= high_r - low_r
            turned = (np.sign(side[:, axis + 2] - side[:, axis]) for side in (actual, reference))
            alike &= np.equal.outer(*turned)
        union = np.add.outer(*covers) - shared
        share = np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
        if (union == 0).any():
            rows, columns = np.nonzero(union == 0)
            share[rows, columns] = (actual[rows] == reference[columns]).all(axis=1)
    finite = np.logical_and.outer(np.isfinite(actual).all(axis=1), np.isfinite(reference).all(axis=1))
    return np.where(alike & finite, np.clip(np.nan_to_num(share, nan=0.0), 0.0, 1.0), 0.0)


def _ends(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.minimum(first, second), np.maximum(first, second)


def match(actual: Detections, reference: Detections) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Which box of one image is which on the other side: the positions on both, and the IoU of each pair."""
    overlap = iou(actual.corners, reference.corners)
    overlap = np.where(actual.classes[:, None] == reference.classes[None, :], overlap, 0.0)
    rows, columns = np.nonzero(overlap >= SAME)
    values = overlap[rows, columns]
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(np.abs(actual.scores[rows] - reference.scores[columns]), nan=0.0)
    order = np.lexsort((apart, -values))
    free_rows, free_columns = [True] * len(actual.scores), [True] * len(reference.scores)
    left, chosen = min(len(free_rows), len(free_columns)), []
    for nth, row, column in zip(order.tolist(), rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            chosen.append(nth)
            left -= 1
            if not left:
                break
    return rows[chosen], columns[chosen], values[chosen]

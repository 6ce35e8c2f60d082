"""The boxes of each image in the outputs of a detector: columns by name, in whatever order and layout a head has them.

Coordinates are x1, y1, x2, y2 (two corners), x, y, w, h (a corner and the size) or cx, cy, w, h (the centre and the size). `score` is one
score for each box, `class` its class, `image` the position of its image, `-` a column that does not count. `scores`, the last one, stands for
all columns that are left: a score for each class, which is multiplied by `score` where there is one too, as YOLO's heads are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError
from bnexport.types import Array

LAYOUTS = {"xyxy": ("x1", "y1", "x2", "y2"), "xywh": ("x", "y", "w", "h"), "cxcywh": ("cx", "cy", "w", "h")}
"""The coordinates of a box, by the name of the layout."""

MOST_TOGETHER = 1000
"""The same where boxes of all images stand together, and nothing says which is whose."""

OTHER_COLUMNS = ("score", "class", "image", "-", "scores")

MOST_BOXES = 300
"""Of an image with more boxes, those with the highest scores count. (COCO counts 100, YOLO gives out 300.)"""


@dataclass(frozen=True, slots=True)
class Detections:
    """The boxes of one image, those with the highest scores first.

    Args:
        corners: x1, y1, x2, y2; float64, shape (M, 4).
        scores: float64, shape (M,).
        classes: int64, shape (M,); 0 where there are none.
        scored: whether there are scores.
    """

    corners: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    scored: bool = True


@dataclass(frozen=True, slots=True)
class BoxHead:
    """The outputs of a detector for one batch.

    Args:
        boxes: shape (N, M, columns), (N, columns, M), (N, M, 1, columns), or (M, columns) for all images together.
        scores: shape (N, M), (N, M, K), (N, K, M) or (M,); None where they are among the columns, or there are none.
        classes: shape (N, M) or (M,); None likewise.
        images: the position of each box's image, shape (M,), where the boxes are those of all images together; None where it is not known.
    """

    boxes: Array
    scores: Array | None = None
    classes: Array | None = None
    images: Array | None = None


def column_problem(columns: Sequence[str]) -> str:
    """What is wrong with the names of columns, in words; "" where nothing is.

    >>> column_problem(["cx", "cy", "w", "h", "scores"]), column_problem(["x1", "y1", "w", "h"])
    ('', 'the coordinates x1, y1, w, h')
    """
    allowed = {*OTHER_COLUMNS, *(name for layout in LAYOUTS.values() for name in layout)}
    if unknown := [name for name in columns if name not in allowed]:
        return f"the column {unknown[0]!r}"
    if repeated := [name for name in columns if name != "-" and columns.count(name) > 1]:
        return f"the column {repeated[0]!r} twice"
    if "scores" in columns[:-1]:
        return "the column 'scores' before the last one"
    coordinates = [name for name in columns if name not in OTHER_COLUMNS]
    if not any(set(coordinates) == set(layout) for layout in LAYOUTS.values()):
        return f"the coordinates {', '.join(coordinates)}" if coordinates else "no coordinates"
    return ""


def read_boxes(
    head: BoxHead, columns: Sequence[str], axis: int | None = None, threshold: float = -np.inf
) -> dict[int, Detections]:
    """The boxes of each image whose score is above a threshold, by the position of the image.

    Args:
        head: the outputs.
        columns: the names of the columns; empty for x1, y1, x2, y2.
        axis: the axis of the columns; None where the shape shows it.
        threshold: boxes without scores all count.

    Raises:
        InputError: the shapes fit no such head.
    """
    columns = tuple(columns) or LAYOUTS["xyxy"]
    boxes = _by_image(head.boxes, columns, axis)
    rest = boxes[:, :, len(columns) - 1 :] if columns[-1] == "scores" else None
    by_name = {name: boxes[:, :, position] for position, name in enumerate(columns) if name != "scores"}
    if head.images is not None and boxes.shape[:2] == (1, len(head.images)):
        by_name["image"] = np.asarray(head.images, np.float64)[None]
    most = MOST_TOGETHER if head.boxes.ndim == 2 and "image" not in by_name else MOST_BOXES
    scores, classes = by_name.get("score"), by_name.get("class")
    if head.scores is not None:
        rest = _scores(head.scores, boxes.shape[:2])
    if rest is not None:
        best = np.argmax(rest, axis=2)
        highest = np.take_along_axis(rest, best[:, :, None], axis=2)[:, :, 0]
        scores = highest if scores is None else scores * highest
        classes = best if classes is None and rest.shape[2] > 1 else classes
    if head.classes is not None:
        classes = np.asarray(head.classes, np.float64).reshape(boxes.shape[:2])
    scored = scores is not None
    scores = np.full(boxes.shape[:2], np.inf) if scores is None else scores
    classes = np.zeros(boxes.shape[:2]) if classes is None else classes
    whole = np.nan_to_num(np.asarray(classes, np.float64), nan=-1.0).astype(np.int64)
    corners = _corners(by_name)
    with np.errstate(invalid="ignore"):
        counts = scores > threshold
    made = {}
    for image, row, own in _images(by_name.get("image"), len(boxes)):
        chosen = np.flatnonzero(own & counts[row])
        order = chosen[np.argsort(-scores[row][chosen], kind="stable")][:most]
        made[image] = Detections(corners[row][order], scores[row][order], whole[row][order], scored)
    return made


def _by_image(boxes: Array, columns: Sequence[str], axis: int | None) -> NDArray[np.float64]:
    """The boxes as (N, M, columns); without an axis of images, N is 1."""
    x = np.asarray(boxes, np.float64)
    if x.ndim == 4 and 1 in x.shape[1:3]:
        x = x.reshape(x.shape[0], -1, x.shape[3])
    count, more = len(columns), columns[-1] == "scores"
    if axis is not None and -x.ndim <= axis < x.ndim and axis % x.ndim and x.ndim > 1:
        x = np.moveaxis(x, axis, -1)
    elif x.ndim == 3:
        fits = [a for a in (2, 1) if (x.shape[a] >= count if more else x.shape[a] == count)]
        x = np.moveaxis(x, min(fits, key=lambda a: x.shape[a]), -1) if fits else x
    if x.ndim not in (2, 3) or not (x.shape[-1] >= count if more else x.shape[-1] == count):
        raise InputError(
            f"an output of shape {boxes.shape} does not hold boxes",
            expected=f"(N, M, {count}{' or more' if more else ''}) or (N, {count}{' or more' if more else ''}, M), for the columns {', '.join(columns)}",
        )
    return x if x.ndim == 3 else x[None]


def _scores(scores: Array, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The scores as (N, M, K)."""
    x = np.asarray(scores, np.float64)
    images, count = shape[0], shape[1]
    if x.size == images * count:
        return x.reshape(images, count, 1)
    x = x[None] if x.ndim == 2 and images == 1 else x
    if x.ndim == 3 and x.shape[0] == images:
        if x.shape[1] == count:
            return x
        if x.shape[2] == count:
            return np.moveaxis(x, 1, 2)
    raise InputError(
        f"scores of shape {np.shape(scores)} do not fit {count} boxes in each of {images} images",
        expected="(N, M), (N, M, K) or (N, K, M)",
    )


def _corners(by_name: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """x1, y1, x2, y2 in the last axis."""
    if "x1" in by_name:
        return np.stack([by_name[name] for name in LAYOUTS["xyxy"]], axis=-1)
    width, height = by_name["w"], by_name["h"]
    if "cx" in by_name:
        left, top = by_name["cx"] - width / 2, by_name["cy"] - height / 2
    else:
        left, top = by_name["x"], by_name["y"]
    return np.stack([left, top, left + width, top + height], axis=-1)


def _images(column: NDArray[np.float64] | None, count: int) -> Iterator[tuple[int, int, NDArray[np.bool_] | np.bool_]]:
    """For each image its position, the row of the batch that its boxes stand in, and which boxes of the row are its own."""
    for row in range(count):
        if column is None:
            yield row, row, np.bool_(True)
            continue
        for image in np.unique(column[row][np.isfinite(column[row])]):
            yield int(image), row, column[row] == image

"""Differences in the terms of a task, against independent formulas."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import jaccard_score, mean_absolute_error
from sklearn.neighbors import NearestNeighbors

from bnexport.errors import InputError
from bnexport.numerics.tasks.boxes import BoxAgreement, iou
from bnexport.numerics.tasks.detections import LAYOUTS, BoxHead, column_problem, read_boxes
from bnexport.numerics.tasks.embeddings import EmbeddingAgreement
from bnexport.numerics.tasks.masks import MaskAgreement
from bnexport.numerics.tasks.sequences import SequenceAgreement, edit_distance
from bnexport.numerics.tasks.values import ValueAgreement
from bnexport.results.tasks import OutputKind, TaskResult

RNG = np.random.default_rng(0)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner, size = rng.uniform(0, 100, (count, 2)), rng.uniform(1, 30, (count, 2))
    return np.concatenate([corner, corner + size], axis=1)


def plain_iou(a: Any, r: Any) -> float:
    """The definition, on two boxes."""
    width = min(a[2], r[2]) - max(a[0], r[0])
    height = min(a[3], r[3]) - max(a[1], r[1])
    shared = max(width, 0) * max(height, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (r[2] - r[0]) * (r[3] - r[1]) - shared))


def agreement(actual: BoxHead, reference: BoxHead, **how: Any) -> TaskResult:
    measure = BoxAgreement(**how)
    measure.add(actual, reference)
    return measure.result()


COORDINATES = arrays.arrays(np.float64, (4, 4), elements=st.floats(-50, 50, width=32))


@given(COORDINATES, COORDINATES)
@settings(max_examples=60, deadline=None)
def test_iou_is_symmetric_and_a_share(actual: np.ndarray, reference: np.ndarray) -> None:
    """IoU is the same from both sides, lies between 0 and 1, and is 1 for a box and itself, whatever its size."""
    overlap = iou(actual, reference)
    np.testing.assert_array_equal(overlap, iou(reference, actual).T)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    assert (np.diag(iou(actual, actual)) >= 1 - 1e-9).all()


def test_iou_is_the_definition() -> None:
    """Each entry equals the formula for two boxes."""
    a, r = random_boxes(RNG, 30), random_boxes(RNG, 20)
    expected = [[plain_iou(x, y) for y in r] for x in a]
    np.testing.assert_allclose(iou(a, r), expected, atol=1e-15)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_matching_ignores_order_and_sides(seed: int) -> None:
    """The order of the boxes does not matter, nor which side is the reference."""
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 25)
    moved = boxes[: rng.integers(1, 26)] + rng.normal(0, 2, (1, 4))
    first, second = (BoxHead(b[None], rng.uniform(size=(1, len(b)))) for b in (boxes, moved))
    order = rng.permutation(len(boxes))
    shuffled = BoxHead(first.boxes[:, order], first.scores[:, order])
    figures = agreement(first, second).figures
    assert agreement(shuffled, second).figures == figures
    swapped = agreement(second, first).figures
    assert [swapped[name] for name in ("matched", "unmatched_actual", "unmatched_reference", "smallest_iou")] == [
        figures[name] for name in ("matched", "unmatched_reference", "unmatched_actual", "smallest_iou")
    ]
    assert agreement(first, first).agreement == 1


def test_figures_of_boxes() -> None:
    """A lost box, an added one and a moved one, counted by hand."""
    reference = BoxHead(np.array([[[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]]), np.array([[0.9, 0.8, 0.7]]))
    actual = BoxHead(np.array([[[50, 50, 60, 60], [0, 0, 10, 8], [80, 80, 90, 90]]]), np.array([[0.7, 0.6, 0.5]]))
    result = agreement(actual, reference)
    assert result.figures == {
        "actual_boxes": 3,
        "reference_boxes": 3,
        "matched": 2,
        "unmatched_actual": 1,
        "unmatched_reference": 1,
        "mean_iou": 0.9,
        "smallest_iou": 0.8,
        "largest_score_difference": pytest.approx(0.3),
    }
    assert result.agreement == 4 / 6
    assert result.described == (
        "2 of 3 boxes match one of the 3 of the reference (mean IoU 0.9, smallest 0.8; scores differ by up to 0.3)"
    )


def test_boxes_match_within_a_class_and_an_image() -> None:
    """The same box of another class, or of another image, is another box."""
    box = np.array([[[0, 0, 4, 4]], [[9, 9, 13, 13]]], np.float32)
    scores, labels = np.ones((2, 1)), np.array([[0], [1]])
    head = BoxHead(box, scores, labels)
    assert agreement(head, head).agreement == 1
    assert agreement(BoxHead(box, scores, labels[::-1]), head).agreement == 0
    assert agreement(BoxHead(box[::-1], scores, np.zeros((2, 1), np.int64)), BoxHead(box, scores)).agreement == 0


def as_layout(corners: np.ndarray, layout: str) -> np.ndarray:
    x1, y1, x2, y2 = np.moveaxis(corners, -1, 0)
    first = {"xyxy": (x1, y1), "xywh": (x1, y1), "cxcywh": ((x1 + x2) / 2, (y1 + y2) / 2)}[layout]
    second = (x2, y2) if layout == "xyxy" else (x2 - x1, y2 - y1)
    return np.stack([*first, *second], axis=-1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("style", ["one score", "scores", "score and scores", "other outputs"])
def test_every_layout_holds_the_same_boxes(layout: str, channels_first: bool, style: str) -> None:
    """Layouts of boxes, columns first or last, and scores among the columns or in outputs of their own are read alike."""
    rng = np.random.default_rng(1)
    corners = np.stack([random_boxes(rng, 12) for _ in range(3)])
    by_class = rng.uniform(0, 1, (3, 12, 5))
    objectness = rng.uniform(0.5, 1, (3, 12, 1))
    scores, labels = by_class.max(axis=2, keepdims=True), by_class.argmax(axis=2)[:, :, None]
    columns, parts = list(LAYOUTS[layout]), [as_layout(corners, layout)]
    outputs: dict[str, Any] = {}
    if style == "one score":
        columns, parts = [*columns, "score", "class"], [*parts, scores, labels]
    elif style == "scores":
        columns, parts = [*columns, "scores"], [*parts, by_class]
    elif style == "score and scores":
        columns, parts = [*columns, "score", "scores"], [*parts, objectness, by_class]
        scores = scores * objectness
    else:
        outputs = {"scores": np.moveaxis(by_class, 1, 2), "classes": labels[:, :, 0].astype(np.int32)}
    boxes = np.concatenate(parts, axis=2).astype(np.float32)
    boxes = np.moveaxis(boxes, 2, 1) if channels_first else boxes
    images = read_boxes(BoxHead(boxes, **outputs), columns, threshold=0.6)
    for nth, image in images.items():
        kept = np.argsort(-scores[nth, :, 0], kind="stable")
        kept = kept[scores[nth, kept, 0] > 0.6]
        assert len(kept) > 2
        np.testing.assert_allclose(image.corners, corners[nth, kept], atol=1e-4)  # float32 of sizes up to 130
        np.testing.assert_allclose(image.scores, scores[nth, kept, 0], rtol=1e-6)
        np.testing.assert_array_equal(image.classes, labels[nth, kept, 0])


def test_rows_of_all_images_know_their_image() -> None:
    """Rows (M, columns) with a column for the image are matched within it."""
    rows = np.array([[0, 1, 1, 3, 3], [1, 5, 5, 9, 9], [1, 0, 0, 2, 2]], np.float64)
    columns = ["image", *LAYOUTS["xyxy"]]
    assert agreement(BoxHead(rows[::-1]), BoxHead(rows), columns=columns).agreement == 1
    moved = rows.copy()
    moved[0, 0] = 2
    assert agreement(BoxHead(moved), BoxHead(rows), columns=columns).figures["matched"] == 2
    assert agreement(BoxHead(rows[:0]), BoxHead(rows), columns=columns).agreement == 0
    known = BoxHead(rows[:, 1:], images=rows[:, 0])
    assert agreement(known, known).figures == agreement(BoxHead(rows), BoxHead(rows), columns=columns).figures
    many = BoxHead(np.stack([random_boxes(RNG, 2000)] * 2).reshape(-1, 4), images=np.repeat([0, 1], 2000))
    assert agreement(many, many).figures["matched"] == 600
    assert agreement(BoxHead(many.boxes), BoxHead(many.boxes)).figures["matched"] == 1000


def test_odd_boxes_are_no_trouble() -> None:
    """No boxes, one without area, one of NaN, one that is turned, float16 and integers: figures, never an error."""
    nothing = BoxHead(np.zeros((2, 0, 4)))
    assert agreement(nothing, nothing).agreement is None
    assert agreement(nothing, nothing).described == "there are no boxes on either side"
    some = BoxHead(np.array([[[1, 1, 1, 5], [0, 0, 2, 2], [8, 8, 6, 6]]], np.float16))
    assert agreement(nothing, some).agreement == 0
    assert agreement(some, some).agreement == 1
    broken = BoxHead(np.where(some.boxes == 8, np.nan, some.boxes))
    assert agreement(broken, some).figures["matched"] == 2
    turned = BoxHead(np.array([[[1, 1, 1, 5], [0, 0, 2, 2], [6, 6, 8, 8]]], np.float16))
    assert agreement(turned, some).figures["matched"] == 2
    assert agreement(BoxHead(some.boxes.astype(np.int64)), some).agreement == 1


def test_many_boxes_are_quick() -> None:
    """16 images with 10,000 boxes each take less than a second or two: the best ones count."""
    boxes = np.stack([random_boxes(RNG, 10_000) for _ in range(16)]).astype(np.float32)
    scores = RNG.uniform(0, 1, (16, 10_000))
    begun = time.perf_counter()
    assert agreement(BoxHead(boxes, scores), BoxHead(boxes, scores)).agreement == 1
    same = BoxHead(np.zeros((16, 10_000, 4)), np.ones((16, 10_000)))
    assert agreement(same, same).agreement == 1
    assert time.perf_counter() - begun < 10  # 1.5 s here


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (["x1", "y1", "x2", "y2", "score", "class", "-", "-"], ""),
        (["x1", "y1", "x2"], "the coordinates x1, y1, x2"),
        (["score"], "no coordinates"),
        (["scores", "x", "y", "w", "h"], "the column 'scores' before the last one"),
        (["x", "y", "w", "h", "class", "class"], "the column 'class' twice"),
        (["x", "y", "w", "h", "angle"], "the column 'angle'"),
    ],
)
def test_columns_are_checked(columns: list[str], problem: str) -> None:
    """Columns name one box, each once."""
    assert column_problem(columns) == problem


@pytest.mark.parametrize(
    "head", [BoxHead(np.zeros((2, 7, 5))), BoxHead(np.zeros(4)), BoxHead(np.zeros((1, 7, 4)), np.zeros((1, 6)))]
)
def test_shapes_that_hold_no_boxes_are_refused(head: BoxHead) -> None:
    """One sentence with the shape."""
    with pytest.raises(InputError, match=r"shape \("):
        agreement(head, head)


@pytest.mark.parametrize("axis", [1, -1])
def test_masks_against_scikit_learn(axis: int) -> None:
    """Pixel agreement and mean IoU equal scikit-learn's, classes first or last, in batches."""
    reference = RNG.normal(size=(6, 8, 9, 4))
    actual = reference + RNG.normal(0, 0.8, reference.shape)
    measure = MaskAgreement()
    for part in (slice(0, 4), slice(4, 6)):
        measure.add(np.moveaxis(actual[part], -1, axis), np.moveaxis(reference[part], -1, axis))
    result = measure.result()
    a, r = actual.argmax(-1), reference.argmax(-1)
    assert result.agreement == np.mean(a == r)
    assert result.figures["mean_iou"] == pytest.approx(jaccard_score(r.ravel(), a.ravel(), average="macro"), rel=1e-12)
    by_item = (a == r).reshape(6, -1).mean(axis=1)
    assert (result.figures["worst_item"], result.figures["worst_agreement"]) == (by_item.argmin(), by_item.min())


def test_masks_of_one_channel_and_of_labels() -> None:
    """One score for each pixel is compared with the threshold; integers are the classes; NaN agrees with nothing."""
    scores = RNG.uniform(size=(3, 5, 5, 1))
    one, labels = MaskAgreement(threshold=0.5), MaskAgreement()
    one.add(1 - scores, scores)
    assert one.result().agreement == 0
    classes = RNG.integers(0, 300, (3, 5, 5))
    labels.add(classes.astype(np.uint16), classes.astype(np.uint16))
    assert labels.result().agreement == labels.result().figures["mean_iou"] == 1
    broken = MaskAgreement()
    broken.add(np.full((1, 2, 2, 3), np.nan), np.full((1, 2, 2, 3), np.nan))
    assert broken.result().agreement == 0
    with pytest.raises(InputError, match="no mask"):
        MaskAgreement().add(np.zeros((2, 3)), np.zeros((2, 3)))


def test_embeddings_against_scikit_learn() -> None:
    """Cosines equal the formula, and neighbours are scikit-learn's."""
    reference = RNG.normal(size=(50, 8)).astype(np.float32)
    actual = (reference + RNG.normal(0, 0.3, reference.shape)).astype(np.float32)
    measure = EmbeddingAgreement()
    for part in np.split(np.arange(50), [20]):
        measure.add(actual[part], reference[part])
    result = measure.result()
    a, r = actual.astype(float), reference.astype(float)
    cosines = (a * r).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(r, axis=1)
    assert result.figures["smallest_cosine"] == pytest.approx(cosines.min(), abs=1e-12)
    assert result.figures["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-12)
    assert result.figures["worst_item"] == cosines.argmin()
    near = [
        NearestNeighbors(n_neighbors=10, metric="cosine").fit(x).kneighbors(return_distance=False)
        for x in (actual, reference)
    ]
    shared = [len({*x} & {*y}) / 10 for x, y in zip(*near, strict=True)]
    assert result.agreement == pytest.approx(np.mean(shared), abs=1e-12)


def test_embeddings_at_the_edges() -> None:
    """Two items have no neighbours to compare; equal items are tied and no difference; zeros equal zeros; NaN is the worst."""
    few = EmbeddingAgreement()
    few.add(np.eye(2), np.eye(2))
    assert few.result().agreement is None
    assert "too few items" in few.result().described
    tied = EmbeddingAgreement()
    rows = np.repeat(RNG.normal(size=(1, 6)), 30, axis=0)
    tied.add(rows + RNG.normal(0, 1e-9, rows.shape), rows)
    assert tied.result().agreement == 1
    zero = EmbeddingAgreement()
    zero.add(np.zeros((4, 3)), np.zeros((4, 3)))
    assert zero.result().figures["smallest_cosine"] == 1
    broken = EmbeddingAgreement()
    broken.add(np.where(np.eye(4) > 0, np.nan, 1.0), np.ones((4, 4)))
    assert broken.result().figures["smallest_cosine"] == -1
    large = EmbeddingAgreement()
    for _ in range(3):
        large.add(*[RNG.normal(size=(900, 4))] * 2)
    assert large.result().figures["rows_for_neighbours"] == 2000
    assert large.result().agreement == 1


def plain_edit_distance(a: list[int], r: list[int]) -> int:
    """The recursion of Levenshtein, row by row."""
    previous = list(range(len(r) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(r, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y)))
        previous = row
    return previous[-1]


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
@settings(max_examples=150, deadline=None)
def test_edit_distance_is_levenshteins(a: list[int], r: list[int]) -> None:
    """The vectorised distance equals the plain recursion, and is symmetric."""
    first, second = np.array(a, np.int64), np.array(r, np.int64)
    assert edit_distance(first, second) == plain_edit_distance(a, r) == edit_distance(second, first)


def test_sequences() -> None:
    """Tokens up to the end are compared, of integers as of scores; a lost token costs one edit, not the rest of the sequence."""
    reference = np.array([[5, 6, 7, 8, 0, 1], [5, 5, 0, 9, 9, 9]])
    actual = np.array([[6, 7, 8, 0, 3, 3], [5, 5, 0, 2, 2, 2]])
    measure = SequenceAgreement(end=0)
    measure.add(actual, reference)
    figures = measure.result().figures
    assert (figures["equal_sequences"], figures["sequences"], figures["worst_item"]) == (1, 2, 0)
    assert figures["token_error_rate"] == 1 / 8
    assert figures["token_agreement"] == 3 / 8
    by_scores = SequenceAgreement(end=0)
    by_scores.add(np.eye(10)[actual], np.eye(10)[reference])
    assert by_scores.result() == measure.result()
    broken = SequenceAgreement()
    broken.add(np.full((1, 2, 3), np.nan), np.full((1, 2, 3), np.nan))
    assert broken.result().agreement == 0
    long = SequenceAgreement()
    long.add(np.zeros((1, 20_000), np.int64), np.ones((1, 20_000), np.int64))
    assert long.result().figures["token_error_rate"] is None
    assert long.result().described == "0 % of the tokens are the same (0 of 1 sequences are equal)"
    with pytest.raises(InputError, match="no sequence"):
        measure.add(np.zeros((2, 3)), np.zeros((2, 3)))


def test_values_against_scikit_learn() -> None:
    """The mean error equals scikit-learn's; the largest one names its item and its unit."""
    reference = RNG.normal(size=(40, 2))
    actual = reference + RNG.normal(size=(40, 2))
    measure = ValueAgreement("kg")
    for part in np.split(np.arange(40), [13]):
        measure.add(actual[part], reference[part])
    result = measure.result()
    assert result.figures["mean_error"] == pytest.approx(mean_absolute_error(reference, actual), rel=1e-12)
    worst = np.abs(actual - reference).max(axis=1)
    assert (result.figures["worst_item"], result.figures["largest_error"]) == (worst.argmax(), worst.max())
    assert result.described.startswith("the largest absolute error is ")
    assert result.described.count(" kg") == 2
    broken = ValueAgreement()
    broken.add(np.array([[np.nan]]), np.array([[1.0]]))
    assert math.isinf(broken.result().number("largest_error"))


def test_every_kind_has_words() -> None:
    """Each kind but classes, whose words are older, says something also where nothing was compared."""
    measures = [BoxAgreement(), MaskAgreement(), EmbeddingAgreement(), SequenceAgreement(), ValueAgreement()]
    results = [measure.result() for measure in measures]
    assert {result.kind for result in results} == {*OutputKind} - {OutputKind.CLASSES}
    for result, name in itertools.product(results, ("brief", "described")):
        assert getattr(result, name)

"""What the rows of an output say about the images of a batch."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.comparison.pairs import Lost
from bnexport.comparison.sides import Outputs
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.numerics import compare
from bnexport.results.facts import SHOWN
from bnexport.results.heads import Heads
from bnexport.results.runs import RunSpec
from bnexport.results.tasks import OutputKind
from bnexport.results.verdict import Comparison, Side
from bnexport.rules.measured import Right
from bnexport.types import Array


class Items:
    """The names and classes of the items of a check, which arrive in another order than that of the list they come from."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._positions = array("q")
        self.seen_labels = array("i")  # four bytes an image, where objects would take forty

    def __len__(self) -> int:
        """How many arrived."""
        return len(self._names)

    def add(self, feed: Feed, labels: NDArray[np.int64]) -> None:
        """One more batch."""
        seen = len(self._names)
        positions = range(seen, seen + len(feed.names)) if feed.positions is None else feed.positions
        self._names += feed.names
        self._positions.extend(positions)
        self.seen_labels.extend(labels.tolist())

    def positions(self, begin: int, count: int) -> Sequence[int]:
        """Where some of the items stand in the list, from the `begin`th that arrived."""
        return self._positions[begin : begin + count]

    @property
    def order(self) -> NDArray[np.intp]:
        """What arrived, sorted as in the list."""
        return np.argsort(np.array(self._positions, np.int64), kind="stable")

    @property
    def names(self) -> list[str]:
        """Their names, in the order of the list."""
        return [self._names[row] for row in self.order]

    def names_of(self, arrived: Iterable[int]) -> list[str]:
        """The names of some items, by their place among those that arrived."""
        return [self._names[nth] for nth in arrived]

    @property
    def labels(self) -> Sequence[int]:
        """Their classes, -1 where unknown, in the order of the list."""
        return in_order(self.seen_labels, self.order)

    def in_list_order(self, comparison: Comparison) -> Comparison:
        """A comparison whose worst image is counted in the order of the list."""
        order, difference, task = self.order, comparison.difference, comparison.task

        def rank(position: int) -> int:  # outputs may have other rows than one for each item
            return int(np.flatnonzero(order == position)[0]) if position < len(order) else position

        if difference.images:
            difference = replace(difference, worst_image=rank(difference.worst_image))
        if task is not None and (worst := task.figures.get("worst_item")) is not None:
            task = replace(task, figures={**task.figures, "worst_item": rank(int(worst))})
        return replace(comparison, difference=difference, task=task)


class Answers:
    """What each run answers: the classes of the items, by the output that gives them.

    Every run goes through the same batches in the same order.

    Args:
        runs: the ids of the runs.
        heads: what the model gives out.
    """

    def __init__(self, runs: Iterable[str], heads: Heads) -> None:
        self.heads = heads
        self.items = Items()
        self.items_not_finite: dict[str, frozenset[int]] = {}
        """The items that have an output with a value that is not finite, by run, in the order in which they come."""
        self._inputs_not_finite: set[int] = set()
        self._items_seen: Counter[str] = Counter()
        self._deciding = ""
        self._answers = {run: array("i") for run in runs}
        self._confidence = {run: array("d") for run in self._answers}
        self._kept: dict[str, list[tuple[int, list[float]]]] = {run: [] for run in self._answers}

    def begin(self, feed: Feed, outputs: Outputs) -> None:
        """Takes the items of a batch: once, with what the first run computed.

        Raises:
            InputError: a label is not a class of the model.
        """
        if not self.items:
            self._decide(outputs)
        self.items.add(feed, self._usable(feed.labels, outputs))

    def add(self, run: str, feed: Feed, outputs: Outputs) -> None:
        """Takes what a run computed for a batch whose items are known."""
        broken = [broken_rows(outputs[o], len(feed.names)) for o in self.heads.outputs if o in outputs]
        if broken and (rows := np.flatnonzero(np.logical_or.reduce(broken))).size:
            now = frozenset((rows + self._items_seen[run]).tolist())
            self.items_not_finite[run] = self.items_not_finite.get(run, frozenset()) | now
            given = np.logical_or.reduce([broken_rows(x, len(feed.names)) for x in feed.inputs.values()])
            self._inputs_not_finite.update((np.flatnonzero(given) + self._items_seen[run]).tolist())
        self._items_seen[run] += len(feed.names)
        if not self._deciding:
            return
        answers = self._answers[run]
        given = outputs.get(self._deciding)
        if given is None or given.ndim != 2 or len(given) != len(feed.names):
            answers.extend([-1] * len(feed.names))  # it gives no such output
            return
        scores = self._scores(outputs)
        by_position = zip(self.items.positions(len(answers), len(feed.names)), scores.tolist(), strict=True)
        self._kept[run] = sorted([*self._kept[run], *by_position], key=itemgetter(0))[:SHOWN]
        classes = compare.answers(scores)
        answers.extend(classes.tolist())
        if self._deciding in self.heads.squash:
            self._confidence[run].extend(confidence(given, classes).tolist())

    @property
    def not_finite(self) -> dict[str, int]:
        """How many items have an output with a value that is not finite, by run; only runs that have such items."""
        return {run: len(items) for run, items in self.items_not_finite.items()}

    def broken_before(self, runs: Iterable[str]) -> tuple[list[str], int]:
        """The items whose inputs hold a value that is not finite, as an output of these runs does, and how many others have such an output."""
        items = frozenset[int]().union(*(self.items_not_finite.get(run, ()) for run in runs))
        return self.items.names_of(sorted(items & self._inputs_not_finite)), len(items - self._inputs_not_finite)

    def alike_where_finite(self, lost: Lost) -> bool:
        """Whether two runs that differ have the same items that are not finite, and agree elsewhere: neither of the two is at fault."""
        items = [self.items_not_finite.get(run) for run in lost.pair.key]
        return (
            items[0] is not None
            and items[0] == items[1]
            and all(
                comparison.difference.nonfinite and 10 ** (-comparison.difference.snr_db / 20) <= comparison.tolerance
                for comparison in lost.failed
            )
        )

    def side(self, spec: RunSpec, seconds: float) -> Side:
        """What a run answered, in the order of the list that the items come from."""
        run, labels, order = spec.id, np.array(self.items.seen_labels), self.items.order
        labelled = labels >= 0
        right = (
            int(np.count_nonzero(self._of(run)[labelled] == labels[labelled])) if self._has_labels(labelled) else None
        )
        return Side(
            id=run,
            runtime=spec.runtime,
            mode=spec.mode,
            provider=spec.device,
            correct=right,
            of=int(np.count_nonzero(labelled)) if right is not None else 0,
            answers=in_order(self._answers[run], order),
            confidence=in_order(self._confidence[run], order),
            seconds=seconds,
            scores=tuple(tuple(row) for _, row in self._kept[run]),
            precision=str(spec.precision),
        )

    def right(self, actual: str, reference: str) -> Right | None:
        """How many labelled items each of two runs gets right; None without labels."""
        labels = np.array(self.items.seen_labels)
        labelled = labels >= 0
        if not self._has_labels(labelled):
            return None
        theirs, ours = (self._of(run)[labelled] == labels[labelled] for run in (reference, actual))
        counts = (theirs, ours, theirs & ~ours, ours & ~theirs)
        return Right(int(labelled.sum()), *(int(np.count_nonzero(count)) for count in counts))

    def agreement(self, actual: str, reference: str, tensor: str) -> float | None:
        """The share of items to which two runs give the same class; None for a tensor that gives none."""
        if not self._deciding or tensor.removesuffix("/logits") != self._deciding or actual not in self._answers:
            return None
        return compare.agreement(self._of(actual), self._of(reference))

    def _of(self, run: str) -> NDArray[np.int64]:
        return np.array(self._answers[run], np.int64)

    def _has_labels(self, labelled: NDArray[np.bool_]) -> bool:
        return bool(self._deciding and labelled.any())

    def _decide(self, outputs: Outputs) -> None:
        """Chooses the output that gives images their class: the first of shape (N, K) that is stated to.

        Where none is, the first behind a softmax or sigmoid, or with one score for each class name.
        """
        stated = {name for name, task in self.heads.tasks.items() if task.kind == OutputKind.CLASSES}
        for name in stated or [name for name in self.heads.outputs if name not in self.heads.tasks]:
            shape = outputs[name].shape if name in outputs else ()
            if len(shape) == 2 and (
                name in stated
                or name in self.heads.squash
                or (len(self.heads.classes) > 1 and shape[1] == len(self.heads.classes))
            ):
                self._deciding = name
                return

    def _scores(self, outputs: Outputs) -> Array:
        """The logits of the deciding output; where they are out of reach, the probabilities (less a half for a single one)."""
        logits = outputs.get(f"{self._deciding}/logits")
        if logits is not None:
            return logits
        values = outputs[self._deciding]
        return np.subtract(values, 0.5) if values.shape[1] == 1 and self._deciding in self.heads.squash else values

    def _usable(self, labels: NDArray[np.int64], outputs: Outputs) -> NDArray[np.int64]:
        if not self._deciding or (labels < 0).all():
            return np.full_like(labels, -1)
        scores = outputs[self._deciding].shape[1]
        count = 2 if scores == 1 else scores
        if labels.max() >= count or (
            self.heads.classes and not self.heads.named_by_model and len(self.heads.classes) != count
        ):
            raise InputError(
                f"the labels do not match the model, which has {count} classes",
                found=f"{max(len(self.heads.classes), int(labels.max()) + 1)} classes",
                fix="use one subfolder for each class of the model, or a flat folder",
            )
        return labels


def in_order(values: array[Any], order: NDArray[np.intp]) -> Sequence[Any]:
    """One value for each item, taken in the given order, in an array of the same type."""
    return array(values.typecode, np.array(values)[order].tobytes()) if values else values


def broken_rows(x: Array, count: int) -> NDArray[np.bool_]:
    """Which of `count` images have a value that is not finite; all of them where the tensor has no axis for images."""
    if x.dtype.kind not in "fc" or np.isfinite(x).all():
        return np.zeros(count, np.bool_)
    if x.ndim == 0 or len(x) != count:
        return np.ones(count, np.bool_)
    return np.asarray(~np.isfinite(x).reshape(count, -1).all(axis=1))


def confidence(probabilities: Array, classes: NDArray[np.int64]) -> Array:
    """The probability of each image's class, from probabilities of shape (N, K) and the classes of shape (N,)."""
    if probabilities.shape[1] > 1:
        return np.take_along_axis(probabilities, np.maximum(classes, 0)[:, None], axis=1)[:, 0]
    return np.where(classes == 1, probabilities[:, 0], 1 - probabilities[:, 0])


def allow(comparison: Comparison, *, answers: bool = True) -> Comparison:
    """A comparison that may fail, but for tensors that cannot be compared and, with `answers`, other answers."""
    if comparison or not comparison.difference.images:
        return comparison
    if answers and comparison.top1_agreement not in (None, 1.0):
        return comparison
    return replace(comparison, passed=True, tolerance=float("inf"), reason="")

"""What a difference means: the outputs of two runs in the terms of the task, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from bnexport.comparison.sides import Outputs
from bnexport.errors import InputError
from bnexport.numerics.tasks.boxes import BoxAgreement
from bnexport.numerics.tasks.detections import BoxHead, column_problem
from bnexport.numerics.tasks.embeddings import EmbeddingAgreement
from bnexport.numerics.tasks.masks import MaskAgreement
from bnexport.numerics.tasks.sequences import SequenceAgreement
from bnexport.numerics.tasks.values import ValueAgreement
from bnexport.results.heads import Heads, Selection
from bnexport.results.tasks import OutputKind, OutputTask, TaskResult
from bnexport.types import Array

THRESHOLD = 0.25
"""Boxes with a score above it count, where nothing else is stated: what YOLO's tools show."""


class Measure(Protocol):
    """One kind of agreement, added up batch by batch."""

    def result(self) -> TaskResult:
        """The figures so far."""


class TaskMeasures:
    """The outputs of two runs in the terms of their tasks.

    Args:
        heads: what the model gives out.
    """

    def __init__(self, heads: Heads) -> None:
        self._tasks = {name: task for name, task in heads.tasks.items() if task.kind != OutputKind.CLASSES}
        self._measures = {name: _Running(name, task, heads) for name, task in self._tasks.items()}
        self._broken: set[str] = set()

    def add(self, actual: Outputs, reference: Outputs) -> None:
        """One more batch. An output that only one run gives, or gives in another form, is left out: the comparison says so.

        Raises:
            InputError: what the reference gives is not what the task says.
        """
        for name, running in self._measures.items():
            if name in self._broken:
                continue
            if not (running.complete(actual) and running.complete(reference)):
                self._broken.add(name)
                continue
            try:
                running.add(actual, reference)
            except InputError as error:
                running.refuse_reference(reference, error)
                self._broken.add(name)

    def result(self, name: str) -> TaskResult | None:
        """The figures of one output so far; None where it has no task, or could not be compared."""
        running = self._measures.get(name)
        return running.result() if running and running.added and name not in self._broken else None


class _Running:
    """One output, or the outputs of one detector."""

    def __init__(self, name: str, task: OutputTask, heads: Heads) -> None:
        self.added = False
        self._name, self._task = name, task
        self._make = _maker(name, task, heads)
        self._measure, self._add = self._make()
        self._result: TaskResult | None = None

    def complete(self, outputs: Outputs) -> bool:
        """Whether a run gives all of them."""
        return all(name in outputs for name in (self._name, self._task.scores, self._task.classes) if name)

    def add(self, actual: Outputs, reference: Outputs) -> None:
        """One more batch."""
        if reference[self._name].size or actual[self._name].size or self._task.kind == OutputKind.BOXES:
            self._add(actual, reference)
            self.added, self._result = True, None

    def result(self) -> TaskResult:
        """The figures so far, which are asked for more than once."""
        if self._result is None:
            self._result = self._measure.result()
        return self._result

    def refuse_reference(self, reference: Outputs, error: InputError) -> None:
        """Refuses a task that the reference's own outputs do not fit."""
        try:
            self._make()[1](reference, reference)
        except InputError:
            raise InputError(f"the output {self._name} is stated to be {self._task.kind}: {error}") from error


Add = Callable[[Outputs, Outputs], None]


def _maker(name: str, task: OutputTask, heads: Heads) -> Callable[[], tuple[Measure, Add]]:
    """What makes a measure for an output, and the function that adds a batch to it."""
    if task.kind == OutputKind.BOXES:
        return lambda: _boxes(name, task, heads)

    def make() -> tuple[Measure, Add]:
        measure: MaskAgreement | EmbeddingAgreement | SequenceAgreement | ValueAgreement
        if task.kind == OutputKind.MASK:
            threshold = task.threshold
            if threshold is None:
                threshold = 0.5 if name in heads.squash else 0.0
            measure = MaskAgreement(task.axis, threshold)
        elif task.kind == OutputKind.EMBEDDING:
            measure = EmbeddingAgreement()
        elif task.kind == OutputKind.SEQUENCE:
            measure = SequenceAgreement(task.end)
        else:
            measure = ValueAgreement(task.unit)
        return measure, lambda actual, reference: measure.add(actual[name], reference[name])

    return make


def _boxes(name: str, task: OutputTask, heads: Heads) -> tuple[Measure, Add]:
    if problem := column_problem(task.columns) if task.columns else "":
        raise InputError(f"the columns of the output {name} are no boxes", found=problem)
    default = -math.inf if name in heads.selected else THRESHOLD  # rows that were selected are above a threshold
    measure = BoxAgreement(task.columns, task.axis, default if task.threshold is None else task.threshold)

    indices = _indices(name, heads)

    def head(outputs: Outputs) -> BoxHead:
        return BoxHead(
            outputs[name],
            outputs[task.scores] if task.scores else None,
            outputs[task.classes] if task.classes else None,
            next((indices[index](outputs[index]) for index in indices if index in outputs), None),
        )

    def add(actual: Outputs, reference: Outputs) -> None:
        sides = head(actual), head(reference)
        if all(side.images is not None for side in sides):
            together = [replace(side, images=None) for side in sides]
            if _count_matches(task, *together) > _count_matches(
                task, *sides
            ):  # the rows are in another order than their indices
                sides = together[0], together[1]
        measure.add(*sides)

    return measure, add


def _indices(name: str, heads: Heads) -> dict[str, Callable[[Array], Array | None]]:
    """The indices that an output's rows were chosen by, each with what makes the position of its item of every row."""

    def items_of(selection: Selection) -> Callable[[Array], Array | None]:
        def items(index: Array) -> Array | None:  # a bundle may state anything
            axis, batch = selection.axis, selection.batch
            if index.ndim != 2 or axis not in (0, 1) or batch is None or not 0 <= batch < index.shape[1 - axis]:
                return None
            return np.moveaxis(index, axis, 0)[:, batch]

        return items

    own = heads.rows.get(name)
    return {
        index: items_of(selection)
        for index, selection in heads.rows.items()
        if own is not None and own.group and selection.group == own.group and selection.batch is not None
    }


def _count_matches(task: OutputTask, actual: BoxHead, reference: BoxHead) -> float:
    measure = BoxAgreement(task.columns, task.axis)
    measure.add(actual, reference)
    return measure.result().number("matched")

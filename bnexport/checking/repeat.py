"""Whether a run computes the same for the same input twice (RT013), on the first items of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bnexport.checking.judging import Judge, Verdict
from bnexport.comparison.pairs import Lost
from bnexport.comparison.reference import Reference
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.subject import Subject
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.numerics import depth
from bnexport.onnx_graph.random_nodes import random_nodes
from bnexport.progress import Progress
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.runs import Role
from bnexport.results.sweep import SweepCase, SweepOutcome
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Finding
from bnexport.rules.sweep import not_deterministic
from bnexport.types import Array

IMAGES_TOGETHER = 4
"""How many items are enough: in a batch of two already the other one is half of the statistics (`one_by_one`)."""

WITHIN = 10.0
"""A difference between two runs up to so many times the one between two passes of one of them has the same cause."""


SAME = 1e-9
"""Two passes in float64 that are further apart differ by more than rounding."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """What became of the same input twice.

    Args:
        outputs: what each run computed the first time, by its id.
        varying: how far the second pass is from the first, relative to the scale, for each run that is not deterministic.
        finding: RT013 for those; None where there are none.
        cases: every run that was tried.
    """

    outputs: Mapping[str, Outputs] = field(default_factory=dict)
    varying: Mapping[str, float] = field(default_factory=dict)
    finding: Finding | None = None
    cases: Sequence[SweepCase] = ()

    def explains(self, lost: Lost) -> bool:
        """Whether two runs may differ as they do because one of them is not deterministic."""
        far = max(comparison.difference.max_rel for comparison in lost.failed)
        return any(not far > WITHIN * self.varying[run] for run in lost.pair.key if run in self.varying)


ONCE = Repetition()
"""Nothing was run twice."""


def repeat(
    runners: Sequence[Runner],
    feed: Feed,
    subject: Subject,
    tolerances: Tolerances,
    progress: Progress,
    noun: Noun = IMAGES,
    *,
    load: bool = False,
) -> Repetition:
    """Runs each inference side twice on the first items of a batch.

    Args:
        runners: everything that is run.
        feed: a batch.
        subject: the model.
        tolerances: those of the check.
        progress: notified of runs that do not run so.
        noun: what the model is run on.
        load: load the model of a framework for that where the cache holds its outputs.
    """
    few = first_items(feed, subject)
    judge = Judge(subject, tolerances, progress, noun)
    case = f"the same {noun.with_count(len(few.names))} twice"
    outputs: dict[str, Outputs] = {}
    failures: list[tuple[Runner, Verdict, list[str]]] = []
    cases: list[SweepCase] = []
    for runner in runners:
        spec = runner.spec
        if spec.mode != "inference" or spec.as_deployed or spec.role == Role.PREVIEW or runner.of_items is not None:
            continue
        model = _model(runner, subject)
        tried = SweepCase("repeat", case, runner.id, SweepOutcome.PASSED, 0.0, 0.0)
        try:
            before = outputs[runner.id] = runner.compute(few.inputs)
            if model is not None and not (load or model.is_loaded):
                continue  # the cache holds what it computed, and that is all that is known
            after = runner.compute(few.inputs) if model is None else model.run_again("inference", few.inputs)
        except InputError as error:  # whatever depends on the batch says so where that is measured
            cases.append(
                replace(tried, outcome=SweepOutcome.NOT_TRIED, max_rel=None, tolerance=None, reason=str(error))
            )
            continue
        if not all(_is_same(after.get(name), before.get(name)) for name in before.keys() | after.keys()):
            random = random_nodes(runner.graph()) if runner.graph else []
            if random or (model is not None and _draws(model, few.inputs)):
                verdict = judge.exactly_itself(runner, few, after, before)
            else:
                verdict = judge.with_itself(runner, few, after, before, "first pass")
            tried = replace(
                tried, max_rel=verdict.max_rel, tolerance=verdict.tolerance, reason="they differ by rounding"
            )
            if not verdict:
                tried = replace(tried, outcome=SweepOutcome.FAILED, reason=verdict.reason)
                failures.append((runner, verdict, random))
        cases.append(tried)
    varying = {runner.id: verdict.max_rel for runner, verdict, _ in failures}
    finding = None
    if failures:
        _, verdict, random = failures[0]
        is_reference = any(runner.spec.role == Role.CONTROL for runner, _, _ in failures)
        finding = not_deterministic(list(varying), verdict.reason, verdict.max_rel, random, is_reference=is_reference)
    return Repetition(outputs, varying, finding, cases)


def first_items(feed: Feed, subject: Subject) -> Feed:
    """The first items of a batch, as many as `one_by_one` runs together; the whole batch where its size is fixed."""
    if not all(shape and shape[0] is None for shape in subject.shapes.values()):
        return feed
    count = min(IMAGES_TOGETHER, len(feed.names))
    positions = None if feed.positions is None else feed.positions[:count]
    return Feed(
        {name: x[:count] for name, x in feed.inputs.items()}, feed.names[:count], feed.labels[:count], positions
    )


def _model(runner: Runner, subject: Subject) -> Reference | None:
    """The model of a framework that a run computes, whose passes the cache remembers; None for a graph."""
    if runner.model is None and runner.spec.role == Role.CONTROL and not runner.spec.artifact:
        return subject.reference
    return runner.model


def _draws(model: Reference, feeds: Feeds) -> bool:
    """Whether a model whose passes differ does so in float64, too: then rounding is not the cause, and its noise floors say nothing."""
    try:
        one, other = (model.run_again("inference", feeds, "float64") for _ in range(2))
    except InputError:
        return False  # it does not compute in float64, so that its tolerances are stated ones
    return any(depth.distance(one[name], x) > SAME for name, x in other.items() if x.dtype.kind == "f")


def _is_same(one: Array | None, other: Array | None) -> bool:
    """Whether two arrays are equal to the last bit."""
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind in "OSU":
        return bool(np.all(one == other))
    return one.tobytes() == other.tobytes()

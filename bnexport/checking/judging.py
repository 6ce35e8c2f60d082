"""Whether two runs agree on one batch that is no part of the data: by the tolerances of the check, measured again on that batch where they are exceeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnexport.comparison import floors, precision
from bnexport.comparison.expectations import Expected
from bnexport.comparison.pairs import Lost
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.subject import Subject
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.progress import Progress
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.rounding import EXPLAINED, LARGEST
from bnexport.results.runs import Role, RunSpec
from bnexport.results.tolerance import LEAST, Tolerances
from bnexport.types import Array

FEW = 4.0
"""Few items vary more than a data set: reduced precision passes within so many times its usual limits."""

MOVED = 1e-6
"""An input that moves by so much of its scale is the same to anybody: what a reference then does by itself is no error of a file."""

SEEDS = 3
"""So often the input is moved."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two runs agree on a batch; truthy where they do.

    Args:
        max_rel: the error of the tensor that decides, relative to its scale; NaN where it cannot be compared.
        tolerance: the largest error of it that passes.
        reason: why they do not agree, "" where they do.
    """

    max_rel: float
    tolerance: float
    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares runs on batches that are no part of the data.

    Args:
        subject: the model.
        tolerances: those of the check.
        progress: notified where floors are measured.
        noun: what the model is run on.
    """

    subject: Subject
    tolerances: Tolerances
    progress: Progress
    noun: Noun = IMAGES

    def with_reference(
        self, runner: Runner, reference: Runner, feed: Feed, actual: Outputs, wanted: Outputs
    ) -> Verdict:
        """What a run computes for a batch against what the reference computes; values that are not finite on both sides agree."""
        tally = self._tally([reference, runner], [reference.spec, runner.spec], feed, *_blank(actual, wanted))
        precision.measure(tally, [runner], self.subject.graph, self.progress)
        return _verdict(tally, [lost for lost in tally.lost() if not _is_nearly_explained(tally, lost)])

    def with_itself(self, runner: Runner, feed: Feed, actual: Outputs, expected: Outputs, detail: str) -> Verdict:
        """What a run computes for a batch against what it computed before, which `detail` names."""
        before = replace(runner.spec, role=Role.CONTROL, detail=detail)
        now = replace(runner.spec, role=Role.CANDIDATE)
        tally = self._tally([runner], [before, now], feed, *_blank(actual, expected))
        return _verdict(tally, tally.lost())

    def exactly_itself(self, runner: Runner, feed: Feed, actual: Outputs, expected: Outputs) -> Verdict:
        """The same to 16 float32 eps, whatever the floors are: those of a model that draws random numbers say nothing."""
        before = replace(runner.spec, role=Role.CONTROL, detail="first pass")
        now = replace(runner.spec, role=Role.CANDIDATE)
        tally = self._tally([runner], [before, now], feed, *_blank(actual, expected), Tolerances(rtol={"": LEAST}))
        compared = tally.judge((), ())[0]
        if not compared:
            return Verdict(math.nan, LEAST, "the number of rows differs")
        worst = max(compared, key=lambda c: _number(c.difference.max_rel))
        error = worst.difference.max_rel
        reason = worst.reason or f"the relative error is {error:.2g}"
        return Verdict(error, LEAST, f"{worst.tensor}: {reason}" if not error <= LEAST else "")

    def _tally(
        self,
        runners: list[Runner],
        specs: Sequence[RunSpec],
        feed: Feed,
        actual: Outputs,
        expected: Outputs,
        given: Tolerances | None = None,
    ) -> Tally:
        of_specs = zip(specs, runners if len(runners) == len(specs) else runners * len(specs), strict=True)
        quantised = {spec.id: runner.quantised for spec, runner in of_specs if runner.quantised}
        tolerances = self.tolerances if given is None else given
        heads = replace(self.subject.heads(()), tasks={})  # they need data, and say nothing about agreement
        tally = Tally(specs, heads, tolerances, self.noun, quantised)
        reference, run = specs
        tally.begin(feed, expected)
        tally.add(reference.id, feed, expected, {})
        tally.add(run.id, feed, actual, {reference.id: expected})
        if tolerances.floors:
            floors.where_lost(tally, self.subject.reference, self.progress)
        return tally

    def is_unstable(self, reference: Runner, feed: Feed, wanted: Outputs, verdict: Verdict) -> bool:
        """Whether the reference itself moves as far as a run is from it where its input moves by `MOVED`: ties and jumps fall otherwise by chance."""
        if reference.of_items is not None or not any(x.dtype.kind == "f" for x in feed.inputs.values()):
            return False
        moved = 0.0
        for seed in range(SEEDS):
            try:
                outputs = reference.compute(_move(feed.inputs, seed))
            except InputError:
                return True
            spec = replace(reference.spec, role=Role.CANDIDATE, detail="moved")
            compared = self._tally(
                [reference], [reference.spec, spec], feed, *_blank(outputs, wanted), Tolerances(rtol={"": LEAST})
            ).judge((), ())[0]
            moved = max([moved, *(_number(c.difference.max_rel) for c in compared)])
        return moved >= _number(verdict.max_rel) / 2


def _number(error: float) -> float:
    return math.inf if math.isnan(error) else error


def _move(feeds: Feeds, seed: int) -> Feeds:
    """Floating point inputs a little larger each, so that numbers of items stay what they are where they are cut off."""
    rng = np.random.default_rng(seed)

    def larger(x: Array) -> Array:
        values = np.asarray(x, np.float64)
        step = MOVED * float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        return np.asarray(values + step * rng.random(x.shape), x.dtype)

    return {name: larger(x) if x.dtype.kind == "f" else x for name, x in feeds.items()}


def _blank(actual: Outputs, expected: Outputs) -> tuple[Outputs, Outputs]:
    """Both with 0 where neither is finite."""
    ours, theirs = dict(actual), dict(expected)
    for name in actual.keys() & expected.keys():
        a, e = actual[name], expected[name]
        if a.shape == e.shape and a.dtype.kind == e.dtype.kind == "f":
            neither = ~np.isfinite(a) & ~np.isfinite(e)
            if neither.any():
                ours[name], theirs[name] = (np.where(neither, x.dtype.type(0), x) for x in (a, e))
    return ours, theirs


def _is_nearly_explained(tally: Tally, lost: Lost) -> bool:
    """Whether reduced precision explains the difference, for so few items."""
    cost = tally.costs.get(lost.pair.key)
    if lost.pair.expected == Expected.EQUAL or lost.pair.broken or cost is None:
        return False
    deciding = cost.deciding
    return deciding.ratio <= FEW * EXPLAINED and deciding.max_ratio <= FEW * LARGEST


def _verdict(tally: Tally, lost: Sequence[Lost]) -> Verdict:
    if lost:
        worst = lost[0].failed[0]
        return Verdict(worst.difference.max_rel, worst.tolerance, f"{worst.tensor}: {worst.reason}")
    compared = [c for c in tally.judge((), ())[0] if c.difference.images]
    if not compared:
        return Verdict(0.0, 0.0)
    worst = max(compared, key=lambda c: c.difference.max_rel / c.tolerance if c.tolerance else c.difference.max_rel)
    return Verdict(worst.difference.max_rel, worst.tolerance)

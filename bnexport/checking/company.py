"""Whether the answers of a server depend on what it computes together (RT019): alone, in other batches, and as concurrent requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from bnexport.comparison import floors
from bnexport.comparison.precision import apart_by, cost_as_if
from bnexport.comparison.reference import Reference
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.progress import Progress
from bnexport.results.heads import Heads
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.rounding import EXPLAINED, LARGEST
from bnexport.results.runs import Role
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Finding
from bnexport.rules import servers

ITEMS = 8
"""So many items of a batch are sent,"""

ROUNDS = 3
"""and so many times all of them at once: what a server puts together depends on when they arrive."""


@dataclass(frozen=True, slots=True)
class Company:
    """How answers are compared.

    Args:
        heads: what the model gives out.
        tolerances: how close is close enough.
        reference: the model, whose noise floors are measured where they are needed; None where they are known.
        progress: notified of each server.
        noun: what the items are.
    """

    heads: Heads
    tolerances: Tolerances
    reference: Reference | None
    progress: Progress
    noun: Noun = IMAGES

    def examine(self, runner: Runner, batch: Feed) -> Finding | None:
        """RT019 where a run's answers depend on which items it computes together; None where they do not, or that cannot be tried."""
        count = min(len(batch.names), ITEMS)
        feeds = {name: x[:count] for name, x in batch.inputs.items()}
        if count < 2 or any(len(x) != count for x in feeds.values()):
            return None
        self.progress.stage(f"sending the same {self.noun.many} to {runner.id} in other ways")
        whole = runner.compute(feeds)
        rows = {name: x for name, x in whole.items() if name not in self.heads.rows and x.shape[:1] == (count,)}
        if not rows:
            return None
        few = Feed(feeds, batch.names[:count], batch.labels[:count])
        for how, send in _ways(count):
            try:
                answers = send(runner, feeds)
            except InputError as error:
                self.progress.note(f"{runner.id} does not take the {self.noun.many} {how}: {error}")
                continue
            tally = self._compare(runner, few, answers, rows)
            worst = next((c for c in tally.judge((), ())[0] if not c and not c.difference.nonfinite), None)
            if worst is not None:
                precision = _explained_by(runner, answers, rows, tally)
                return servers.depends_on_company(runner.id, how, worst, precision, self.noun)
        return None

    def _compare(self, runner: Runner, few: Feed, answers: Outputs, whole: Outputs) -> Tally:
        """The answers against those to the whole batch."""
        control = replace(runner.spec, role=Role.CONTROL, detail="whole batch")
        actual = replace(runner.spec, role=Role.CANDIDATE)
        quantised = {actual.id: runner.quantised} if runner.quantised else {}
        tally = Tally([control, actual], self.heads, self.tolerances, quantised=quantised)
        both = whole.keys() & answers.keys()
        recorded, outputs = ({name: x for name, x in each.items() if name in both} for each in (whole, answers))
        tally.begin(few, recorded)
        tally.add(control.id, few, recorded, {})
        tally.add(actual.id, few, outputs, {control.id: recorded})
        if self.tolerances.provisional and self.reference is not None:
            floors.where_lost(tally, self.reference, self.progress)
        return tally


def _explained_by(runner: Runner, answers: Outputs, whole: Outputs, tally: Tally) -> str:
    """The precision whose rounding explains how far answers are apart, as other kernels for other batches round; "" where none does."""
    for lost in tally.lost():
        for precision in ("float16", "bfloat16"):
            cost = cost_as_if(runner, precision, lost, tally)
            pairs = [
                (r, apart_by(answers[n], whole[n])) for n, r in (cost.tensors if cost else {}).items() if n in answers
            ]
            if pairs and all(
                np.sqrt(np.mean(np.square(far))) <= EXPLAINED * rounding.expected_rms
                and np.abs(far).max() <= LARGEST * rounding.expected_max
                for rounding, far in pairs
            ):
                return precision
    return ""


Send = Callable[[Runner, Feeds], Outputs]


def _ways(count: int) -> Iterator[tuple[str, Send]]:
    """Ways to send the same items, with what gives their answers in the order of the batch."""
    every = list(range(count))
    yield "once more", lambda runner, feeds: runner.compute(feeds)
    yield "alone", lambda runner, feeds: _in_parts(runner, feeds, [[at] for at in every])
    yield "in the opposite order", lambda runner, feeds: _in_parts(runner, feeds, [every[::-1]])
    if count > 2:
        yield "in two batches", lambda runner, feeds: _in_parts(runner, feeds, [every[::2], every[1::2]])
    for _ in range(ROUNDS):
        yield "as concurrent requests", lambda runner, feeds: _at_once(runner, feeds, count)


def _in_parts(runner: Runner, feeds: Feeds, parts: Sequence[Sequence[int]]) -> Outputs:
    """The answers to several batches, as those of one in the order of the items."""
    answers = [runner.compute({name: x[list(part)] for name, x in feeds.items()}) for part in parts]
    order = np.argsort([at for part in parts for at in part])
    return _join(answers, [len(part) for part in parts], order)


def _at_once(runner: Runner, feeds: Feeds, count: int) -> Outputs:
    """The answers to requests of one item each that are sent at the same time."""
    with ThreadPoolExecutor(count) as pool:
        sent = [pool.submit(runner.compute, {name: x[at : at + 1] for name, x in feeds.items()}) for at in range(count)]
        answers = [each.result() for each in sent]
    return _join(answers, [1] * count, np.arange(count))


def _join(answers: Sequence[Outputs], sizes: Sequence[int], order: np.ndarray) -> Outputs:
    names = [
        name
        for name in answers[0]
        if all(name in each and each[name].shape[:1] == (n,) for each, n in zip(answers, sizes, strict=True))
    ]
    return {name: np.concatenate([each[name] for each in answers])[order] for name in names}

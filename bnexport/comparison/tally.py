"""Adding up a check batch by batch: differences between the sides, and each side's answers."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.comparison.answers import Items, allowed, broken_rows, confidence, in_order
from bnexport.comparison.expectations import Expectation, Expected, expectations
from bnexport.comparison.pairs import Pair
from bnexport.comparison.sides import Outputs, Runner
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError, UsageError
from bnexport.numerics import compare
from bnexport.results.facts import SHOWN
from bnexport.results.heads import Heads
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.runs import Mode, Precision, RunSpec
from bnexport.results.tolerance import Limit, Tolerances
from bnexport.results.verdict import Action, Comparison, Difference, Finding, Severity, Side
from bnexport.rules import findings, unusual
from bnexport.rules.quantised import cost_of_quantisation

_NOTHING = Difference(0, 0.0, float("nan"), float("nan"), float("nan"), 0.0, float("-inf"), 0, 0)


@dataclass(frozen=True, slots=True)
class Lost:
    """Two sides that must be equal and are not: the comparisons that failed, and a batch that shows it."""

    pair: Pair
    failed: tuple[Comparison, ...]
    feed: Feed


class Tally:
    """What is known so far about a check.

    Args:
        runners: the sides.
        heads: what the model gives out.
        tolerances: how close is close enough.
        noun: what the sides are run on.
    """

    def __init__(self, runners: Sequence[Runner], heads: Heads, tolerances: Tolerances, noun: Noun = IMAGES) -> None:
        self.noun = noun
        self._items = Items()
        self.heads = heads
        self._tolerances = tolerances
        self._pairs = [Pair(e) for e in expectations([runner.spec for runner in runners])]
        self._quantised = {runner.id: runner.quantised for runner in runners if runner.quantised}
        for pair in self._pairs:
            pair.natural, pair.selected, pair.inner = heads.natural, heads.selected, heads.inner
        self._deciding = ""
        self._answers = {runner.id: array("i") for runner in runners}
        self._confidence = {runner.id: array("d") for runner in runners}
        self._kept: dict[str, list[tuple[int, list[float]]]] = {runner.id: [] for runner in runners}
        self.not_finite: dict[str, int] = {}

    def add(self, feed: Feed, outputs: Mapping[str, Outputs]) -> None:
        """One more batch: what was fed, and what each side made of it.

        Raises:
            InputError: a label is not a class of the model.
        """
        if not self._items:
            self._decide(next(iter(outputs.values())))
        positions = self._items.add(feed, self._usable(feed.labels, outputs))
        for side, values in outputs.items():
            broken = [broken_rows(values[o], len(feed.names)) for o in self.heads.outputs if o in values]
            if broken and (count := int(np.count_nonzero(np.logical_or.reduce(broken)))):
                self.not_finite[side] = self.not_finite.get(side, 0) + count
        for pair in self._pairs:
            pair.add(feed, outputs[pair.actual], outputs[pair.reference])
        if self._deciding:
            for side, values in outputs.items():
                given = values.get(self._deciding)
                if given is None or given.ndim != 2 or len(given) != len(feed.names):
                    self._answers[side].extend([-1] * len(feed.names))  # it gives no such output
                    continue
                scores = self._scores(values)
                kept = [*self._kept[side], *zip(positions, scores.tolist(), strict=True)]
                self._kept[side] = sorted(kept, key=itemgetter(0))[:SHOWN]
                found = compare.answers(scores)
                self._answers[side].extend(found.tolist())
                if self._deciding in self.heads.squash:
                    self._confidence[side].extend(confidence(given, found).tolist())

    @property
    def names(self) -> list[str]:
        """The items' names, in the order of the list they come from."""
        return self._items.names

    @property
    def labels(self) -> Sequence[int]:
        """Their classes, -1 where unknown, in the same order."""
        return self._items.labels

    def _decide(self, outputs: Outputs) -> None:
        """Chooses the output that gives images their class: the first of shape (N, K) behind a softmax or sigmoid, or with one score for each class name."""
        for name in self.heads.outputs:
            shape = outputs[name].shape if name in outputs else ()
            if len(shape) == 2 and (
                name in self.heads.squash or (len(self.heads.classes) > 1 and shape[1] == len(self.heads.classes))
            ):
                self._deciding = name
                return

    def _scores(self, outputs: Outputs) -> NDArray[Any]:
        """The logits of the deciding output; where they are out of reach, the probabilities (less a half for a single one)."""
        logits = outputs.get(f"{self._deciding}/logits")
        if logits is not None:
            return logits
        values = outputs[self._deciding]
        return values - 0.5 if values.shape[1] == 1 and self._deciding in self.heads.squash else values

    def _usable(self, labels: NDArray[np.int64], outputs: Mapping[str, Outputs]) -> NDArray[np.int64]:
        if not self._deciding or (labels < 0).all():
            return np.full_like(labels, -1)
        scores = next(iter(outputs.values()))[self._deciding].shape[1]
        count = 2 if scores == 1 else scores
        if labels.max() >= count or (
            self.heads.classes and not self.heads.named_by_model and len(self.heads.classes) != count
        ):
            raise InputError(
                f"the labels do not fit the model, which has {count} classes",
                found=f"{max(len(self.heads.classes), int(labels.max()) + 1)} classes",
                fix="use one subfolder for each class of the model, or a flat folder",
            )
        return labels

    def refuse_unknown(self, tables: Sequence[Mapping[str, float]]) -> None:
        """Refuses tolerances for tensors that were not compared.

        Raises:
            UsageError: there is no tensor of that name.
        """
        known = {self.heads.shown(name) for pair in self._pairs for name in [*pair.running, *pair.broken]}
        for name in {name for table in tables for name in table} - known - {""}:
            raise UsageError(f"there is no tensor {name} to give a tolerance for", expected=", ".join(sorted(known)))

    def side(self, runner: Runner) -> Side:
        """What one side did."""
        found, labels, order = self._joined(runner.id), np.array(self._items.seen_labels), self._items.order
        known = labels >= 0
        right = int(np.count_nonzero(found[known] == labels[known])) if self._deciding and known.any() else None
        return Side(
            id=runner.id,
            runtime=runner.spec.runtime,
            mode=runner.spec.mode,
            provider=runner.spec.device,
            correct=right,
            of=int(np.count_nonzero(known)) if right is not None else 0,
            answers=in_order(self._answers[runner.id], order),
            confidence=in_order(self._confidence[runner.id], order),
            seconds=runner.seconds,
            scores=tuple(tuple(row) for _, row in self._kept[runner.id]),
        )

    def _joined(self, side: str) -> NDArray[np.int64]:
        return np.array(self._answers[side], np.int64)

    @property
    def modes_differ(self) -> bool:
        """Whether training and inference mode answer differently."""
        return any(f.code == "BN005" for f in self.judged((), ())[1])

    def judged(
        self, causes: Sequence[str], remedy: Sequence[Action], unexamined: str = ""
    ) -> tuple[list[Comparison], list[Finding]]:
        """Every comparison with its verdict, and what follows where the modes differ.

        Args:
            causes: the codes of findings that say that the moving statistics are wrong.
            remedy: what to do where the modes differ.
            unexamined: why the statistics could not be examined; "" where they were.
        """
        comparisons: list[Comparison] = []
        found: list[Finding] = []
        for pair in self._pairs:
            if pair.expected == Expected.EQUAL:
                comparisons += self._held(pair)
            elif pair.expected == Expected.MODES:
                told = [self._between_modes(pair, name, causes, remedy, unexamined) for name in pair.running]
                comparisons += [comparison for comparison, _ in told]
                found += [finding for _, finding in told[:1] if finding]
            elif pair.expected == Expected.QUANTIZED:
                held = self._held(pair)
                cost = self._cost(pair, held)
                lost = cost is None or cost.severity == Severity.ERROR
                comparisons += held if lost else [allowed(comparison, answers=False) for comparison in held]
                found += [cost] if cost else []
            elif pair.expected == Expected.AS_DEPLOYED:
                held = self._held(pair)
                comparisons += [allowed(comparison) for comparison in held]
                imprecise = [findings.reduced_precision(c, self.noun) for c in held if not c]
                found += [finding for finding in imprecise if finding][:1]
        return [self._items.placed(comparison) for comparison in comparisons], found

    def _cost(self, pair: Pair, held: Sequence[Comparison]) -> Finding | None:
        how = self._quantised.get(pair.actual) or self._quantised[pair.reference]
        alone = pair.reference in self._quantised
        right = None if alone else self._right(pair)
        return cost_of_quantisation(held, how.described, dynamic=how.dynamic, right=right, alone=alone, noun=self.noun)

    def uneven(self) -> Finding | None:
        """RT008 where two sides select another number of rows, other than two modes, whose scores differ by more than rounding."""
        held = [pair for pair in self._pairs if pair.kind not in (Kind.MODES, Kind.ALTERNATIVE)]
        return unusual.uneven_rows(
            [(p.actual, p.reference, self.heads.shown(n), c) for p in held for n, c in p.uneven.items()]
        )

    def lost(self) -> list[Lost]:
        """The pairs that must be equal and are not, or where a quantised file loses answers."""
        found = []
        for pair in self._pairs:
            failed = (
                tuple(c for c in self._held(pair) if not c)
                if pair.expected in (Expected.EQUAL, Expected.QUANTIZED)
                else ()
            )
            if failed and pair.expected == Expected.QUANTIZED:
                cost = self._cost(pair, self._held(pair))
                failed = failed if cost is None or cost.severity == Severity.ERROR else ()
            if failed and pair.worst is not None:
                found.append(Lost(pair, tuple(map(self._items.placed, failed)), pair.worst))
        return found

    def raise_floors(self, floors: Mapping[tuple[str, str], float]) -> None:
        """Takes the larger ones of the floors so far and these."""
        old = self._tolerances.floors
        self._tolerances = replace(
            self._tolerances, floors={**old, **{key: max(floor, old.get(key, 0.0)) for key, floor in floors.items()}}
        )

    def matches_other_mode(self, actual: str) -> bool:
        """Whether a file that another exporter made computes what the reference computes in training mode."""
        return any(
            all(held) and bool(held)
            for pair in self._pairs
            if pair.expected == Expected.ALTERNATIVE and pair.actual == actual
            for held in [self._held(pair)]
        )

    def agree(self, mode: Mode, actual: Outputs, reference: Outputs) -> bool:
        """Whether the outputs of one batch are close enough."""
        spec = RunSpec("actual", mode, "")
        equal = Expectation(spec, replace(spec, runtime="reference"), Expected.EQUAL, mode)
        pair = Pair(equal, natural=self.heads.natural, selected=self.heads.selected)
        pair.add(Feed({}, (), np.array([], np.int64)), actual, reference)
        return all(self._held(pair))

    def _held(self, pair: Pair) -> list[Comparison]:
        return [self._parity(pair, name) for name in [*pair.running, *pair.broken]]

    def _parity(self, pair: Pair, name: str) -> Comparison:
        if name in pair.broken:
            return Comparison(
                pair.actual, pair.reference, self.heads.shown(name), _NOTHING, 0.0, None, False, pair.broken[name]
            )
        return compare.judge(
            pair.actual,
            pair.reference,
            self.heads.shown(name),
            pair.running[name].result(),
            self._limit(pair, name),
            self._agreement(pair, name),
        )

    def _limit(self, pair: Pair, name: str) -> Limit:
        logits = pair.running.get(f"{name}/logits")
        scale = None if logits is None else logits.result().scale
        tolerances = (
            replace(self._tolerances, floors={}, half=True)
            if pair.expectation.actual.precision == Precision.FLOAT16
            else self._tolerances
        )
        return tolerances.limit(pair.expectation.mode, name, self.heads.shown(name), scale)

    def _between_modes(
        self, pair: Pair, name: str, causes: Sequence[str], remedy: Sequence[Action], unexamined: str
    ) -> tuple[Comparison, Finding | None]:
        difference, agreement = pair.running[name].result(), self._agreement(pair, name)
        plain = Comparison(
            pair.actual, pair.reference, self.heads.shown(name), difference, float("inf"), agreement, passed=True
        )
        finding = findings.modes_disagree(
            plain, right=self._right(pair), causes=causes, unexamined=unexamined, remedy=remedy, noun=self.noun
        )
        if finding is None or finding.severity != Severity.ERROR:
            return plain, finding
        return replace(plain, passed=False, reason=finding.message), finding

    def _right(self, pair: Pair) -> findings.Right | None:
        labels = np.array(self._items.seen_labels)
        known = labels >= 0
        if not self._deciding or not known.any():
            return None
        inference, training = (self._joined(side)[known] == labels[known] for side in (pair.reference, pair.actual))
        counts = (inference, training, inference & ~training, training & ~inference)
        return findings.Right(int(known.sum()), *(int(np.count_nonzero(c)) for c in counts))

    def _agreement(self, pair: Pair, name: str) -> float | None:
        if not self._deciding or name.removesuffix("/logits") != self._deciding or pair.actual not in self._answers:
            return None
        return compare.agreement(self._joined(pair.actual), self._joined(pair.reference))

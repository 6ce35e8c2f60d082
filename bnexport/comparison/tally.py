"""Adding up a check batch by batch: differences between the sides, and each side's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bnexport.comparison.answers import Answers, allow
from bnexport.comparison.expectations import Expectation, Expected, expectations
from bnexport.comparison.pairs import Lost, Pair
from bnexport.comparison.selected import Reselection, SelectedRows
from bnexport.comparison.sides import Outputs
from bnexport.comparison.tasks import TaskMeasures
from bnexport.datasets.feeds import Feed
from bnexport.errors import UsageError
from bnexport.numerics import compare
from bnexport.onnx_graph.quantised import Quantised
from bnexport.results.actions import Action
from bnexport.results.heads import Heads
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.rounding import LARGEST, Cost, Rounding
from bnexport.results.runs import Mode, RunSpec
from bnexport.results.tolerance import LEAST, Limit, Tolerances
from bnexport.results.verdict import Comparison, Difference, Finding, Severity
from bnexport.rules import modes, runtime, selected_rows
from bnexport.rules.half_precision import cost_of_half_precision
from bnexport.rules.measured import NO_LIMITS, AnswerLimits
from bnexport.rules.quantization import cost_of_quantisation
from bnexport.system.suggestions import suggest

_NOTHING = Difference(0, 0.0, float("nan"), float("nan"), float("nan"), 0.0, float("-inf"), 0, 0)


class Tally:
    """What is known so far about a check.

    Args:
        runs: what is executed.
        heads: what the model gives out.
        tolerances: how close is close enough.
        noun: what the runs are executed on.
        quantised: how the graphs of quantised runs are quantised, by id.
        limits: how many answers reduced precision may cost.
        reselection: chooses rows as the reference does; None where there is no such graph.
    """

    def __init__(
        self,
        runs: Sequence[RunSpec],
        heads: Heads,
        tolerances: Tolerances,
        noun: Noun = IMAGES,
        quantised: Mapping[str, Quantised] | None = None,
        limits: AnswerLimits = NO_LIMITS,
        reselection: Reselection | None = None,
    ) -> None:
        self.noun = noun
        self.answers = Answers([run.id for run in runs], heads)
        self.heads = heads
        self.tolerances = tolerances
        """How close is close enough, as far as floors are measured yet."""
        self._own_floors: dict[str, dict[tuple[str, str], float]] = {}
        self._pairs = [
            Pair(expectation, heads, TaskMeasures(heads), SelectedRows(heads.rows, heads.inner, reselection))
            for expectation in expectations(runs)
        ]
        self.references = frozenset(pair.reference for pair in self._pairs)
        """The ids of the runs that others are compared with."""
        self._quantised = quantised or {}
        self.limits = limits
        self.costs: dict[tuple[str, str], Cost] = {}

    def begin(self, batch: Feed, outputs: Outputs) -> None:
        """One more batch, with what the first run computed on it.

        Raises:
            InputError: a label is not a class of the model.
        """
        self.answers.begin(batch, outputs)

    def add(self, run: str, batch: Feed, outputs: Outputs, recorded: Mapping[str, Outputs]) -> None:
        """What a run computed on a batch that has begun, and what the runs computed that it is compared with."""
        self.answers.add(run, batch, outputs)
        for pair in self._pairs:
            if pair.actual == run:
                pair.add(batch, outputs, recorded[pair.reference])

    def refuse_unknown(self, tables: Sequence[Mapping[str, float]]) -> None:
        """Refuses tolerances for tensors that were not compared, and data of which nothing was.

        Raises:
            UsageError: there is no tensor of that name.
            InputError: no run selects a row from the data, and nothing else is compared.
        """
        for pair in self._pairs:
            pair.refuse_nothing(self._passes(pair))
        names = {self.heads.shown(name) for pair in self._pairs for name in [*pair.running, *pair.broken]}
        for name in {name for table in tables for name in table} - names - {""}:
            unknown = f"a tolerance names the tensor {name}, which is not compared"
            raise UsageError(unknown, expected=", ".join(sorted(names)), fix=suggest(name, names))

    @property
    def modes_differ(self) -> bool:
        """Whether training and inference mode answer differently."""
        return any(f.code == "BN005" for f in self.judge((), ())[1])

    def judge(
        self, causes: Sequence[str], remedy: Sequence[Action], unexamined: str = ""
    ) -> tuple[list[Comparison], list[Finding]]:
        """Every comparison with its verdict, and what follows where the modes differ.

        Args:
            causes: the codes of findings that say that the moving statistics are wrong.
            remedy: what to do where the modes differ.
            unexamined: why the statistics could not be examined; "" where they were.
        """
        comparisons: list[Comparison] = []
        findings: list[Finding] = []
        for pair in self._pairs:
            if pair.expected == Expected.EQUAL:
                comparisons += self._held(pair)
            elif pair.expected == Expected.MODES:
                between = [self._between_modes(pair, name, causes, remedy, unexamined) for name in pair.running]
                comparisons += [comparison for comparison, _ in between]
                findings += [finding for _, finding in between[:1] if finding]
            elif pair.expected in (Expected.QUANTIZED, Expected.HALF):
                compared = self._held(pair)
                cost = self._cost(pair, compared)
                comparisons += [allow(c, answers=False) for c in compared] if _is_affordable(cost) else compared
                findings += [cost] if cost else []
            elif pair.expected == Expected.AS_DEPLOYED:
                compared = self._held(pair)
                comparisons += [allow(comparison) for comparison in compared]
                imprecise = [c for c in compared if not c]
                findings += [runtime.reduced_precision(c, pair.expectation.actual, self.noun) for c in imprecise[:1]]
        return [self.answers.items.in_list_order(comparison) for comparison in comparisons], findings

    def _cost(self, pair: Pair, compared: Sequence[Comparison]) -> Finding | None:
        """What the precision costs: QT001 or RT003; None where nothing can be compared, or 16 bits do not explain the difference."""
        cost = self.costs.get(pair.key)
        right = self.answers.right(pair.actual, pair.reference)
        if pair.expected == Expected.HALF:
            if self.tolerances.given:
                return None  # the tolerance decides
            actual, limits, noun = pair.expectation.actual, self.limits, self.noun
            onnx = actual.artifact == "onnx"  # .tflite and OpenVINO IR: floats are made of the weights first
            return cost_of_half_precision(
                compared, actual.precision, cost, right=right, limits=limits, noun=noun, computes=onnx
            )
        how = self._quantised.get(pair.actual) or self._quantised[pair.reference]
        alone = pair.reference in self._quantised
        return cost_of_quantisation(
            compared,
            how.described,
            dynamic=how.dynamic,
            right=None if alone else right,
            alone=alone,
            cost=cost,
            limits=self.limits,
            noun=self.noun,
        )

    def of_reduced_precision(self) -> list[Lost]:
        """The pairs of runs of different precision that are not equal, each with the batch on which they differ most."""
        pairs = []
        for pair in self._pairs:
            if pair.expected in (Expected.QUANTIZED, Expected.HALF) and pair.worst is not None:
                compared = self._held(pair)
                if any(c.difference.max_abs != 0 for c in compared):
                    pairs.append(Lost(pair, tuple(compared), *pair.worst))
        return pairs

    def verdict_on_cost(self, pair: Pair) -> Finding | None:
        """What the precision of a pair costs, by what is known so far: QT001 or RT003."""
        return self._cost(pair, self._held(pair))

    def add_cost(self, pair: Pair, cost: Cost) -> None:
        """Takes what the precision of a pair explains: its limits follow from it."""
        self.costs[pair.key] = cost

    def uneven(self) -> Finding | None:
        """RT008 where rounding makes two sides select other rows, other than two modes, whose scores differ by more."""
        pairs = [pair for pair in self._pairs if pair.expected not in (Expected.MODES, Expected.ALTERNATIVE)]
        return selected_rows.other_rows([rows for pair in pairs for rows in pair.other_rows(self._passes(pair))])

    def _passes(self, pair: Pair) -> Callable[[str], bool]:
        return lambda name: bool(self._parity(pair, name))

    def lost(self) -> list[Lost]:
        """The pairs that must be equal and are not, or that differ by more than their precision explains or may cost."""
        findings = []
        for pair in self._pairs:
            if pair.expected not in (Expected.EQUAL, Expected.QUANTIZED, Expected.HALF) or pair.worst is None:
                continue
            compared = self._held(pair)
            failed = tuple(c for c in compared if not c)
            if pair.expected != Expected.EQUAL:
                explained = (cost := self.costs.get(pair.key)) is not None and cost.explained
                if explained or _is_affordable(self._cost(pair, compared)):
                    failed = ()
            if failed:
                findings.append(Lost(pair, tuple(map(self.answers.items.in_list_order, failed)), *pair.worst))
        return findings

    def raise_floors(self, floors: Mapping[tuple[str, str], float], method: str, images: int) -> None:
        """Takes the larger ones of the floors so far and these, which were measured by a method on so many images."""
        now = self.tolerances
        larger = {key: max(floor, now.floors.get(key, 0.0)) for key, floor in floors.items()}
        self.tolerances = replace(
            now, floors={**now.floors, **larger}, images=now.images or images, method=now.method or method
        )

    def add_own_floors(self, run: str, floors: Mapping[tuple[str, str], float]) -> None:
        """Floors of a run that computes in float64, too: where they are larger than those of the reference they count, for this run."""
        self._own_floors[run] = {**self._own_floors.get(run, {}), **floors}

    def matches_other_mode(self, actual: str) -> bool:
        """Whether a file that another exporter made computes what the reference computes in training mode."""
        pairs = [pair for pair in self._pairs if pair.expected == Expected.ALTERNATIVE and pair.actual == actual]
        return any(compared and all(compared) for compared in map(self._held, pairs))

    def agree(self, mode: Mode, actual: Outputs, reference: Outputs, as_in: Pair | None = None) -> bool:
        """Whether the outputs of one batch are close enough; `as_in`: as two runs must be, by what their precision explains."""
        spec = RunSpec("actual", mode, "")
        equal = Expectation(spec, replace(spec, runtime="reference"), Expected.EQUAL, mode)
        pair = Pair(
            equal if as_in is None else as_in.expectation,
            self.heads,
            rows=SelectedRows(self.heads.rows, self.heads.inner),
        )
        pair.add(Feed({}, (), np.array([], np.int64)), actual, reference)
        return all(self._held(pair, by_rms=False))

    def _held(self, pair: Pair, *, by_rms: bool = True) -> list[Comparison]:
        return [self._parity(pair, name, by_rms=by_rms) for name in pair.judged_tensors(self._passes(pair))]

    def _parity(self, pair: Pair, name: str, *, by_rms: bool = True) -> Comparison:
        running, shown = pair.difference(name), self.heads.shown(name)
        problem = pair.rows_problem(name, self._passes(pair))
        if name in pair.broken or running is None:
            reason = pair.broken.get(name, problem)
            return Comparison(pair.actual, pair.reference, shown, _NOTHING, 0.0, None, False, reason)
        comparison = compare.judge(
            pair.actual,
            pair.reference,
            shown,
            running.result(),
            self._limit(pair, name, running.result().scale),
            self.answers.agreement(pair.actual, pair.reference, name),
        )
        comparison = replace(comparison, task=pair.task(name))
        if problem:
            comparison = replace(comparison, passed=False, reason=comparison.reason or problem)
        elif not comparison and (otherwise := pair.evidence_problem(name)):
            comparison = replace(comparison, reason=f"{comparison.reason}; {otherwise}")
        rounding = self._rounding(pair, name) if by_rms else None
        return comparison if rounding is None else compare.judge_rounding(comparison, rounding)

    def _rounding(self, pair: Pair, name: str) -> Rounding | None:
        """What the precision explains of a tensor; None where that is not known, or a tolerance was given."""
        cost = self.costs.get(pair.key)
        return None if cost is None or self.tolerances.given else cost.tensors.get(name)

    def _limit(self, pair: Pair, name: str, size: float) -> Limit:
        logits = pair.running.get(f"{name}/logits")
        scale = None if logits is None else logits.result().scale
        tolerances = (
            replace(self.tolerances, floors={}, half=True) if pair.expected == Expected.HALF else self.tolerances
        )
        if (rounding := self._rounding(pair, name)) is not None:
            largest = LARGEST * rounding.expected_max
            return Limit(max(largest / size, LEAST) if size else 0.0, 0.0 if size else largest)
        if own := self._own_floors.get(pair.actual):
            floors = tolerances.floors
            larger = {key: max(own.get(key, 0.0), floors.get(key, 0.0)) for key in own.keys() | floors.keys()}
            tolerances = replace(tolerances, floors=larger)
        return tolerances.limit(pair.expectation.mode, name, self.heads.shown(name), scale)

    def _between_modes(
        self, pair: Pair, name: str, causes: Sequence[str], remedy: Sequence[Action], unexamined: str
    ) -> tuple[Comparison, Finding | None]:
        difference, agreement = pair.running[name].result(), self.answers.agreement(pair.actual, pair.reference, name)
        between, infinite = (pair.actual, pair.reference, self.heads.shown(name)), float("inf")
        plain = Comparison(*between, difference, infinite, agreement, passed=True, task=pair.task(name))
        if pair.actual in self.answers.items_not_finite and pair.reference in self.answers.items_not_finite:
            return plain, None  # one such item makes the statistics of its whole batch not finite: RT006 speaks
        right = self.answers.right(pair.actual, pair.reference)
        finding = modes.modes_disagree(
            plain, right=right, causes=causes, unexamined=unexamined, remedy=remedy, noun=self.noun
        )
        if finding is None or finding.severity != Severity.ERROR:
            return plain, finding
        return replace(plain, passed=False, reason=finding.message), finding


def _is_affordable(cost: Finding | None) -> bool:
    """Whether two runs of different precision pass, by what it costs."""
    return cost is not None and cost.severity != Severity.ERROR

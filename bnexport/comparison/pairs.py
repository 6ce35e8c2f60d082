"""Two runs that are compared, and their differences, added up batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bnexport.comparison.expectations import Expectation, Expected
from bnexport.comparison.selected import SelectedRows
from bnexport.comparison.sides import Outputs
from bnexport.comparison.tasks import TaskMeasures
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.numerics.compare import IncomparableError, RunningDifference
from bnexport.results.heads import Heads
from bnexport.results.tasks import TaskResult
from bnexport.results.verdict import Comparison
from bnexport.rules.selected_rows import OtherRows
from bnexport.types import Array


@dataclass(slots=True)
class Pair:
    """Two sides that are compared.

    Args:
        expectation: which they are, and what is expected.
        heads: what the model gives out.
        tasks: the outputs in the terms of their tasks; None where that does not matter.
        running: the differences by tensor.
        broken: tensors that cannot be compared, with the reason.
        rows: which selected rows are which.
        evidence: the differences of tensors inside of a file that another exporter made, which show why its rows differ, and are no part of the verdict.
        worst: the batch with the largest difference, or the one that could not be compared, what the reference computes on it,
            and what the run that is judged does.
    """

    expectation: Expectation
    heads: Heads
    tasks: TaskMeasures | None = None
    rows: SelectedRows = field(default_factory=SelectedRows)
    running: dict[str, RunningDifference] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    worst: tuple[Feed, Outputs, Outputs] | None = None
    evidence: dict[str, RunningDifference] = field(default_factory=dict)

    @property
    def actual(self) -> str:
        """The id of the run that is judged."""
        return self.expectation.actual.id

    @property
    def reference(self) -> str:
        """The id of the run it is judged by."""
        return self.expectation.reference.id

    @property
    def key(self) -> tuple[str, str]:
        """Both ids."""
        return self.actual, self.reference

    @property
    def strict(self) -> bool:
        """Whether both sides have to select the same rows, but for rounding."""
        return self.expected in (Expected.EQUAL, Expected.ALTERNATIVE)

    def difference(self, name: str) -> RunningDifference | None:
        """The difference of a tensor; None where nothing of it was compared."""
        return self.running.get(name, self.evidence.get(name))

    @property
    def expected(self) -> Expected:
        """What is expected."""
        return self.expectation.expected

    def task(self, name: str) -> TaskResult | None:
        """How far they are apart in the terms of an output's task; None where it has none."""
        return self.tasks.result(name) if self.tasks else None

    def sources_agree(self, passes: Callable[[str], bool]) -> bool | None:
        """Whether the tensors that rows are selected from agree; None where not all were compared, or where those of another file differ.

        Args:
            passes: whether a tensor is within its tolerance.
        """
        sources = self.heads.sources
        if any(self.difference(name) is None for name in sources):
            return None
        if self.heads.selections is None:
            return None  # a bundle of an earlier version does not name them
        agree = all(passes(name) for name in sources)
        return agree if agree or all(name in self.running for name in sources) else None

    def rows_problem(self, name: str, passes: Callable[[str], bool]) -> str:
        """Why rows without a partner are no rounding, in words; "" where they may be, or where there are none."""
        counts = self.rows.counts.get(name)
        if counts is None or not counts.unmatched or not self.strict:
            return ""
        return counts.problem(self.sources_agree(passes), self.actual)

    def without_any_partner(self, passes: Callable[[str], bool]) -> list[str]:
        """Selected tensors of which no row has a partner, which no rounding explains: one of those that belong together."""
        first = [names[0] for names, _ in self.rows.without_partner({}) if not self.running.keys() & {*names}]
        return [name for name in first if self.rows_problem(name, passes)]

    def judged_tensors(self, passes: Callable[[str], bool]) -> list[str]:
        """The tensors that decide: outputs, or where no row of them is selected on either side, what rows are selected from, if all of that is compared."""
        names = [*self.running, *self.broken, *self.without_any_partner(passes)]
        return names or ([] if {*self.heads.sources} - self.evidence.keys() else list(self.evidence))

    def evidence_problem(self, name: str) -> str:
        """What else a difference may mean of a tensor that decides because no row is selected; "" of any other."""
        return (
            ""
            if self.running or self.broken or name not in self.evidence
            else (
                "neither run selects a row, and rows are selected from this tensor: it is wrong, or the file has its values in "
                "another form or order, which data from which the model selects rows would show"
            )
        )

    def refuse_nothing(self, passes: Callable[[str], bool]) -> None:
        """Refuses data of which nothing is compared.

        Raises:
            InputError: neither run selects a row from them, and there is nothing else that both compute.
        """
        if self.rows.counts and not self.judged_tensors(passes):
            raise InputError(
                f"nothing can be compared: neither {self.actual} nor {self.reference} selects a row from these data",
                fix="pass data from which the model selects rows",
            )

    def other_rows(self, passes: Callable[[str], bool]) -> list[OtherRows]:
        """Rows without a partner, which rounding explains."""
        return [
            OtherRows(self.actual, self.reference, names, counts, self.sources_agree(passes), self.strict)
            for names, counts in self.rows.without_partner(self.running)
            if not self.rows_problem(names[0], passes)
        ]

    def add(self, feed: Feed, actual: Outputs, reference: Outputs) -> None:
        """Adds one batch; logits come first, since they decide and a saturated softmax hides everything, and selected rows last."""
        selected = self.rows.match(feed, actual, reference, strict=self.strict)
        names = sorted(
            dict.fromkeys([*actual, *reference]), key=lambda name: (not name.endswith("/logits"), name in selected)
        )
        worse = self.rows.worse
        for name in names:
            if name in self.broken:
                continue
            if name not in actual or name not in reference:
                if (
                    not name.endswith("/logits") and name not in self.heads.inner
                ):  # logits may be out of reach on one side, outputs may not be missing
                    without = self.actual if name not in actual else self.reference
                    self.broken[name] = f"{without} has no such output"
                    worse = True
                continue
            a, r = selected.get(name, (actual[name], reference[name]))
            if name in selected and not a.size:
                continue  # no row has a partner
            evidence = self.expectation.actual.external and name in self.heads.inner
            tensors = self.evidence if evidence else self.running
            try:
                running = tensors.setdefault(name, RunningDifference(self.heads.natural.get(name, 0.0)))
                worse |= running.add(a, r)
            except IncomparableError as error:
                tensors.pop(name)
                if not evidence:
                    self.broken[name] = str(error)
                    worse = True
        if self.tasks:
            self.tasks.add(actual, reference)
        if worse:
            self.worst = (feed, reference, actual)


@dataclass(frozen=True, slots=True)
class Lost:
    """Two runs that must be equal and are not: the comparisons that failed, a batch that shows it, and what both compute on it."""

    pair: Pair
    failed: tuple[Comparison, ...]
    feed: Feed
    wanted: Outputs
    actual: Outputs

    def noisiest(self, count: int) -> Mapping[str, Array]:
        """The inputs of the items whose outputs differ most, and of the one with the largest output of each tensor that failed.

        All items where an output has no row for each, or where there are no more than `count`.
        """
        items = len(self.feed.names)
        rows: set[int] = set()
        distance = np.zeros(items)
        tensors = {comparison.tensor for comparison in self.failed}
        for name in self.wanted.keys() & self.actual.keys():
            if self.pair.heads.shown(name) not in tensors:
                continue
            rows_alike = self.actual[name].shape == self.wanted[name].shape and self.wanted[name].shape[:1] == (items,)
            if not rows_alike or self.wanted[name].dtype.kind not in "biuf":
                return self.feed.inputs
            a, r = (np.asarray(x[name], np.float64) for x in (self.actual, self.wanted))
            if not np.isfinite(a - r).all():
                return self.feed.inputs
            size = np.abs(r.reshape(items, -1)).max(axis=1)
            rows.add(int(size.argmax()))
            distance = np.maximum(distance, np.abs(a - r).reshape(items, -1).max(axis=1) / (size.max() or 1.0))
        if not rows or items <= count or any(not x.ndim or len(x) != items for x in self.feed.inputs.values()):
            return self.feed.inputs
        most = [int(row) for row in np.argsort(-distance, kind="stable") if int(row) not in rows]
        chosen = sorted([*rows, *most][:count])
        return {name: x[chosen] for name, x in self.feed.inputs.items()}

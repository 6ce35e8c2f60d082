"""Two runs that are compared, and their differences, added up batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bnexport.comparison.expectations import Expectation, Expected
from bnexport.comparison.selected import SelectedRows
from bnexport.comparison.sides import Outputs
from bnexport.comparison.tasks import TaskMeasures
from bnexport.datasets.feeds import Feed
from bnexport.numerics.compare import IncomparableError, RunningDifference
from bnexport.results.heads import Heads
from bnexport.results.tasks import TaskResult
from bnexport.results.verdict import Comparison
from bnexport.rules.selected_rows import OtherRows


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
        worst: the batch with the largest difference, or the one that could not be compared, and what the reference computes on it.
    """

    expectation: Expectation
    heads: Heads
    tasks: TaskMeasures | None = None
    rows: SelectedRows = field(default_factory=SelectedRows)
    running: dict[str, RunningDifference] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    worst: tuple[Feed, Outputs] | None = None
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
            self.worst = (feed, reference)


@dataclass(frozen=True, slots=True)
class Lost:
    """Two runs that must be equal and are not: the comparisons that failed, a batch that shows it, and what the reference computes on it."""

    pair: Pair
    failed: tuple[Comparison, ...]
    feed: Feed
    wanted: Outputs

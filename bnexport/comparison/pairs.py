"""Two runs that are compared, and their differences, added up batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnexport.comparison.expectations import Expectation, Expected
from bnexport.comparison.sides import Outputs
from bnexport.comparison.tasks import TaskMeasures
from bnexport.datasets.feeds import Feed
from bnexport.numerics.compare import IncomparableError, RunningDifference
from bnexport.results.heads import Heads
from bnexport.results.tasks import TaskResult


@dataclass(slots=True)
class Pair:
    """Two sides that are compared.

    Args:
        expectation: which they are, and what is expected.
        heads: what the model gives out.
        tasks: the outputs in the terms of their tasks; None where that does not matter.
        running: the differences by tensor.
        broken: tensors that cannot be compared, with the reason.
        worst: the batch with the largest difference, or the one that could not be compared, and what the reference computes on it.
        uneven: in how many batches the number of selected rows was another one on both sides, by tensor.
    """

    expectation: Expectation
    heads: Heads
    tasks: TaskMeasures | None = None
    running: dict[str, RunningDifference] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    worst: tuple[Feed, Outputs] | None = None
    uneven: dict[str, int] = field(default_factory=dict)

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
    def expected(self) -> Expected:
        """What is expected."""
        return self.expectation.expected

    def task(self, name: str) -> TaskResult | None:
        """How far they are apart in the terms of an output's task; None where it has none."""
        return self.tasks.result(name) if self.tasks else None

    def add(self, feed: Feed, actual: Outputs, reference: Outputs) -> None:
        """Adds one batch; logits come first, since they decide and a saturated softmax hides everything."""
        names = sorted(dict.fromkeys([*actual, *reference]), key=lambda name: not name.endswith("/logits"))
        worse = False
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
            if name in self.heads.selected and actual[name].shape != reference[name].shape:
                self.uneven[name] = self.uneven.get(name, 0) + 1
                continue
            if name in self.heads.selected and not actual[name].size:
                continue  # nothing was selected, on both sides
            try:
                running = self.running.setdefault(name, RunningDifference(self.heads.natural.get(name, 0.0)))
                worse |= running.add(actual[name], reference[name])
            except IncomparableError as error:
                self.running.pop(name)
                self.broken[name] = str(error)
                worse = True
        if self.tasks:
            self.tasks.add(actual, reference)
        if worse:
            self.worst = (feed, reference)

"""Record once, replay anywhere: the one loop of check, verify and recalibrate.

A baseline is a part of the data with what was computed on it. Runs are executed on it one after another, so that no two of them need
the machine at the same time, and each is compared with what was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bnexport.comparison.sides import Outputs, Runner
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.progress import Progress

PART = 64 << 20
"""A baseline takes batches until their inputs, and the outputs of the first run, have so many bytes."""


@dataclass(slots=True)
class Baseline:
    """Batches, and what was computed on each of them by the runs that others are compared with.

    Args:
        batches: the inputs, with names and labels.
        outputs: for each batch, by the id of the run.
    """

    batches: list[Feed] = field(default_factory=list)
    outputs: list[dict[str, Outputs]] = field(default_factory=list)

    def add(self, batch: Feed, outputs: dict[str, Outputs]) -> None:
        """One more batch, with what was computed on it."""
        self.batches.append(batch)
        self.outputs.append(outputs)

    @property
    def count(self) -> int:
        """How many items there are."""
        return sum(len(batch.names) for batch in self.batches)


def compare(
    dataset: Iterable[Feed], runs: Sequence[Runner], tally: Tally, progress: Progress, part: int = PART
) -> None:
    """Executes runs on the data, part by part, and adds up what they compute.

    Args:
        dataset: the batches.
        runs: each after those it is compared with.
        tally: takes the outputs.
        progress: advances by one for each item and run.
        part: how many bytes a baseline has.

    Raises:
        InputError: a run cannot be executed on a batch, or a label is not a class of the model.
    """
    first, *others = runs
    batches = iter(dataset)
    while (baseline := record(batches, first, tally, progress, part)).batches:
        for run in others:
            replay(baseline, run, tally, progress)


def take(baseline: Baseline, run: str, tally: Tally) -> None:
    """Adds up what is recorded of a run in a baseline that was loaded."""
    for batch, recorded in zip(baseline.batches, baseline.outputs, strict=True):
        tally.begin(batch, recorded[run])
        tally.add(run, batch, recorded[run], {})


def record(batches: Iterator[Feed], run: Runner, tally: Tally, progress: Progress, part: int = PART) -> Baseline:
    """A baseline of the next batches, until it has `part` bytes, with what a run computes on them; it has no batch where none is left."""
    baseline, size = Baseline(), 0
    while size < part and (batch := next(batches, None)) is not None:
        outputs = run.run(batch)
        baseline.add(batch, {run.id: outputs})
        tally.begin(batch, outputs)
        tally.add(run.id, batch, outputs, {})
        size += sum(x.nbytes for x in [*batch.inputs.values(), *outputs.values()])
        progress.advance(len(batch.names))
    return baseline


def replay(baseline: Baseline, run: Runner, tally: Tally, progress: Progress) -> None:
    """Executes a run on a baseline; what it computes is kept there where another run is compared with it."""
    for batch, recorded in zip(baseline.batches, baseline.outputs, strict=True):
        outputs = run.run(batch)
        tally.add(run.id, batch, outputs, recorded)
        if run.id in tally.references:
            recorded[run.id] = outputs
        progress.advance(len(batch.names))

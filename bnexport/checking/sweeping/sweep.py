"""What a check never tried: other batch sizes, other sizes, items of zeros and of NaN (`check --sweep`), each against the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bnexport.checking.judging import Judge
from bnexport.checking.mismatch import Inquiry
from bnexport.checking.repeat import Repetition
from bnexport.checking.sweeping import findings as sweep_findings, items as sweep_items
from bnexport.checking.sweeping.baked import shorten
from bnexport.checking.sweeping.findings import Failure
from bnexport.checking.sweeping.inputs import (
    BATCHES,
    PARTIAL,
    Axis,
    Change,
    batch_is_open,
    fixed_axes,
    is_small_enough,
    open_axes,
    resize,
    size_changes,
    take,
)
from bnexport.comparison.opening import Opening
from bnexport.comparison.port_matching import shapes_in_layout
from bnexport.comparison.sides import Outputs, Runner, reference_sides
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError, MachineError
from bnexport.onnx_graph import tensors
from bnexport.progress import Progress
from bnexport.results.runs import Role
from bnexport.results.sweep import SweepCase, SweepOutcome
from bnexport.results.verdict import Finding

ITEMS = 2
"""Other sizes are tried on so many items."""

TOO_LARGE = "the input would be too large"
"""The reason why a case is not tried."""


@dataclass(slots=True)
class Sweep:
    """A sweep that is under way.

    Args:
        opening: what is open.
        reference: the run that others are compared with.
        runners: the runs that are tried.
        first: a batch of the data.
        judge: compares.
        inquiry: finds the layer where a difference begins.
        progress: notified of each case.
        cases: what was tried so far.
        failures: what failed so far.
        findings: what follows from NaN.
    """

    opening: Opening
    reference: Runner
    runners: Sequence[Runner]
    first: Feed
    judge: Judge
    inquiry: Inquiry
    progress: Progress
    cases: list[SweepCase] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether items that come again must be the same: recorded outputs belong to items, and pixels have no fractions."""
        deployed = self.opening.deployed
        return self.reference.of_items is not None or bool(deployed is not None and deployed.interface.pixels)

    def batches(self) -> None:
        """Other batch sizes, the last one as the partial batch after a full one."""
        names = [f"batch of {count}" for count in BATCHES] + [f"batch of {PARTIAL[1]} after one of {PARTIAL[0]}"]
        reason = ""
        if not batch_is_open(self.opening.subject):
            reason = "the reference fixes the batch size"
        elif self.opening.deployed is not None and self.opening.deployed.interface.batch is not None:
            reason = f"the file fixes the batch size to {self.opening.deployed.interface.batch} (EX004)"
        if reason:
            self.skip("batch", names, reason)
            return
        axis = Axis("the batch size", (), len(self.first.names))
        for name, counts in zip(names, [*((count,) for count in BATCHES), PARTIAL], strict=True):
            self.progress.stage(f"sweeping: {name}")
            *before, feed = [take(self.first, count, exact=self.exact) for count in counts]
            if not all(is_small_enough(batch, self.first) for batch in (*before, feed)):
                self.skip("batch", [name], TOO_LARGE)
                continue
            changes = (Change(axis, len(feed.names)),)
            self.attempt("batch", name, feed, changes, before)

    def sizes(self) -> None:
        """Other sizes of the other open axes."""
        deployed, subject = self.opening.deployed, self.opening.subject
        axes = open_axes(subject, self.first)
        if self.reference.of_items is not None and axes:
            self.skip("size", [axis.name for axis in axes], "recorded outputs belong to the items of the data")
            return
        shapes = _file_shapes(self.opening) if deployed is not None else {}
        fixed = {axis.name: reason for axis in axes if (reason := fixed_axes(shapes, axis))}
        for name, reason in fixed.items():
            self.skip("size", [name], reason)
        base = take(self.first, self.count(ITEMS), exact=self.exact)
        for ways in size_changes([axis for axis in axes if axis.name not in fixed]):
            for changes in ways:
                name = ", ".join(change.described for change in changes)
                self.progress.stage(f"sweeping: {name}")
                feed = resize(base, changes, exact=self.exact)
                if not is_small_enough(feed, self.first):
                    self.skip("size", [name], TOO_LARGE)
                elif not self.attempt("size", name, feed, tuple(changes)):
                    continue
                break

    def count(self, wanted: int) -> int:
        """How many items are run together: as many as in the data where other batch sizes fail."""
        whole = any(failure.group == "batch" for failure in self.failures) or not batch_is_open(self.opening.subject)
        if whole or not is_small_enough(take(self.first, wanted, exact=True), self.first):
            return len(self.first.names) if whole else min(wanted, len(self.first.names))
        return wanted

    def skip(self, group: str, names: Iterable[str], reason: str) -> None:
        """Notes cases that are not tried."""
        self.cases += [SweepCase(group, name, "", SweepOutcome.NOT_TRIED, reason=reason) for name in names]

    def compute_wanted(self, group: str, name: str, feed: Feed) -> Outputs | None:
        """What the reference computes; None, with a note among the cases, where it does not run on such a batch."""
        try:
            return self.reference.of_items(feed) if self.reference.of_items else self.reference.compute(feed.inputs)
        except InputError as error:
            self.cases.append(SweepCase(group, name, "", SweepOutcome.REFUSED, reason=shorten(error)))
        except MachineError as error:
            self.skip(group, [name], str(error))
        return None

    def attempt(
        self, group: str, name: str, feed: Feed, changes: tuple[Change, ...], before: Sequence[Feed] = ()
    ) -> bool:
        """Tries a batch on every run; whether the reference took it."""
        wanted = self.compute_wanted(group, name, feed)
        if wanted is None:
            return False
        for runner in self.runners:
            outcome, failure = self.compare(group, name, runner, feed, wanted, before)
            self.cases.append(outcome)
            if failure is not None:
                self.failures.append(replace(failure, changes=changes))
        return True

    def compare(
        self, group: str, name: str, runner: Runner, feed: Feed, wanted: Outputs, before: Sequence[Feed] = ()
    ) -> tuple[SweepCase, Failure | None]:
        """One run on one batch, with what failed."""
        case = SweepCase(group, name, runner.id, SweepOutcome.PASSED)
        try:
            for other in before:
                runner.compute(other.inputs)
            actual = runner.compute(feed.inputs)
        except MachineError as error:
            return replace(case, outcome=SweepOutcome.NOT_TRIED, reason=str(error)), None
        except InputError as error:
            failed = replace(case, outcome=SweepOutcome.FAILED, reason=shorten(error))
            return failed, Failure(group, name, runner, feed, wanted, shorten(error), stopped=True)
        verdict = self.judge.with_reference(runner, self.reference, feed, actual, wanted)
        case = replace(case, max_rel=verdict.max_rel, tolerance=verdict.tolerance)
        if verdict:
            return case, None
        if self.judge.is_unstable(self.reference, feed, wanted, verdict):
            reason = f"{verdict.reason}; the reference moves as much where its input moves by a millionth"
            return replace(case, outcome=SweepOutcome.UNDECIDED, reason=reason), None
        failed = replace(case, outcome=SweepOutcome.FAILED, reason=verdict.reason)
        return failed, Failure(group, name, runner, feed, wanted, verdict.reason, verdict.max_rel)


def _file_shapes(opening: Opening) -> Mapping[str, tuple[int | None, ...]]:
    """The shapes of the inputs of the deployed file, by the names and in the layout of the reference."""
    if opening.deployed is None:
        return {}
    interface = opening.deployed.interface
    stated = {info.name: tensors.shape(info) or () for info in tensors.inputs(opening.deployed.graph)}
    return shapes_in_layout(stated, interface.inputs, interface.moved_in)


def sweep(
    opening: Opening,
    runners: Sequence[Runner],
    first: Feed,
    judge: Judge,
    inquiry: Inquiry,
    repetition: Repetition,
    progress: Progress,
) -> tuple[tuple[SweepCase, ...], list[Finding]]:
    """Tries everything, and says what failed.

    Args:
        opening: what is open.
        runners: everything that was run on the data.
        first: a batch of the data.
        judge: compares, by the tolerances of the check.
        inquiry: what became of the comparisons on the data.
        repetition: what became of the same input twice.
        progress: notified of each case.
    """
    candidates = [
        runner
        for runner in runners
        if runner.mode == "inference" and runner.spec.role == Role.CANDIDATE and not runner.spec.as_deployed
    ]
    controls = [r for r in runners if r.mode == "inference" and r.spec.role == Role.CONTROL]
    cases = list(repetition.cases)
    if not controls:
        return tuple(cases), []
    [reference, *_] = controls
    if reference.id in repetition.varying:
        reason = "the reference is not deterministic (RT013)"
        return (*cases, SweepCase("batch", "everything else", "", SweepOutcome.NOT_TRIED, reason=reason)), []
    lost = {lost.pair.actual for lost in inquiry.tally.lost()}
    tried = []
    for runner in candidates:
        varies = runner.id in repetition.varying
        if varies or runner.id in lost:
            reason = (
                "it is not deterministic (RT013)" if varies else "it differs from the reference on the data already"
            )
            cases.append(SweepCase("batch", "everything else", runner.id, SweepOutcome.NOT_TRIED, reason=reason))
        else:
            tried.append(runner)
    if reference.spec.artifact:  # optimisations that change nothing on the data may do so on other sizes
        [reference] = reference_sides(opening.subject.reference)
    state = Sweep(opening, reference, tried, first, judge, inquiry, progress, cases)
    if tried:
        state.batches()
        state.sizes()
        sweep_items.zeros_and_nan(state)
        state.findings += sweep_findings.explain(state.failures, tried, reference, judge, inquiry)
    return tuple(state.cases), state.findings

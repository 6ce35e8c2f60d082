"""What the failures of a sweep mean: which axis, and which node ties the file to its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bnexport.checking.judging import Judge
from bnexport.checking.mismatch import Inquiry
from bnexport.checking.sweeping.baked import SOUND, Cause, as_pairs, elsewhere, find_cause, is_plain
from bnexport.checking.sweeping.inputs import Change
from bnexport.comparison.sides import Outputs, Runner
from bnexport.datasets.feeds import Feed
from bnexport.numerics.depth import first_off
from bnexport.results.verdict import Finding
from bnexport.rules.backends import RT010
from bnexport.rules.export import EX001
from bnexport.rules.rule import Rule
from bnexport.rules.sweep import EX010, differs_on_zeros, size_baked_in


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed on a batch which the reference takes.

    Args:
        group: "batch", "size" or "zeros".
        case: what was tried, in words.
        runner: the run.
        feed: the batch.
        wanted: what the reference computes for it.
        reason: the error, or the difference in words.
        max_rel: the difference; NaN where there is none.
        stopped: whether the run stopped with an error.
        changes: the axes of another size.
    """

    group: str
    case: str
    runner: Runner
    feed: Feed
    wanted: Outputs
    reason: str
    max_rel: float = float("nan")
    stopped: bool = False
    changes: tuple[Change, ...] = ()

    @property
    def axes(self) -> str:
        """The axes, in words."""
        return " and ".join(change.axis.name for change in self.changes)

    @property
    def sizes(self) -> str:
        """Their sizes in the data, in words."""
        return " and ".join(str(change.axis.size) for change in self.changes)


def explain(
    failures: Sequence[Failure], runners: Sequence[Runner], reference: Runner, judge: Judge, inquiry: Inquiry
) -> list[Finding]:
    """A finding for each axis, and one for zeros.

    Args:
        failures: what failed.
        runners: the runs that were tried.
        reference: the run that others are compared with.
        judge: compares.
        inquiry: finds the layer where a difference begins.
    """
    findings = []
    zeros = [failure for failure in failures if failure.group == "zeros"]
    for group in [zeros, *_by_axis([failure for failure in failures if failure.group != "zeros"]).values()]:
        sound = any(map(is_plain, runners)) and not any(is_plain(failure.runner) for failure in group)
        for rule, part in _by_rule(group, file_is_sound=sound):
            if group is zeros:
                sides, numbers = [failure.runner.id for failure in part], {"max_rel": part[0].max_rel}
                plain = EX001 if rule is EX010 else rule
                findings.append(differs_on_zeros(sides, part[0].reason, numbers, judge.noun, plain))
            else:
                findings.append(_finding(rule, part, reference, judge, inquiry))
    return findings


def _by_axis(failures: Sequence[Failure]) -> Mapping[str, list[Failure]]:
    """The failures by what they change; several axes together only where none of them fails alone."""
    alone = {(f.runner.id, f.changes[0].axis.name) for f in failures if len(f.changes) == 1}
    groups: dict[str, list[Failure]] = {}
    for failure in failures:
        if len(failure.changes) > 1 and any((failure.runner.id, c.axis.name) in alone for c in failure.changes):
            continue
        groups.setdefault(failure.axes, []).append(failure)
    return groups


def _by_rule(failures: Sequence[Failure], *, file_is_sound: bool) -> Iterator[tuple[Rule, list[Failure]]]:
    """The failures by the rule that they are: where the file is right in onnxruntime on the CPU, its runtime or provider is wrong."""
    groups: dict[str, tuple[Rule, list[Failure]]] = {}
    for failure in failures:
        rule = elsewhere(failure.runner) if file_is_sound else EX010
        if not failure.runner.spec.artifact:
            rule = RT010
        groups.setdefault(rule.code, (rule, []))[1].append(failure)
    yield from groups.values()


def _finding(rule: Rule, failures: Sequence[Failure], reference: Runner, judge: Judge, inquiry: Inquiry) -> Finding:
    shown = next((failure for failure in failures if is_plain(failure.runner)), failures[0])
    cause = Cause((), SOUND if shown.runner.spec.artifact else "", rule)
    if rule is EX010:

        def right(outputs: Outputs) -> bool:
            return bool(judge.with_reference(shown.runner, reference, shown.feed, outputs, shown.wanted))

        judge.progress.stage(f"finding what depends on {shown.axes}")
        cause = find_cause(
            shown.runner, shown.feed.inputs, as_pairs(shown.changes), right, batch=shown.group == "batch"
        )
        if not cause.text and not shown.stopped:
            first = first_off(inquiry.layers(shown.runner, shown.feed.inputs))
            if first is not None:
                cause = Cause((first.name,), f"the first layer that differs is {first.name} ({first.kind})", cause.rule)
    return size_baked_in(
        list(dict.fromkeys(failure.runner.id for failure in failures)),
        shown.axes,
        shown.sizes,
        list(dict.fromkeys(failure.case for failure in failures)),
        shown.reason,
        cause.text,
        cause.nodes,
        cause.rule,
    )

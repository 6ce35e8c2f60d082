"""What a check consists of: every run on the same batches, compared, and what that means."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from bnexport.checking import one_by_one, quantisation, randomness, speed, target_runs
from bnexport.checking.company import Company
from bnexport.checking.judging import Judge
from bnexport.checking.mismatch import Inquiry
from bnexport.checking.repeat import repeat
from bnexport.checking.runs import open_runs
from bnexport.checking.sweeping.sweep import sweep
from bnexport.comparison import floors, precision
from bnexport.comparison.engine import compare
from bnexport.comparison.opening import Opening
from bnexport.comparison.selected import Reselection
from bnexport.comparison.tally import Tally
from bnexport.errors import EndedError, RefusedError
from bnexport.numerics.drift import drift
from bnexport.onnx_graph.tensors import refuse_empty_outputs
from bnexport.progress import Progress
from bnexport.recalibration.remedy import advice, in_inference_mode, with_remedy
from bnexport.recalibration.settling import settle
from bnexport.recalibration.trial import ENOUGH, FEW, Trial, Untried, try_recalibration
from bnexport.results.facts import SHOWN, ImageFacts
from bnexport.results.nouns import noun_of
from bnexport.results.runs import Role
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import CheckReport, Finding
from bnexport.rules import inputs as input_rules, model_files, modes, runtime, targets as target_rules
from bnexport.rules.actions import add_files
from bnexport.rules.backends import backend_rounds
from bnexport.rules.diagnose import STATISTICS_WRONG, diagnose
from bnexport.rules.label_order import labels_in_another_order
from bnexport.rules.measured import AnswerLimits
from bnexport.rules.rule import sort_findings
from bnexport.runtimes.environment import environment


@dataclass(frozen=True, slots=True)
class Examination:
    """A report, the tolerances by which it was made, what was run, prepared as in the report, and the ids of the runs of what is deployed."""

    report: CheckReport
    tolerances: Tolerances
    opening: Opening
    deployed: frozenset[str]


def examine(opening: Opening, progress: Progress) -> Examination:
    """Runs and compares everything that a check consists of; again without a target whose process ends, or that refuses a batch, in the middle.

    Raises:
        InputError: no image can be read, a graph does not run, or an output has an axis of size 0.
        UsageError: a tolerance names a tensor that there is not.
        MachineError: a required provider does not run.
    """
    ended: list[Finding] = []
    refuse_empty_outputs(opening.subject.graph)
    while True:
        try:
            return _examine(opening, ended, progress)
        except (EndedError, RefusedError) as error:
            if not error.target or (error.target in opening.request.require and isinstance(error, EndedError)):
                raise
            progress.note(f"the target {error.target} fails: the check goes on without it ({error})")
            files = target_runs.CheckedFiles(opening, progress)
            ended.append(target_runs.end_of_target(error, opening.targets, files))
            opening = replace(opening, targets=[t for t in opening.targets if t.text != error.target])


def _examine(opening: Opening, ended: Sequence[Finding], progress: Progress) -> Examination:
    settled = settle(opening.subject, opening.feeds, opening.preparation, progress)
    opening = replace(opening, feeds=settled.feeds.shuffle(), preparation=settled.preparation)
    request, subject, feeds = opening.request, opening.subject, opening.feeds
    first = next(iter(feeds))
    spec = opening.preparation.spec if opening.preparation else None
    noun = noun_of(spec)
    progress.stage("opening onnxruntime")
    runners, failed = open_runs(opening, first, progress)
    two_files = opening.foreign and subject.reference.graph_itself
    beside = ThreadPoolExecutor(1)  # tracing Keras keeps one core busy, and onnxruntime has use for the other
    try:
        measured = beside.submit(floors.tolerances, subject, first)
        attempt = try_recalibration(subject, feeds, progress, settled.refits, FEW if two_files else ENOUGH)
        trial, unexamined = (None, attempt.reason) if isinstance(attempt, Untried) else (attempt, "")
        asked = trial and (
            not two_files or _is_remedy(trial, subject.iterations, labelled=bool((first.labels >= 0).any()))
        )
        previewed = [trial.runner] if trial and asked else []
        for runner in [*runners, *previewed]:
            if runner.remembered:
                runner.compute(first.inputs)  # opens it, while Keras is busy
        progress.stage("measuring the noise floor")
        tolerances = replace(measured.result(), rtol=request.rtol, atol=request.atol)
    finally:
        beside.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for it
    repetition = repeat(runners, first, subject, tolerances, progress, noun, load=request.sweep)
    alone, dependent = (
        one_by_one.compare(runners, first, subject, tolerances, progress, noun, repetition)
        if one_by_one.possible(subject, feeds.count)
        else ([], [])
    )
    company = Company(subject.heads(()), tolerances, subject.reference, progress, noun)
    sent = [] if dependent else [company.examine(r, first) for r in runners if r.opaque == "server"]
    runners += previewed
    tally = Tally(
        [run.spec for run in runners],
        subject.heads(feeds.classes),
        tolerances,
        noun,
        {run.id: run.quantised for run in runners if run.quantised},
        AnswerLimits(request.min_agreement, request.max_accuracy_drop),
        Reselection(subject.graph),
    )
    if opening.recorded is not None:
        for run in runners:
            tally.add_own_floors(run.id, opening.recorded.floors)
    progress.start("comparing", feeds.count * len(runners))
    compare(feeds, runners, tally, progress)
    tally.refuse_unknown([request.rtol, request.atol])
    if tolerances.floors:
        floors.where_lost(tally, subject.reference, progress, subject.graph)
    forms = precision.measure(tally, runners, subject.graph, progress)
    costs = quantisation.explain(forms, tally, progress)
    rounded = floors.where_backends_differ(tally, runners, progress)

    items = tally.answers.items
    names = items.names
    unreadable = tuple((u.name, u.reason) for u in feeds.unreadable)
    answered = {run.id: tally.answers.side(run.spec, run.seconds) for run in runners}
    before = in_inference_mode(answered.values(), foreign=opening.foreign)
    after = answered[previewed[0].id] if previewed else None
    seen = trial.evidence.statistics if trial else ()
    causes = (
        diagnose(trial.evidence, answers_differ=tally.modes_differ, stored_iterations=subject.iterations)
        if trial
        else []
    )
    order = labels_in_another_order(answered.values(), items.labels, tally.heads.classes, noun)
    remedy = advice(before, after, trial, causes if order is None else [*causes, order], noun)
    wrong = [f.code for f in causes if f.code in STATISTICS_WRONG]
    comparisons, by_mode = tally.judge(wrong, remedy, unexamined)
    preparation = opening.preparation
    by_id = {runner.id: runner for runner in runners}
    inquiry = Inquiry(
        subject, tally, by_id, spec, opening.deployed, opening.recorded, dependent, progress, forms, repetition
    )
    explained, errors = inquiry.findings(first, layers=request.layers)
    judge = Judge(subject, tally.tolerances, progress, noun)
    cases, swept = sweep(opening, runners, first, judge, inquiry, repetition, progress) if request.sweep else ((), [])
    sizes = request.speed or ((1,) if request.max_slowdown is not None else ())
    speeds = speed.measure(runners, sizes, first, progress)
    report = CheckReport(
        model=subject.facts,
        images=ImageFacts(
            request.data_name,
            len(names),
            tuple(names),
            items.labels,
            tally.heads.classes,
            unreadable,
            tuple(feeds.pictures(names[:SHOWN]).values()),
            noun,
        ),
        preprocessing=spec.as_dict() if spec else {},
        preprocessing_origin=preparation.origin if preparation else "",
        sides=tuple(answered.values()),
        comparisons=(*comparisons, *alone),
        findings=add_files(
            sort_findings(
                [
                    *opening.lost,
                    repetition.finding,
                    settled.finding,
                    *ended,
                    *failed,
                    target_rules.slower(speeds, request.max_slowdown),
                    *explained,
                    *costs,
                    *dependent,
                    *sent,
                    *swept,
                    runtime.not_finite(
                        broken := tally.answers.not_finite, len(names), noun, tally.answers.broken_before(broken)
                    ),
                    *(with_remedy(finding, remedy) for finding in causes),
                    *by_mode,
                    *(backend_rounds(lost.failed, lost.pair.expectation.actual, own) for lost, own in rounded),
                    randomness.measure(subject.reference, subject.random_layers, first, progress),
                    model_files.repair_note(subject.repairs),
                    input_rules.unreadable(unreadable, noun),
                    order,
                    input_rules.input_changes(feeds.notes),
                    modes.frozen(subject.facts.layers, seen, subject.facts.frozen, before, after, noun),
                    input_rules.assumed_preprocessing(spec.described)
                    if preparation and spec and preparation.origin.startswith("assumed")
                    else None,
                ]
            ),
            request.names(),
        ),
        environment=environment(subject.versions | opening.versions),
        tolerance=tally.tolerances.describe(noun.many),
        layers=errors,
        drift=drift(seen) if trial else None,
        deployed=str(request.onnx or ""),
        sweep=cases,
        speed=speeds,
    )
    deployed_runs = frozenset(
        run.id
        for run in runners
        if run.spec.role == Role.CANDIDATE and run.spec.artifact and run.spec.mode == "inference"
    )
    return Examination(report, tally.tolerances, opening, deployed_runs)


def _is_remedy(trial: Trial, iterations: int | None, *, labelled: bool) -> bool:
    """Whether the recalibrated graph could answer better: the statistics are wrong, or labels may show it."""
    codes = {f.code for f in diagnose(trial.evidence, answers_differ=False, stored_iterations=iterations)} - {"IN003"}
    return bool(codes if labelled else codes & STATISTICS_WRONG)

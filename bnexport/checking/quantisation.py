"""Why a file of reduced precision is further from its reference than the precision explains, and what its quantisation costs where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bnexport.checking.ranking import Ranking, describe_sites, rank
from bnexport.comparison.pairs import Lost
from bnexport.comparison.precision import OpenForm, apart_by, rms
from bnexport.comparison.tally import Tally
from bnexport.errors import InputError
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.site_statistics import (
    HALF_LARGEST,
    SiteRange,
    read_statistics,
    statistics_graph,
    statistics_names,
)
from bnexport.progress import Progress
from bnexport.results.rounding import EXPLAINED, Cause, Cost, Rounding
from bnexport.results.runs import Precision
from bnexport.results.verdict import Finding, Severity
from bnexport.rules import calibration, half_precision, kernels
from bnexport.rules.calibration import CLIPPED, SEVERE, QuantisedTensor
from bnexport.rules.quantization import LOST_DB
from bnexport.rules.rule import sort_findings
from bnexport.runtimes import ort_session
from bnexport.runtimes.ort_session import provider_of
from bnexport.system import machine
from bnexport.types import Array


def explain(forms: Mapping[str, OpenForm], tally: Tally, progress: Progress) -> list[Finding]:
    """What the cost of reduced precision consists of, for each run that costs more than it should.

    Args:
        forms: the runs in float32, by id (`bnexport.comparison.precision.measure`).
        tally: what was seen; the causes that are proved count from then on.
        progress: notified where anything is measured.
    """
    findings: list[Finding | None] = []
    overflows: list[Finding] = []
    for lost in tally.of_reduced_precision():
        opened, cost = forms.get(lost.pair.actual), tally.costs.get(lost.pair.key)
        if opened is None or cost is None:
            continue
        if opened.runner.spec.precision == Precision.FLOAT16:
            overflow = _overflow(opened, cost)
            overflows += [overflow] if overflow is not None else []
            if overflow is not None and overflow.severity == Severity.ERROR:
                tally.add_cost(lost.pair, replace(cost, cause=Cause.OVERFLOW))
        verdict = tally.verdict_on_cost(lost.pair)
        if cost.explained and verdict is not None and verdict.severity == Severity.INFO:
            continue
        progress.stage("finding what the precision costs where")
        try:
            findings += _explain(opened, cost, lost, tally, progress)
        except InputError as error:
            progress.note(f"what the precision of {opened.runner.id} costs where cannot be measured: {error}")
    worst = sort_findings(overflows)[:1]  # it is one file, whatever it was run on
    return [*worst, *(finding for finding in findings if finding is not None)]


def _explain(opened: OpenForm, cost: Cost, lost: Lost, tally: Tally, progress: Progress) -> list[Finding | None]:
    if opened.runner.quantised is None:
        return []
    as_written = _with_outputs(cost, opened, opened.run(quantise=1.0))
    if not cost.explained and as_written.explained and opened.runner.spec.runtime == "onnxruntime":
        return [_saturation(opened, cost, as_written, lost, tally)]
    if not cost.explained and not cost.apart_explained:
        return []  # the float form differs already: quantising is not the cause
    return _calibration(opened, cost, lost, tally, progress)


def _with_outputs(cost: Cost, opened: OpenForm, outputs: Mapping[str, Array]) -> Cost:
    """The same cost for other outputs."""
    return replace(
        cost, tensors={name: _as(r, outputs[name], opened.reference[name]) for name, r in cost.tensors.items()}
    )


def _as(rounding: Rounding, actual: Array, reference: Array) -> Rounding:
    largest = float(np.abs(apart_by(actual, reference)).max())
    return replace(rounding, actual_rms=rms(actual, reference), actual_max=largest)


def _saturation(opened: OpenForm, cost: Cost, as_written: Cost, lost: Lost, tally: Tally) -> Finding | None:
    """RT012 where kernels that do not saturate are right."""
    precise: Cost | None = None
    runner = opened.runner
    if runner.graph is not None and runner.over is not None and runner.spec.device == "cpu":
        session = ort_session.Session(
            serialise(runner.graph()), provider_of(runner.spec.device), settings={"session.x64quantprecision": "1"}
        )
        outputs = runner.over(session.run)(lost.feed.inputs)
        precise = _with_outputs(cost, opened, {name: outputs[name][opened.rows] for name in cost.tensors})
    if precise is None or not precise.explained:
        return None
    tally.add_cost(lost.pair, replace(cost, cause=Cause.SATURATION))
    return kernels.kernels_saturate(
        runner.id,
        cost,
        as_written.deciding,
        None if precise is None else precise.deciding,
        _severity(tally, lost) if cost.deciding.actual_db >= LOST_DB else Severity.ERROR,
        vnni=machine.has_vnni(),
    )


def _severity(tally: Tally, lost: Lost) -> Severity:
    """An error where the answers are lost, a warning otherwise."""
    verdict = tally.verdict_on_cost(lost.pair)
    return Severity.ERROR if verdict is None or verdict.severity == Severity.ERROR else Severity.WARNING


def measure_ranges(opened: OpenForm) -> dict[int, SiteRange]:
    """What the tensors hold before they are rounded, by site."""
    names = statistics_names(opened.form)
    if not names:
        return {}
    session = ort_session.Session(serialise(statistics_graph(opened.form)), optimized=False)
    values = session.run({**opened.runner.given(opened.feeds), **opened.form.gates()}, names)
    return read_statistics(opened.form, values)


def _calibration(opened: OpenForm, cost: Cost, lost: Lost, tally: Tally, progress: Progress) -> list[Finding | None]:
    """QT003, QT002 and QT004, by what the ranges hold."""
    described = describe_sites(opened, measure_ranges(opened))
    bad = {nth: tensor for nth, tensor in described.items() if tensor.narrow or tensor.wide}
    if cost.explained and not (bad and _attainable(opened, cost, described)):
        return []  # rounding alone, at steps that these ranges need
    name = next(n for n, rounding in cost.tensors.items() if rounding is cost.deciding)
    ranking: Ranking = rank(opened, name, cost.deciding, described, progress)
    relative = cost.deciding.expected_rms / (cost.deciding.reference_rms or 1.0)
    costs = {tensor.name: tensor.cost for tensor in ranking.tensors}
    tensors = sorted(
        (replace(t, cost=costs.get(t.name, math.nan)) for t in described.values()), key=lambda t: -_number(t.cost)
    )
    misfits = [t for t in tensors if t.narrow or t.wide]
    clipped = [t for t in tensors if t.clipped > CLIPPED and _number(t.cost) > relative]
    if misfits or clipped:
        tally.add_cost(lost.pair, replace(cost, cause=Cause.CALIBRATION))
    severity = Severity.ERROR if cost.deciding.ratio >= SEVERE else _severity(tally, lost)
    scales = {site.scale for site in opened.form.sites if not site.weight}
    return [
        calibration.calibration_wrong(
            misfits, len(tensors), severity, absent=len(scales) == 1 and len(tensors) > 1, noun=tally.noun
        ),
        calibration.values_clipped(clipped, severity if not misfits else Severity.WARNING, tally.noun),
        calibration.cost_by_tensor(ranking.tensors, ranking.groups, relative, ranking.keep, ranking.left, tally.noun),
    ]


def _number(cost: float) -> float:
    return 0.0 if math.isnan(cost) else cost


def _attainable(opened: OpenForm, cost: Cost, described: Mapping[int, QuantisedTensor]) -> bool:
    """Whether ranges that fit would explain less than the error: noise as large as the steps that the values need."""
    gates = np.ones(len(opened.form.sites), np.float32)
    for nth, tensor in described.items():
        gates[nth] = 1 / max(1.0, tensor.spare)
    noisy = opened.run(noise=gates)
    return any(
        rounding.actual_rms > EXPLAINED * rms(noisy[name], opened.base[name]) for name, rounding in cost.tensors.items()
    )


def _overflow(opened: OpenForm, cost: Cost) -> Finding | None:
    """EX009: values beyond the largest number of float16, in float32; None where there is none."""
    ranges = measure_ranges(opened)
    beyond = [(opened.form.sites[nth], seen) for nth, seen in ranges.items() if seen.size > HALF_LARGEST]
    return half_precision.overflows(
        [(site.tensor, site.nodes, seen.size) for site, seen in beyond if not site.weight],
        HALF_LARGEST,
        shows=not cost.explained and cost.apart_explained,
        apart=not cost.explained and not cost.apart_explained,
    )

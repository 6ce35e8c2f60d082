"""The runs on other runtimes than onnxruntime: each computes a real batch first, and what refuses, ends or computes in something else is a finding."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bnexport.comparison.opening import Opening
from bnexport.comparison.sides import Feeds, Runner
from bnexport.comparison.targets import Target, target_run, target_spec
from bnexport.errors import EndedError, InputError
from bnexport.progress import Progress
from bnexport.results.runs import Precision
from bnexport.results.verdict import Finding
from bnexport.rules import targets as rules

if TYPE_CHECKING:
    import onnx

FLOAT32 = frozenset(["", "float32"])
"""What a session that computes as it was asked says of itself."""

HALF = {str(precision): precision for precision in Precision if precision.half}


@dataclass(slots=True)
class TargetRuns:
    """The runs that computed a batch, and what is to be reported about them and the others."""

    runners: list[Runner] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def open_target_runs(opening: Opening, first: Feeds, progress: Progress) -> TargetRuns:
    """Every other runtime that was asked for, strictly and, where its defaults may differ, as deployed.

    Args:
        opening: what is open.
        first: a batch: nothing less proves that a runtime runs.
        progress: notified of each runtime.

    Raises:
        MachineError: a plug-in fails in a way of its own.
    """
    runs = TargetRuns()
    for target in opening.targets:
        progress.stage(f"opening {target.title}")
        for as_deployed in (False, True) if target.about.reduced_by_default else (False,):
            if not _add(runs, opening, target, first, as_deployed=as_deployed):
                break
    return runs


def _add(runs: TargetRuns, opening: Opening, target: Target, first: Feeds, *, as_deployed: bool) -> bool:
    """Whether it runs."""
    deployed, subject = opening.deployed, opening.subject
    graph = deployed.graph if deployed is not None else subject.graph
    run = target_spec(graph, target, as_deployed=as_deployed).id
    try:
        if deployed is not None:
            runner = deployed.target_run(target, as_deployed=as_deployed)
        else:
            runner = target_run(graph, target, subject.facts.path, as_deployed=as_deployed)
        runner.compute(first)
    except EndedError as error:
        runs.findings.append(rules.runtime_ended(run, target.title, error.cause, error.last_line))
        return False
    except InputError as error:
        operators, layers = _named_in(str(error), graph)
        runs.findings.append(rules.runtime_refuses(run, target.title, str(error), operators, layers))
        return False
    if runner.computes in HALF and as_deployed:
        runner.spec = replace(runner.spec, precision=HALF[runner.computes])
    runs.runners.append(runner)
    if runner.computes not in FLOAT32 and (as_deployed or not runner.spec.precision.half):
        setting = target.about.setting
        finding = rules.other_precision(
            runner.id, target.title, runner.computes, as_deployed=as_deployed, setting=setting
        )
        runs.findings.append(finding)
    return True


def end_of_target(error: EndedError, opening: Opening) -> Finding:
    """What is to be reported where the process of a target ends later."""
    target = next(target for target in opening.targets if target.text == error.target)
    graph = opening.deployed.graph if opening.deployed is not None else opening.subject.graph
    run = target_spec(graph, target, as_deployed=False).id
    return rules.runtime_ended(run, target.title, error.cause, error.last_line)


def _named_in(sentence: str, graph: onnx.ModelProto) -> tuple[list[str], list[str]]:
    """The operators and the nodes of a graph that a sentence names."""
    words = set(re.findall(r"[\w./:-]+", sentence)) | set(re.findall(r"\w+", sentence))
    operators = sorted({node.op_type for node in graph.graph.node} & words)
    nodes = sorted({node.name for node in graph.graph.node if node.name} & words)
    return operators, nodes

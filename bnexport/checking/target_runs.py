"""The runs on other runtimes than onnxruntime: each computes a real batch first, and what refuses, ends or computes in something else is a finding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from bnexport.checking.target_causes import find_working_switch
from bnexport.comparison.artifacts import TFLITE, ConversionError, OtherArtifact, artifact_run, convert_reference
from bnexport.comparison.cuda import compute_nodes_on_cpu
from bnexport.comparison.opening import Opening
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.targets import ONNX, Target, target_run, target_spec
from bnexport.errors import EndedError, InputError, MismatchError, RefusedError
from bnexport.frameworks.keras.tflite import TITLE as CONVERTER
from bnexport.progress import Progress
from bnexport.results.runs import Precision, RunSpec, Switch
from bnexport.results.verdict import Finding
from bnexport.rules import servers as server_rules, targets as rules
from bnexport.rules.runtime import placed_on_cpu

if TYPE_CHECKING:
    import onnx

FLOAT32 = frozenset(["", "float32"])
"""What a session that computes as it was asked says of itself."""

HALF = {str(precision): precision for precision in Precision if precision.half}


class TargetFiles(Protocol):
    """The file that targets execute, as a check or a bundle has it."""

    def open(self, target: Target, *, as_deployed: bool) -> Runner:
        """The file on a target.

        Raises:
            InputError: the runtime refuses it.
            EndedError: the process of the runtime ends.
        """
        ...

    def graph(self, target: Target) -> onnx.ModelProto | None:
        """The graph that a target executes; None for another kind of file."""
        ...

    def run_id(self, target: Target, *, as_deployed: bool) -> str:
        """What reports call the run of a target that does not run."""
        ...


@dataclass(slots=True)
class CheckedFiles:
    """The files of a check.

    Args:
        opening: what is open.
        progress: notified where a model is converted.
        converted: the model as .tflite, once a target needed it.
    """

    opening: Opening
    progress: Progress
    converted: OtherArtifact | None = None

    def open(self, target: Target, *, as_deployed: bool) -> Runner:
        """The deployed file on a target, bnexport's export, or for a runtime of .tflite files the converted model."""
        opening = self.opening
        subject, deployed = opening.subject, opening.deployed
        spec = opening.preparation.spec if opening.preparation else None
        if opening.other is not None:
            return artifact_run(opening.other, target, subject, spec, as_deployed=as_deployed)
        if ONNX not in target.about.formats:
            self.converted = self.converted or convert_reference(subject.reference, self.progress)
            return artifact_run(self.converted, target, subject, spec, as_deployed=as_deployed)
        if deployed is not None:
            return deployed.target_run(target, as_deployed=as_deployed)
        return target_run(subject.graph, target, subject.facts.path, as_deployed=as_deployed)

    def graph(self, target: Target) -> onnx.ModelProto | None:
        """The graph that a target executes; None for another kind of file."""
        if ONNX not in target.about.formats or self.opening.other is not None:
            return None
        return self.opening.deployed.graph if self.opening.deployed is not None else self.opening.subject.graph

    def run_id(self, target: Target, *, as_deployed: bool) -> str:
        """What reports call the run of a target that does not run."""
        if (graph := self.graph(target)) is not None:
            return target_spec(graph, target, as_deployed=as_deployed).id
        kind = TFLITE if self.opening.other is None else self.opening.other.artifact.format
        spec = RunSpec(target.name, "inference", target.device, artifact=kind, as_deployed=as_deployed)
        return replace(spec, options=target.settings).id


@dataclass(slots=True)
class TargetRuns:
    """The runs that computed a batch, and what is to be reported about them and the others.

    Args:
        files: what the targets execute.
        required: the texts of targets without which there is nothing to do.
        progress: notified of each stage.
        strict_placement: whether a compute node that a device leaves to the CPU is an error.
        runners: the runs.
        findings: what is to be reported.
        targets: the target of each run, by the run's id.
    """

    files: TargetFiles
    required: Sequence[str]
    progress: Progress
    strict_placement: bool = False
    runners: list[Runner] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)


def open_target_runs(
    targets: Sequence[Target],
    files: TargetFiles,
    first: Feeds,
    progress: Progress,
    required: Sequence[str] = (),
    *,
    strict_placement: bool = False,
) -> TargetRuns:
    """Every other runtime that was asked for, strictly and, where its defaults may differ, as deployed.

    Args:
        targets: the runtimes.
        files: what they execute.
        first: a batch: nothing less proves that a runtime runs.
        progress: notified of each runtime.
        required: the texts of targets without which there is nothing to do.
        strict_placement: whether a compute node that a device leaves to the CPU is an error.

    Raises:
        MachineError: a plug-in fails in a way of its own, or the process of a required target ends.
    """
    runs = TargetRuns(files, required, progress, strict_placement)
    for target in targets:
        progress.stage(f"opening {target.title}")
        for as_deployed in _ways(target):
            if not _add(runs, target, first, as_deployed=as_deployed):
                break
    return runs


def _ways(target: Target) -> tuple[bool, ...]:
    """How a target is run, strictly or as deployed: only so where its options ask for a precision."""
    if target.sets_precision:
        return (True,)
    return (False, True) if target.about.reduced_by_default else (False,)


def _add(runs: TargetRuns, target: Target, first: Feeds, *, as_deployed: bool) -> bool:
    """Whether it runs."""
    files, opaque = runs.files, target.about.opaque
    run = files.run_id(target, as_deployed=as_deployed)
    try:
        runner = files.open(target, as_deployed=as_deployed)
        runner.compute(first)
    except EndedError as error:
        if target.text in runs.required:
            raise
        title = target.title if error.target else CONVERTER
        runs.findings.append(rules.runtime_ended(run, title, error.cause, error.last_line, opaque=opaque))
        return False
    except ConversionError as error:
        runs.findings.append(rules.converter_refuses(run, CONVERTER, str(error), error.operators))
        return False
    except MismatchError as error:
        runs.findings.append(server_rules.other_interface(run, error.differences))
        return False
    except InputError as error:
        operators, layers = _named_in(str(error), files.graph(target))

        def run_with(switch: Switch) -> Outputs:
            other = replace(target, options={**target.options, **switch.options})
            return files.open(other, as_deployed=as_deployed).compute(first)

        switch = find_working_switch(target.switches, run_with, runs.progress, target.title)
        runs.findings.append(
            rules.runtime_refuses(run, target.title, str(error), operators, layers, switch, opaque=opaque)
        )
        return False
    if as_deployed and runner.spec.precision != Precision.FLOAT32 and runner.computes == "float32":
        return True  # what the file is stored in is judged already, and the default adds nothing to it
    if runner.computes in HALF and as_deployed:
        runner.spec = replace(runner.spec, precision=HALF[runner.computes])
    runs.runners.append(runner)
    runs.targets[runner.id] = target.text
    left = compute_nodes_on_cpu(runner) if as_deployed == _ways(target)[0] else []  # once
    if (placed := placed_on_cpu(runner.id, left, strict=runs.strict_placement)) is not None:
        runs.findings.append(placed)
    if runner.notes:
        runs.findings.append(server_rules.called_otherwise(runner.id, runner.notes))
    if runner.computes not in FLOAT32 and (as_deployed or not runner.spec.precision.half):
        setting = target.about.setting
        finding = rules.other_precision(
            runner.id, target.title, runner.computes, as_deployed=as_deployed, setting=setting
        )
        runs.findings.append(finding)
    return True


def end_of_target(error: EndedError | RefusedError, targets: Sequence[Target], files: TargetFiles) -> Finding:
    """What is to be reported where a target fails on a later batch than the first."""
    target = next(target for target in targets if target.text == error.target)
    run = files.run_id(target, as_deployed=_ways(target)[0])
    if isinstance(error, EndedError):
        return rules.runtime_ended(run, target.title, error.cause, error.last_line, opaque=target.about.opaque)
    operators, layers = _named_in(str(error), files.graph(target))
    opaque = target.about.opaque
    return rules.runtime_refuses(run, target.title, str(error), operators, layers, later=True, opaque=opaque)


def _named_in(sentence: str, graph: onnx.ModelProto | None) -> tuple[list[str], list[str]]:
    """The operators and the nodes of a graph that a sentence names."""
    if graph is None:
        return [], []
    words = set(re.findall(r"[\w./:-]+", sentence)) | set(re.findall(r"\w+", sentence))
    operators = sorted({node.op_type for node in graph.graph.node} & words)
    nodes = sorted({node.name for node in graph.graph.node if node.name} & words)
    return operators, nodes

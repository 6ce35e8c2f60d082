"""Why a release is wrong and its neighbour is right: an optimisation of the runtime, or the first node whose output differs between the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bnexport.bundles.releases import Recorded, ReleaseRun, Releases, new_tally, open_runner
from bnexport.checking.optimisations import OpenOptimised, find_blame
from bnexport.checking.target_causes import find_cause
from bnexport.comparison.sides import ComputeTensors, Feeds, Outputs
from bnexport.comparison.targets import ONNX, Target
from bnexport.errors import BnexportError
from bnexport.numerics import depth
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.parts import node_title
from bnexport.onnx_graph.protobuf import serialise
from bnexport.progress import Progress
from bnexport.results.releases import ReleaseCause, ReleaseOutcome
from bnexport.results.verdict import LayerError
from bnexport.runtimes.inner import InnerTensors
from bnexport.runtimes.onnxruntime import DISABLED, LEVEL, UNOPTIMISED
from bnexport.runtimes.protocols import Artifact
from bnexport.system.memory_file import MODEL

if TYPE_CHECKING:
    import onnx


def find_causes(releases: Releases, recorded: Recorded, progress: Progress) -> dict[tuple[str, str], ReleaseCause]:
    """What is known about changes between a release that is right and one that is wrong, by their two versions.

    Where there is no change and all are wrong, what is known about the newest one, by "" and its version.
    """
    causes = {}
    for before, after in _pairs(releases):
        runs = [run for run in (before, after) if run is not None]
        wrong = next((run for run in runs if run.release.outcome == ReleaseOutcome.WRONG), None)
        right = next((run for run in runs if run.release.outcome == ReleaseOutcome.RIGHT), None)
        if wrong is None or (right is None and before is not None):
            continue
        progress.stage(f"looking for what makes {releases.matrix.package} {wrong.release.version} wrong")
        try:
            cause = _find_cause(wrong, right, recorded, progress)
        except BnexportError as error:  # what explains one release must not keep the others from being reported
            progress.note(f"the cause is not known: {error}")
            continue
        if cause is not None:
            causes["" if before is None else before.release.version, after.release.version] = cause
    return causes


def _pairs(releases: Releases) -> Sequence[tuple[ReleaseRun | None, ReleaseRun]]:
    """The two sides of each change; nothing and the newest release where there is none."""
    if releases.changes:
        return [(releases.runs[low], releases.runs[high]) for low, high in releases.changes]
    return [(None, run) for _, run in sorted(releases.runs.items()) if run.release.outcome.ran][-1:]


def _find_cause(
    wrong: ReleaseRun, right: ReleaseRun | None, recorded: Recorded, progress: Progress
) -> ReleaseCause | None:
    if wrong.target is None:
        return None
    batch = _differing_batch(wrong, recorded)
    if batch is None:
        return None
    feeds, wanted = batch
    tally = new_tally(recorded)
    graph = recorded.graph()
    names = {tensor.name: tensor.tensor for tensor in recorded.index.tensors}
    unoptimised: Mapping[str, str] = {LEVEL: UNOPTIMISED} if wrong.target.name == "onnxruntime" else {}

    def agrees(outputs: Outputs) -> bool:
        return tally.agree("inference", outputs, wanted)

    def compare_layers(_: object = None) -> list[LayerError]:
        progress.stage("comparing node by node")
        return _layer_errors(graph, wrong.target, right.target if right is not None else None, feeds, unoptimised)

    version = wrong.release.version
    if unoptimised:
        blame = find_blame(graph, _opener(wrong.target), feeds, names, agrees, progress)
        if blame is not None:
            return ReleaseCause(version, blame.optimizers, optimized=True, nodes=blame.nodes)
        return _by_layer(version, compare_layers())
    runner = open_runner(wrong.target, version, recorded)
    cause = find_cause(runner, feeds, agrees, compare_layers, progress)
    switch = "" if cause.switch is None else cause.switch.described
    by_layer = _by_layer(version, cause.layers)
    return replace(by_layer, nodes=cause.nodes or by_layer.nodes, switch=switch, exposed=cause.exposed)


def _differing_batch(wrong: ReleaseRun, recorded: Recorded) -> tuple[Feeds, Outputs] | None:
    """The first batch that shows what is wrong, and what is stored for it."""
    tally = new_tally(recorded)
    baseline = recorded.baseline
    for batch, outputs, stored in zip(baseline.batches, wrong.outputs, baseline.outputs, strict=True):
        wanted = stored[recorded.stored.id]
        if not tally.agree("inference", outputs, wanted):
            return batch.inputs, wanted
    return None


def _opener(target: Target) -> OpenOptimised:
    """Opens graphs on a release of onnxruntime."""

    def open_optimised(content: bytes, optimized: bool, without: Sequence[str]) -> ComputeTensors:
        options = ({} if optimized else {LEVEL: UNOPTIMISED}) | ({DISABLED: ",".join(without)} if without else {})
        return replace(target, options=options).open(Artifact(ONNX, content, MODEL)).run

    return open_optimised


def _layer_errors(
    graph: onnx.ModelProto, wrong: Target | None, right: Target | None, feeds: Feeds, options: Mapping[str, str]
) -> list[LayerError]:
    """The error of every node's output between two releases, from the inputs on."""
    if wrong is None or right is None:
        return []

    def inner(target: Target) -> InnerTensors:
        def open_with(names: Sequence[str]) -> ComputeTensors:
            content = serialise(tensors.with_outputs(graph, names))
            return replace(target, options=options).open(Artifact(ONNX, content, MODEL)).run

        return InnerTensors(graph, "cpu", feeds, open_with=open_with)

    actual, reference = inner(wrong), inner(right)
    makers = {output: node for node in graph.graph.node for output in node.output if output}
    errors = []
    for name in actual.names:
        node = makers[name]
        inputs = tuple(read for read in node.input if read in actual)
        apart = depth.distance(actual[name], reference[name])
        errors.append(LayerError(name, node_title(node), inputs, name, apart, None))
    return errors


def _by_layer(version: str, layers: Sequence[LayerError]) -> ReleaseCause:
    first = depth.first_off(layers)
    if first is None:
        return ReleaseCause(version)
    return ReleaseCause(version, nodes=(first.kind,), layer=first.kind, far=first.max_rel)

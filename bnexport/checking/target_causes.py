"""Why a runtime other than onnxruntime is wrong with a file that onnxruntime runs correctly.

A switch of the runtime cures it, or it fuses nodes wrongly, or one layer is the first that differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnexport.checking.localise import layer_errors
from bnexport.checking.optimisations import nodes_around, smallest
from bnexport.comparison.deployed import Deployed
from bnexport.comparison.expectations import Expected
from bnexport.comparison.pairs import Lost
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.subject import Subject
from bnexport.comparison.tally import Tally
from bnexport.errors import BnexportError, EndedError, InputError, UsageError
from bnexport.numerics.depth import first_off
from bnexport.onnx_graph import tensors
from bnexport.progress import Progress
from bnexport.results.runs import Role, Switch
from bnexport.results.verdict import Finding, LayerError
from bnexport.rules import targets
from bnexport.runtimes.inner import OpenWith, float_tensors

if TYPE_CHECKING:
    import onnx

CompareLayers = Callable[[OpenWith], Sequence[LayerError]]
"""The error of every layer, by what opens the graph with these tensors among its outputs."""

_FAILURES = (InputError, EndedError, UsageError)
"""How another way of opening the file may fail, which says nothing about the one that is explained."""


@dataclass(frozen=True, slots=True)
class TargetCause:
    """What is known about why a runtime is wrong.

    Args:
        switch: an option under which it is right; None where none is known.
        first: the layer where the error begins; None where that is not known.
        layers: all layers that were compared.
        exposed: the tensor that cures the runtime where it is an output of the graph, so that nothing is fused across it; "" where there is none.
        nodes: the nodes around that tensor.
    """

    switch: Switch | None = None
    first: LayerError | None = None
    layers: tuple[LayerError, ...] = field(default=())
    exposed: str = ""
    nodes: tuple[str, ...] = ()


UNKNOWN = TargetCause()


def onnxruntime_agrees(
    lost: Lost, tally: Tally, runners: Iterable[Runner], opens: Callable[[], Runner] | None
) -> bool | None:
    """Whether onnxruntime computes what the reference computes from the same file; None where it does not run it.

    Args:
        lost: a run of another runtime and its reference.
        tally: what was seen.
        runners: every run.
        opens: opens the file in onnxruntime, where that is not among the runs; None where it cannot.
    """
    same = {
        run.id
        for run in runners
        if run.spec.runtime == "onnxruntime" and run.mode == "inference" and run.spec.role == Role.CANDIDATE
    }
    if same:
        return not same & {other.pair.actual for other in tally.lost()}
    try:
        return None if opens is None else tally.agree(lost.pair.expectation.mode, opens().run(lost.feed), lost.wanted)
    except BnexportError:
        return None


def explain_target(
    lost: Lost,
    runner: Runner,
    subject: Subject | None,
    deployed: Deployed | None,
    tally: Tally,
    agrees: bool | None,
    progress: Progress,
) -> tuple[Finding, tuple[LayerError, ...]]:
    """The finding about a runtime that computes something else, and the layers where they were compared.

    Args:
        lost: the run and its reference.
        runner: the run.
        subject: what is checked; None where only its graph is there.
        deployed: the deployed file; None where bnexport's own export is checked.
        tally: what was seen.
        agrees: whether onnxruntime is right with the same file; None where it does not run it. Where it is wrong too, the file is the cause.
        progress: notified of each stage.
    """
    if agrees is False or lost.pair.expected != Expected.EQUAL:
        return targets.runtime_differs(lost.failed, agrees, opaque=runner.opaque), ()
    feeds, reference = lost.feed.inputs, None if subject is None else subject.reference

    def right(outputs: Outputs) -> bool:
        return tally.agree(runner.mode, outputs, lost.wanted)

    def compare_layers(open_with: OpenWith) -> Sequence[LayerError]:
        if subject is None or reference is None:
            return ()
        graph = runner.graph() if runner.graph is not None else subject.graph
        outputs = deployed.interface.outputs if deployed is not None else {}
        return layer_errors(
            reference, graph, runner.mode, "cpu", feeds, runner.given(feeds), progress, outputs, open_with
        )

    cause = find_cause(runner, feeds, right, compare_layers, progress)
    finding = targets.runtime_differs(
        lost.failed,
        agrees,
        cause.switch,
        cause.first,
        exposed=cause.exposed,
        nodes=cause.nodes,
        node=reference is not None and reference.graph_itself,
        opaque=runner.opaque,
    )
    return finding, cause.layers


def find_cause(
    runner: Runner,
    feeds: Feeds,
    right: Callable[[Outputs], bool],
    compare_layers: CompareLayers,
    progress: Progress,
) -> TargetCause:
    """What makes a run wrong on a batch; nothing where the batch alone does not show it.

    Args:
        runner: the run.
        feeds: the batch.
        right: whether outputs agree with the reference.
        compare_layers: compares the layers.
        progress: notified of each stage.
    """
    reopen, over = runner.reopen, runner.over
    if reopen is None or over is None or right(runner.compute(feeds)):
        return UNKNOWN

    def is_right(shown: onnx.ModelProto | None, options: Mapping[str, str]) -> bool:
        try:
            return right(over(reopen(shown, options))(feeds))
        except _FAILURES:
            return False

    progress.stage(f"looking for what makes {runner.id} wrong")
    switch = next((switch for switch in runner.switches if is_right(None, switch.options)), None)
    if runner.graph is None:
        return TargetCause(switch)
    graph = runner.graph()
    inner = [name for name in float_tensors(graph) if name not in {output.name for output in graph.graph.output}]
    if inner and is_right(tensors.with_outputs(graph, inner), {}):
        exposed = smallest(inner, lambda some: is_right(tensors.with_outputs(graph, some), {}))[-1]
        return TargetCause(switch, exposed=exposed, nodes=nodes_around(graph, exposed))
    try:
        layers = tuple(compare_layers(lambda names: reopen(tensors.with_outputs(graph, names), {})))
    except _FAILURES as error:
        progress.note(f"the layers of {runner.id} cannot be compared: {error}")
        layers = ()
    return TargetCause(switch, first_off(layers), layers)


def find_working_switch(
    switches: Sequence[Switch], opens: Callable[[Switch], object], progress: Progress, title: str
) -> Switch | None:
    """The first switch with which a file runs that a runtime refuses; None where there is none.

    Args:
        switches: the runtime's.
        opens: opens the file and runs a batch.
        progress: notified of the stage.
        title: of the runtime.
    """
    if switches:
        progress.stage(f"trying the options of {title}")
    for switch in switches:
        try:
            opens(switch)
        except _FAILURES:
            continue
        return switch
    return None

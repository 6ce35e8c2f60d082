"""What a check executes: the reference, the exported or deployed file on each provider, and the training-mode graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bnexport.checking.target_runs import CheckedFiles, open_target_runs
from bnexport.comparison import sides
from bnexport.comparison.cuda import cuda_sides
from bnexport.comparison.opening import Opening
from bnexport.comparison.sides import Feeds, Runner
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.numerics.compare import IncomparableError, RunningDifference
from bnexport.progress import Progress
from bnexport.results.runs import Mode, Role
from bnexport.results.tolerance import LEAST
from bnexport.results.verdict import Finding
from bnexport.runtimes import ort_session
from bnexport.runtimes.ort_session import Cuda

if TYPE_CHECKING:
    import onnx


VERIFIED = 2
"""A reference file runs with onnxruntime's optimisations where they change nothing on so many items."""


def open_runs(opening: Opening, first: Feed, progress: Progress) -> tuple[list[Runner], list[Finding]]:
    """Every run of a check, and a finding for each runtime or provider that was asked for and failed on a real batch.

    Args:
        opening: what is open.
        first: a batch: nothing less proves that CUDA runs.
        progress: notified where a model is loaded.

    Raises:
        InputError: onnxruntime cannot read a graph.
        MachineError: a required provider does not run.
    """
    request, subject, deployed = opening.request, opening.subject, opening.deployed

    def open_on(providers: Sequence[ort_session.Provider], cuda: Cuda = request.cuda) -> list[Runner]:
        if deployed is not None:
            return [deployed.runner(provider, cuda=cuda) for provider in providers]
        modes: list[Mode] = ["inference"] if providers == ["cpu"] or cuda.deployed else ["inference", "training"]
        return sides.onnx_sides(subject.graph, providers, modes, subject.whole, cuda=cuda)

    runners = [opening.recorded.run()] if opening.recorded else sides.reference_sides(subject.reference)
    if opening.foreign and subject.reference.graph_itself:
        few = {name: x[:VERIFIED] for name, x in first.inputs.items()}
        runners = [_optimised_where_equal(written, subject.graph, few) for written in runners]
    if "cpu" in opening.providers:
        runners += open_on(["cpu"])
        if deployed is None and sides.has_training_mode(subject.graph):
            runners.append(sides.recall_training_graph(subject.graph, subject.store, subject.facts.sha256))
    files = CheckedFiles(opening, progress)
    elsewhere = open_target_runs(
        opening.targets,
        files,
        first.inputs,
        progress,
        request.require,
        strict_placement=request.strict_placement,
    )
    runners += elsewhere.runners
    for backend in opening.backends:
        runners += backend.runs(subject.reference, progress)
    if "cuda" not in opening.providers:
        return runners, elsewhere.findings
    on_cuda = cuda_sides(
        lambda cuda: open_on(["cuda"], cuda),
        first.inputs,
        strict=request.cuda,
        wanted=request.providers,
        require=request.require,
        strict_placement=request.strict_placement,
    )
    return runners + on_cuda.runners, elsewhere.findings + on_cuda.findings


def _optimised_where_equal(written: Runner, model: onnx.ModelProto, few: Feeds) -> Runner:
    """A file that others are compared with, with onnxruntime's optimisations where they change nothing on a few items: that is faster."""
    [optimised] = sides.onnx_sides(model, ["cpu"], ("inference",))
    try:
        wanted, outputs = written.compute(few), optimised.compute(few)
    except InputError:
        return written  # it takes another number of items
    for name, x in wanted.items():
        running = RunningDifference()
        try:
            running.add(outputs[name], x)
        except IncomparableError:
            return written
        if not running.result().max_rel <= LEAST:
            return written
    optimised.spec = replace(optimised.spec, role=Role.CONTROL, variant="optimised")
    return optimised

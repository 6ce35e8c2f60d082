"""`bnexport reduce`: the smallest part of a graph, and one input of it, that still show what a check found; a report of a bug without the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.checking.examine import Examination, examine
from bnexport.checking.reproduction import write_reproduction
from bnexport.comparison.opening import Opening, Request, open_request
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError, UsageError
from bnexport.numerics import depth
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.parts import cut_out, node_title, part_inputs, part_outputs, with_random_weights
from bnexport.onnx_graph.protobuf import serialise
from bnexport.progress import Progress
from bnexport.results.tolerance import STATED
from bnexport.results.verdict import CheckReport, Finding, LayerError
from bnexport.runtimes import ort_session
from bnexport.system import files
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

Tensors = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Reduction:
    """What came of a reduction.

    Args:
        path: the folder.
        finding: what the part shows.
        nodes: its nodes, operator and name.
        error: the largest error of its outputs relative to their scale.
        random_weights: whether its weights are random ones, so that it says nothing about the model.
        report: the check that was made first.
    """

    path: Path
    finding: Finding
    nodes: tuple[str, ...]
    error: float
    random_weights: bool
    report: CheckReport


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a graph that shows a difference.

    Args:
        model: the part as a model of its own.
        inputs: what it is run on.
        expected: what its outputs ought to be; empty where it differs from itself with onnxruntime's optimisations off.
        error: the largest error relative to the scale of the right values.
        random: whether its weights are random ones.
    """

    model: onnx.ModelProto
    inputs: Tensors
    expected: Tensors
    error: float
    random: bool = False


def reduce(request: Request, output: Path | str, *, progress: Progress | None = None) -> Reduction:
    """Checks a model, and writes the smallest part that shows why the deployed graph is wrong.

    A fault of onnxruntime's optimisations (RT004) is cut down to the nodes that show it, with random weights where it shows with them, too. An error
    of the graph (EX001) is cut down to the nodes between the last tensors that agree with the reference and the first that does not.

    Args:
        request: the check.
        output: the folder: model.onnx, inputs.npz, expected.npz, repro.py, README.md.
        progress: notified of each stage.

    Raises:
        InputError: the model or the data cannot be read, or the difference cannot be shown in a part of the graph.
        UsageError: the check passes, or `output` is there already.
        MachineError: a framework is missing, or the disk is full.
    """
    progress, output = progress or Progress(), Path(output)
    if files.status(output) is not None:
        raise UsageError(
            f"cannot write {output}", found="something of this name", fix="choose another name or remove it"
        )
    if not output.parent.is_dir():
        raise UsageError(f"cannot write {output}", fix=f"create the folder {output.parent} first")
    opening = open_request(request, progress)
    if opening.other is not None:
        raise UsageError("only ONNX files can be reduced", found=opening.other.artifact.name)
    examination = examine(opening, progress)
    finding = next((f for f in examination.report.findings if f.code in ("RT004", "EX001")), None)
    if finding is None:
        raise UsageError(
            "there is nothing to reduce: the check finds no wrong optimisation (RT004) and no wrong node (EX001)",
            found=", ".join(f.code for f in examination.report.findings) or "no finding",
        )
    progress.stage("reducing")
    part = _find_part(examination, finding)
    with files.whole_folder(output) as folder:
        write_reproduction(folder, part.model, part.inputs, part.expected, finding, part.error)
    nodes = tuple(node_title(node) for node in part.model.graph.node)
    return Reduction(output, finding, nodes, part.error, part.random, examination.report)


def _find_part(examination: Examination, finding: Finding) -> Part:
    opening = examination.opening
    graph = opening.deployed.graph if opening.deployed else opening.subject.graph
    for feed in _feeds(opening, examination):
        given = opening.deployed.interface.given(feed.inputs) if opening.deployed else dict(feed.inputs)
        part = (
            _optimised_part(graph, given, finding)
            if finding.code == "RT004"
            else _wrong_part(opening, graph, feed, given, examination.report.layers)
        )
        if part is not None:
            return part
    raise InputError(
        "the difference does not show in a part of the graph",
        found=finding.message,
        fix="report it with the whole file",
    )


def _feeds(opening: Opening, examination: Examination) -> list[Feed]:
    """The item with the largest error alone, and the first batch."""
    failed = [c for c in examination.report.comparisons if not c and c.actual in examination.deployed]
    worst = failed[0].difference.worst_image if failed else 0
    first: Feed | None = None
    for feed in opening.feeds:
        first = first or feed
        positions = list(feed.positions or range(len(feed.names)))
        if worst in positions:
            row = positions.index(worst)
            rows = slice(row, row + 1)
            alone = Feed({n: x[rows] for n, x in feed.inputs.items()}, feed.names[rows], feed.labels[rows])
            return [alone, first]
    return [first] if first is not None else []


def _session(model: onnx.ModelProto, *, optimised: bool) -> Callable[[Tensors], dict[str, Array]]:
    session = ort_session.Session(serialise(model), optimized=optimised)
    names = [info.name for info in model.graph.output]
    return lambda feeds: session.run(feeds, names)


def _error(actual: Tensors, right: Tensors) -> float:
    """The largest error of all tensors; infinite where one cannot be compared."""
    errors = [depth.distance(actual[name], value) for name, value in right.items()]
    return max((float("inf") if np.isnan(error) else error for error in errors), default=0.0)


def _optimised_part(graph: onnx.ModelProto, given: Tensors, finding: Finding) -> Part | None:
    """The part around the nodes that a finding names; grown until it shows the fault, and then cut down node by node."""
    inner = _inner_values(graph, given)
    named = set(finding.evidence["nodes"])
    start = {index for index, node in enumerate(graph.graph.node) if node_title(node) in named}

    def attempt(nodes: set[int], *, random: bool = False) -> Part | None:
        needed = part_inputs(graph, nodes)
        if not nodes or any(name not in inner for name in needed):
            return None
        inputs = {name: inner[name] for name in needed}
        model = cut_out(graph, nodes, inputs, part_outputs(graph, nodes))
        if random:
            other = with_random_weights(model)
            if other is None:
                return None
            model = other
        try:
            error = _error(_session(model, optimised=True)(inputs), _session(model, optimised=False)(inputs))
        except InputError:
            return None  # a part that onnxruntime does not run alone
        return Part(model, inputs, {}, error, random) if error > STATED["inference"] else None

    nodes, part = start or set(range(len(graph.graph.node))), None
    while (part := attempt(nodes)) is None:
        larger = _neighbours(graph, nodes)
        if larger == nodes:
            return None
        nodes = larger
    for index in sorted(nodes, reverse=True):
        if len(nodes) > 1 and (smaller := attempt(nodes - {index})) is not None:
            nodes, part = nodes - {index}, smaller
    return attempt(nodes, random=True) or part


def _neighbours(graph: onnx.ModelProto, nodes: set[int]) -> set[int]:
    """Some nodes, with those that make what they read, and those that read what they make."""
    made = {output for index in nodes for output in graph.graph.node[index].output}
    read = set(part_inputs(graph, nodes))
    return nodes | {
        index for index, node in enumerate(graph.graph.node) if read & set(node.output) or made & set(node.input)
    }


def _wrong_part(
    opening: Opening, graph: onnx.ModelProto, feed: Feed, given: Tensors, layers: Sequence[LayerError]
) -> Part | None:
    """The nodes between the last tensors that agree with the reference, and the first that does not."""
    first = depth.first_off(layers)
    if first is None:
        return None
    agreed = {layer.tensor for layer in layers if layer.known and not layer.off}
    maker = {output: index for index, node in enumerate(graph.graph.node) for output in node.output if output}
    nodes: set[int] = set()
    waiting = [first.tensor]
    while waiting:
        index = maker.get(waiting.pop())
        if index is not None and index not in nodes:
            nodes.add(index)
            waiting += [name for name in part_inputs(graph, {index}) if name not in agreed]
    inner = _inner_values(graph, given)
    inputs = {name: inner[name] for name in part_inputs(graph, nodes)}
    model = cut_out(graph, nodes, inputs, [first.tensor])
    [right] = [
        value
        for layer, value in opening.subject.reference.layers("inference", feed.inputs, most_bytes=64 << 20)
        if layer.name == first.name
    ]
    actual = _session(model, optimised=False)(inputs)[first.tensor]
    shaped = next((x for x in depth.orders(right) if x.shape == actual.shape), right)
    error = _error({first.tensor: actual}, {first.tensor: shaped})
    return Part(model, inputs, {first.tensor: shaped}, error) if error > first.tolerance else None


def _inner_values(graph: onnx.ModelProto, given: Tensors) -> dict[str, Array]:
    """Every tensor of a graph on one batch, with onnxruntime's optimisations off; its inputs among them."""
    made = [output for node in graph.graph.node for output in node.output if output]
    session = ort_session.Session(serialise(tensors.with_outputs(graph, made)), optimized=False)
    kinds = {port.name: port.dtype for port in session.signature.inputs}
    typed = {name: x.astype(kinds[name], copy=False) for name, x in given.items()}
    return {**typed, **session.run(typed, made)}

"""The sides of a check: every way of computing the outputs, behind one face."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from bnexport.comparison.reference import Reference
from bnexport.comparison.references import GraphReference
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.onnx_graph import outputs as heads, subgraphs, tensors
from bnexport.onnx_graph.precision import stored_precision
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.quantised import Quantised, quantisation
from bnexport.onnx_graph.sites import sites
from bnexport.onnx_graph.training_mode import training_mode_graph
from bnexport.results.actions import spell_options
from bnexport.results.runs import Mode, Role, RunSpec, Switch
from bnexport.runtimes import ort_library, ort_session
from bnexport.runtimes.ort_session import STRICT_CUDA, Cuda
from bnexport.system import cache, machine
from bnexport.system.cache import Cache
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

    from bnexport.comparison.interface import OpenFile

Feeds = Mapping[str, Array]
Outputs = dict[str, Array]
ComputeTensors = Callable[[Feeds, Sequence[str]], Outputs]
"""The tensors of a graph with these names for a batch."""


@dataclass(slots=True)
class Runner:
    """A run that is open: what it is, and the function that computes a batch's outputs by tensor name.

    Tensor names are the outputs' names and, for an output that ends in softmax or sigmoid, `OUTPUT/logits`.

    Args:
        spec: what is executed.
        compute: the outputs of one batch.
        remembered: whether it opens at the first batch that the cache does not hold.
        graph: the ONNX graph that is executed, with the tensors of `names` among its outputs; None for a framework.
        names: the tensors that are compared, by the name a check gives them, as the graph calls them.
        placement: where CUDA's nodes run.
        given: a batch as the graph takes it.
        quantised: how the graph is quantised; None where it is not.
        model: the model that computes it, where that has noise floors of its own; None elsewhere.
        over: the same run with something else that computes the tensors of its graph; None where there is no such thing.
        of_items: the outputs for the items of a batch, where they depend on which items they are and not on the inputs; None elsewhere.
        computes: what its runtime says it computes in; "" where that does not say.
        reopen: opens a graph (None for the run's own file) as this run does, with further options of the runtime; None where there is no such thing.
        switches: options that are tried where the run is wrong.
        file: the file that is executed, where that is not ONNX; None elsewhere.
        opaque: what computes in place of the file, a program or a server; "" for the file itself.
        notes: how what computes in place of the file is called otherwise than the file.
        elapsed: the seconds in which its runtime computed so far; 0.0 where only `seconds` is measured.
        seconds: spent computing.
    """

    spec: RunSpec
    compute: Callable[[Feeds], Outputs]
    remembered: bool = False
    graph: Callable[[], onnx.ModelProto] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    placement: Callable[[], list[ort_session.Node]] = list
    given: Callable[[Feeds], Feeds] = dict
    quantised: Quantised | None = None
    model: Reference | None = None
    of_items: Callable[[Feed], Outputs] | None = None
    over: Callable[[ComputeTensors], Callable[[Feeds], Outputs]] | None = None
    computes: str = ""
    reopen: Callable[[onnx.ModelProto | None, Mapping[str, str]], ComputeTensors] | None = None
    switches: Sequence[Switch] = ()
    file: OpenFile | None = None
    opaque: str = ""
    notes: Sequence[str] = ()
    elapsed: Callable[[], float] = float
    seconds: float = field(default=0.0)

    @property
    def id(self) -> str:
        """What reports call it."""
        return self.spec.id

    @property
    def mode(self) -> Mode:
        """Inference or training mode."""
        return self.spec.mode

    def run(self, batch: Feed) -> Outputs:
        """The outputs for one batch; the time it takes is added up."""
        begun = time.perf_counter()
        outputs = self.of_items(batch) if self.of_items else self.compute(batch.inputs)
        self.seconds += time.perf_counter() - begun
        return outputs


def reference_sides(reference: Reference) -> list[Runner]:
    """The passes of a framework's model; of a graph that is checked alone, the graph as it is written, node by node.

    Raises:
        InputError: the graph cannot be run.
    """
    if isinstance(reference, GraphReference):
        return [_as_written(reference)]
    return [Runner(reference.spec(mode), partial(reference.run, mode)) for mode in reference.modes]


def _as_written(reference: GraphReference) -> Runner:
    reference.itself.open()
    model, about = reference.itself.graph, reference.recognition.about
    names, quantised = heads.fetches(model), quantisation(model)

    def compute(feeds: Feeds) -> Outputs:
        try:
            return reference.run("inference", feeds)
        except InputError as error:
            raise _out_of_range(model, feeds) or error from error

    spec = graph_spec(model, "inference", about.device, runtime=about.runs_as or reference.recognition.name)
    return Runner(
        replace(spec, role=Role.CONTROL, variant="unoptimised"),
        compute,
        graph=lambda: tensors.with_outputs(model, names.values()),
        names=names,
        quantised=quantised,
    )


def onnx_sides(
    model: onnx.ModelProto,
    providers: Sequence[ort_session.Provider],
    modes: Sequence[Mode] = ("inference", "training"),
    whole: bytes | None = None,
    cuda: Cuda = STRICT_CUDA,
) -> list[Runner]:
    """The inference graph and, where it has BatchNormalization nodes, its training-mode graph, on each provider.

    Args:
        model: the inference graph.
        providers: where to run it.
        modes: which of the two.
        whole: the inference graph serialise, with everything that is compared among its outputs, where that was done already.
        cuda: how CUDA runs.

    Raises:
        InputError: onnxruntime cannot read the graph.
        MachineError: a provider does not run.
    """
    fetched = heads.fetches(model)

    def with_outputs() -> onnx.ModelProto:
        return tensors.with_outputs(model, fetched.values())

    runners = [
        _onnx_side(model, with_outputs, "inference", provider, fetched, content=whole, cuda=cuda)
        for provider in providers
    ]
    if "training" in modes and has_training_mode(model):
        runners += [
            _onnx_side(model, lambda: training_mode_graph(with_outputs()), "training", provider, fetched, cuda=cuda)
            for provider in providers
        ]
    return runners


def has_training_mode(model: onnx.ModelProto) -> bool:
    """Whether a training-mode graph can be made: there are BatchNormalization nodes, and none inside a loop or a branch."""
    return bool(sites(model)) and not subgraphs.inner_normalisations(model)


def recall_training_graph(model: onnx.ModelProto, store: Cache, *key: str) -> Runner:
    """The training-mode graph on the CPU, opened when the cache does not hold its outputs: nobody deploys it, and it computes the same each time."""
    fetched = heads.fetches(model)

    def training_graph() -> onnx.ModelProto:
        return training_mode_graph(tensors.with_outputs(model, fetched.values()))

    def open_runner() -> Runner:
        return _onnx_side(model, training_graph, "training", "cpu", fetched)

    quantised = quantisation(model)
    runner = recall(graph_spec(model, "training", "cpu"), open_runner, store, *key)
    runner.graph, runner.names, runner.quantised = training_graph, fetched, quantised
    return runner


def recall(spec: RunSpec, open_runner: Callable[[], Runner], store: Cache, *key: str) -> Runner:
    """A run on the CPU that `open_runner` opens when the cache does not hold its outputs.

    Args:
        spec: what it is.
        open_runner: opens it.
        store: what was computed before.
        key: everything its outputs depend on, but for the batch and onnxruntime.
    """
    runners: list[Runner] = []

    def compute(feeds: Feeds) -> Outputs:
        entry = ("side", spec.id, *key, ort_library.version(), str(machine.threads()), cache.fingerprint(feeds))
        outputs = store.get_arrays(*entry)
        if outputs is None:
            if not runners:
                runners.append(open_runner())
            outputs = runners[0].compute(feeds)
            store.put_arrays(outputs, *entry)
        return outputs

    return Runner(spec, compute, remembered=True)


def recalibrated_side(model: onnx.ModelProto) -> Runner:
    """The inference graph with new statistics, on the CPU: it is not meant to equal any other side."""
    runner = onnx_sides(model, ["cpu"], modes=("inference",))[0]
    runner.spec = recalibrated_spec(model)
    return runner


def recalibrated_spec(model: onnx.ModelProto) -> RunSpec:
    """What is executed to see what recalibrating would give."""
    return replace(graph_spec(model, "inference", "cpu"), role=Role.PREVIEW, variant="recalibrated")


def _onnx_side(
    model: onnx.ModelProto,
    graph: Callable[[], onnx.ModelProto],
    mode: Mode,
    provider: ort_session.Provider,
    fetched: dict[str, str],
    *,
    content: bytes | None = None,
    cuda: Cuda = STRICT_CUDA,
) -> Runner:
    session = ort_session.Session(content or serialise(graph()), provider, cuda=cuda)
    runner = graph_run(model, graph, graph_spec(model, mode, provider), session.run, fetched)
    runner.placement = session.placement
    return runner


def graph_run(
    model: onnx.ModelProto,
    graph: Callable[[], onnx.ModelProto],
    spec: RunSpec,
    run: ComputeTensors,
    names: Mapping[str, str],
) -> Runner:
    """A graph that a runtime has opened, as a run of a check.

    Args:
        model: the inference graph.
        graph: what is executed, with the tensors of `names` among its outputs.
        spec: what it is.
        run: computes the tensors of these names for a batch.
        names: the tensors that are compared, by the name a check gives them.
    """

    def over(run: ComputeTensors) -> Callable[[Feeds], Outputs]:
        def compute(feeds: Feeds) -> Outputs:
            try:
                values = run(feeds, list(names.values()))
            except InputError as error:
                if (problem := _out_of_range(model, feeds)) is not None:
                    raise problem from error
                raise
            return {name: values[tensor] for name, tensor in names.items() if tensor in values}

        return compute

    return Runner(spec, over(run), quantised=quantisation(model), graph=graph, names=names, over=over)


def graph_spec(model: onnx.ModelProto, mode: Mode, device: str, *, runtime: str = "onnxruntime") -> RunSpec:
    """What a graph is as a run: its precision is what it is stored in."""
    return RunSpec(runtime, mode, device, precision=stored_precision(model).precision, artifact="onnx")


def _out_of_range(model: onnx.ModelProto, feeds: Feeds) -> InputError | None:
    """The sentence about an input that is a position in a table which has no such row; None where there is none."""
    for name, (rows, node) in heads.index_ranges(model).items():
        x = feeds.get(name)
        if x is not None and x.size and not (x.min() >= -rows and x.max() < rows):
            return InputError(
                f"the input {name} contains indices into a table of {rows} rows (node {node})",
                found=f"values from {x.min():g} to {x.max():g}",
                expected=f"0 to {rows - 1}",
                fix=f"pass valid indices with {spell_options(inputs='data.npz')}",
            )
    return None

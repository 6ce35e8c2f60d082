"""The ONNX file that is really deployed, whoever exported it, made comparable with the Keras model: which input is which, in what layout, in batches of what size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.comparison.interface import Interface
from bnexport.comparison.port_matching import FLOAT32, match_ports
from bnexport.comparison.sides import ComputeTensors, Runner, graph_spec
from bnexport.comparison.subject import Subject
from bnexport.comparison.targets import Target, as_target, target_spec, whole_artifact
from bnexport.frameworks.onnx_file import read_onnx
from bnexport.onnx_graph import metadata, outputs, tensors
from bnexport.onnx_graph.precision import stored_precision
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.quantised import quantisation
from bnexport.onnx_graph.selections import same_selection
from bnexport.results.heads import Selection
from bnexport.results.preprocessing import Order, Preprocessing
from bnexport.results.runs import RunSpec
from bnexport.runtimes import ort_session
from bnexport.runtimes.ort_session import STRICT_CUDA

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Deployed:
    """The deployed file.

    Args:
        path: where it is.
        graph: what is in it.
        interface: how it is called.
        names: what is fetched from it: the name a check gives it, and the tensor.
        notes: what is unusual in the file, or was changed in memory.
        dtypes: what Keras' outputs are made of, by the name a check gives them.
        rows: the tensors whose number of rows depends on the data.
    """

    path: Path
    graph: onnx.ModelProto
    interface: Interface
    names: Mapping[str, str]
    notes: tuple[str, ...] = ()
    dtypes: Mapping[str, np.dtype[np.generic]] = field(default_factory=dict)
    rows: Mapping[str, Selection] = field(default_factory=dict)

    def runner(
        self, provider: ort_session.Provider, interface: Interface | None = None, cuda: ort_session.Cuda = STRICT_CUDA
    ) -> Runner:
        """The file as a side of the check.

        Raises:
            InputError: onnxruntime cannot read the graph.
            MachineError: the provider does not run.
        """
        whole = tensors.with_outputs(self.graph, self.names.values())
        session = ort_session.Session(serialise(whole), provider, cuda=cuda)
        spec = graph_spec(self.graph, "inference", provider)
        runner = self._runner(whole, spec, session.run, interface or self.interface)
        runner.placement = session.placement
        return runner

    def target_run(self, target: Target, *, as_deployed: bool = False) -> Runner:
        """The file on another runtime than onnxruntime; as deployed with that runtime's defaults.

        Raises:
            InputError: the runtime cannot read it.
            MachineError: the runtime does not run.
        """
        whole, artifact = whole_artifact(self.graph, self.names, str(self.path))
        opened = target.open(artifact, as_deployed=as_deployed)
        spec = target_spec(self.graph, target, as_deployed=as_deployed)
        return as_target(self._runner(whole, spec, opened.run, self.interface), target, opened)

    def _runner(
        self,
        whole: onnx.ModelProto,
        spec: RunSpec,
        run: ComputeTensors,
        interface: Interface,
    ) -> Runner:
        over = interface.calling(self.names, self.dtypes, self.rows, str(self.path))
        return Runner(
            replace(spec, external=True),
            over(run),
            graph=lambda: whole,
            names=self.names,
            given=interface.given,
            quantised=quantisation(self.graph),
            over=over,
        )


def open_deployed(path: Path, subject: Subject, spec: Preprocessing | None = None) -> Deployed:
    """The deployed file, held beside the model in `subject`; `spec` is how images are prepared for the model, None for arrays.

    Raises:
        InputError: it is not a valid ONNX model, or cannot be fed what the model is fed.
    """
    file = read_onnx(path)
    graph = file.graph
    theirs_out = {info.name: tensors.shape(info) for info in graph.graph.output}
    interface = match_ports(
        str(path),
        {info.name: tensors.shape(info) for info in tensors.inputs(graph)},
        theirs_out,
        tensors.dtypes([*tensors.inputs(graph), *graph.graph.output]),
        subject,
        spec,
    )
    called, differences = interface.outputs, list(interface.differences)
    dtypes = {name: subject.dtypes.get(name, FLOAT32) for name in called}
    if stored_precision(graph).precision.half and not subject.half:
        differences.append("it computes in half precision (16 bits)")
    stated = metadata.read(graph, "preprocessing")
    stated = stated if isinstance(stated, dict) else {}
    differences += _preparation(stated, subject, takes_pixels=bool(interface.pixels))
    order = Order(stated["order"]) if stated.get("order") in list(Order) else None
    squashed = outputs.squashing_functions(graph)
    names = dict(called) | {f"{ours}/logits": squashed[its][0] for ours, its in called.items() if its in squashed}
    inner = same_selection(subject.graph, graph)
    names |= inner
    extra = [name for name in theirs_out if name not in called.values()]
    names |= {f"{name} (extra)": name for name in extra}  # nobody expects them, which the comparison will say
    return Deployed(
        path,
        graph,
        replace(interface, differences=tuple(differences), order=order),
        names,
        file.notes,
        dtypes | {f"{name}/logits": kind for name, kind in dtypes.items()} | dict.fromkeys(inner, FLOAT32),
        {name: rows for name, rows in subject.heads(()).rows.items() if rows.certain},
    )


def _preparation(stated: Mapping[str, object], subject: Subject, *, takes_pixels: bool) -> list[str]:
    """What the file states about the preparation of images otherwise than the model; how they are scaled is its own affair where it takes pixels."""
    ours = (
        subject.model_sidecar.preprocessing.as_dict()
        if subject.model_sidecar and subject.model_sidecar.preprocessing
        else {}
    )
    own = {"layout", "scaling", "order", "mean", "std"} if takes_pixels else {"layout"}
    return [
        f"the file says {key} {stated[key]}, the model {ours[key]}"
        for key in ours
        if key in stated and key not in own and stated[key] != ours[key]
    ]

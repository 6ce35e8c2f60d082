"""ONNX files as a framework, and read for a check: complete, valid, in the order that ONNX wants, with parameters that can be looked at."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexport.errors import InputError, MachineError, reason
from bnexport.frameworks.formats import format_of
from bnexport.frameworks.models import installed_version, refuse_unknown
from bnexport.frameworks.protocols import About, Layer, ModelInfo, Outputs, Signature, Tensors, Want
from bnexport.onnx_graph import metadata, subgraphs, tensors
from bnexport.onnx_graph.order import sort_nodes
from bnexport.onnx_graph.outputs import fetches
from bnexport.onnx_graph.perturbation import perturb, with_weights_as_inputs
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.sites import own_parameters, sites, sites_with_computed_parameters
from bnexport.results.runs import Mode
from bnexport.runtimes import ort_library, ort_session
from bnexport.runtimes.inner import MOST_BYTES, InnerTensors
from bnexport.runtimes.onnx_reference import run_in_float64
from bnexport.system import files
from bnexport.system.files import Format
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What is in an ONNX file.

    Args:
        graph: the graph as it is checked.
        notes: what is unusual in the file, or was changed in memory, one sentence each.
        sha256: the hash of the bytes that the graph was parsed from.
        whole: whether the file holds all of its weights itself, none of them in another file beside it.
    """

    graph: onnx.ModelProto
    notes: tuple[str, ...]
    sha256: str
    whole: bool


def read_onnx(path: Path) -> OnnxFile:
    """The graph in an ONNX file.

    Raises:
        InputError: it is not a complete, valid ONNX model, takes something else than tensors, or only a runtime with operators of
            somebody's own can run it.
        MachineError: there is not enough memory.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_model, uses_external_data

    notes: list[str] = []
    try:
        with files.open_regular(path) as stream:
            content = stream.read()  # once: what is hashed is what is parsed
        model: onnx.ModelProto = onnx.load_model_from_string(content)
        whole = not any(uses_external_data(tensor) for tensor in model.graph.initializer)
        load_external_data_for_model(model, str(path.parent))
        if sort_nodes(model.graph):
            notes.append("its nodes are not in topological order, which ONNX demands: they were sorted in memory")
        onnx.checker.check_model(tensors.without_weights(model))
        tensors.refuse_impossible(model)
    except (InputError, MachineError):
        raise
    except MemoryError as error:
        raise MachineError(f"there is not enough memory to read {path}") from error
    except Exception as error:
        raise InputError(f"{path} is not a valid ONNX model ({reason(error)})") from error
    if not model.graph.node:
        raise InputError(f"{path} is not a valid ONNX model", found="a graph without nodes")
    _refuse_other_inputs(path, model)
    own_parameters(model)
    if names := sites_with_computed_parameters(model):
        notes.append(
            f"the graph computes the parameters of {len(names)} BatchNormalization nodes (first {names[0]}): moving "
            "statistics cannot be examined, and training mode is not run"
        )
    tensors.describe(model)
    return OnnxFile(model, tuple(notes), hashlib.sha256(content).hexdigest(), whole)


def _refuse_other_inputs(path: Path, model: onnx.ModelProto) -> None:
    """Refuses inputs that are no tensors."""
    for info in tensors.inputs(model):
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            raise InputError(
                f"{path} has an input that is not a tensor",
                found=f"{str(kind).removesuffix('_type')} for the input {info.name}",
                expected="tensors of numbers or strings",
                fix="check the part of the graph after it (extract it with onnx.utils.extract_model)",
            )


class Onnx:
    """The framework `onnx`: files whose graph is run as it is written, node by node, onnxruntime's optimisations off."""

    suffix = ".onnx"

    def about(self) -> About:
        """The version of onnxruntime, which is not imported."""
        version = installed_version("onnxruntime-gpu") or installed_version("onnxruntime")
        return About(version, title="the file as it is written", runs_as="onnxruntime", executable=True, kept=True)

    def recognises(self, source: object) -> str:
        """A file with the suffix .onnx, or an `onnx.ModelProto`."""
        mine = format_of(source) == Format.ONNX or (
            not isinstance(source, Path) and hasattr(source, "SerializeToString")
        )
        return str(Format.ONNX) if mine else ""

    def load(self, source: Path, want: Want) -> OnnxModel:  # noqa: ARG002 - a graph brings no code
        """The graph, brought into order (`read_onnx`)."""
        return OnnxModel(read_onnx(source))

    def write(self, model: Any, path: Path) -> None:
        """Writes an `onnx.ModelProto`."""
        path.write_bytes(model.SerializeToString())


class OnnxModel:
    """An ONNX file: one graph, which has an inference mode only and computes in its own precision."""

    modes: tuple[Mode, ...] = ("inference",)

    def __init__(self, file: OnnxFile) -> None:
        self.graph = graph = file.graph
        normalisations = sites(graph)
        stated = {name: metadata.read(graph, name) for name in ("preprocessing", "classes", "labels", "outputs")}
        self.info = ModelInfo(
            parameters=sum(math.prod(tensor.dims) for tensor in graph.graph.initializer),
            layers=len(normalisations),
            frozen=sum(site.frozen for site in normalisations),
            dtype="float16" if any(tensor.data_type in _HALF for tensor in graph.graph.initializer) else "float32",
            versions={"onnxruntime": ort_library.version()},
            sha256=file.sha256,
            complete=file.whole,
            notes=file.notes,
            stated={name: value for name, value in stated.items() if value is not None},
        )
        self.signature = Signature(tensors.ports(tensors.inputs(graph)), tensors.ports(graph.graph.output))
        self._names = fetches(graph)
        self._session: ort_session.Session | None = None
        self._open_weights: tuple[ort_session.Session, dict[str, Array]] | None = None

    def open(self) -> None:
        """Opens the graph in onnxruntime, with its optimisations off."""
        self._open_session()

    def _open_session(self) -> ort_session.Session:
        if self._session is None:
            self._session = ort_session.Session(serialise(self._whole()), optimized=False)
        return self._session

    def _whole(self) -> onnx.ModelProto:
        return tensors.with_outputs(self.graph, self._names.values())

    def forward(self, x: Tensors, *, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        """What the graph computes; in float64 by onnx.reference, which is about a hundred times slower."""
        refuse_unknown(mode, self.modes, dtype, ("float32", "float64"))
        if seed is not None:
            raise InputError("an ONNX file has no random layers to switch on")
        tensors_wanted = list(self._names.values())
        if dtype == "float64":
            values = run_in_float64(self._whole(), x, tensors_wanted)
        else:
            values = self._open_session().run(x, tensors_wanted)
        return self._by_name(values)

    def forward_perturbed(self, x: Tensors, *, seed: int | None) -> Outputs:
        """What the graph computes with its float32 weights moved at random (`perturb`), or as they are."""
        if self._open_weights is None:
            outside, weights = with_weights_as_inputs(self._whole())
            self._open_weights = ort_session.Session(serialise(outside), optimized=False), weights
        session, weights = self._open_weights
        return self._by_name(
            session.run({**x, **(weights if seed is None else perturb(weights, seed))}, list(self._names.values()))
        )

    def _by_name(self, values: Tensors) -> Outputs:
        return {name: values[tensor] for name, tensor in self._names.items()}

    def layers(
        self, x: Tensors, *, mode: Mode, dtype: str = "float32", most_bytes: int = MOST_BYTES
    ) -> Iterator[tuple[Layer, Array]]:
        """What every node computes that gives floating point numbers, in order."""
        refuse_unknown(mode, self.modes, dtype, ("float32",))
        inner = InnerTensors(self.graph, "cpu", x, most_bytes)
        yield from ((node, inner[node.name]) for node in layers_of(self.graph, inner.names))

    def layers_perturbed(self, x: Tensors, *, seed: int, most_bytes: int = MOST_BYTES) -> Iterator[Array]:
        """What the same nodes compute with moved weights."""
        outside, weights = with_weights_as_inputs(self.graph)
        inner = InnerTensors(outside, "cpu", {**x, **perturb(weights, seed)}, most_bytes)
        yield from (inner[name] for name in inner.names)


def layers_of(graph: onnx.ModelProto, names: Sequence[str]) -> Iterator[Layer]:
    """The nodes that make some tensors, as layers: named after the tensor, with the ones of these tensors that it depends on directly."""
    wanted, shapes = set(names), tensors.shapes(graph)
    sources: dict[str, tuple[str, ...]] = {}
    for node in graph.graph.node:
        read = dict.fromkeys(
            source
            for name in subgraphs.reads(node)
            for source in ((name,) if name in wanted else sources.get(name, ()))
        )
        for output in node.output:
            sources[output] = tuple(read)
            if output in wanted:
                yield Layer(output, node.op_type, shapes.get(output, ()), tuple(read))


_HALF = (10, 16)  # onnx.TensorProto.FLOAT16, BFLOAT16


def learn_ranks(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> None:
    """Describes the tensors that BatchNormalization normalises and whose rank nothing says, by running the graph once; in place.

    Raises:
        InputError: the graph does not run on this batch.
    """
    unknown = sorted({site.x for site in sites(model)} - set(tensors.ranks(model)))
    if unknown:
        session = ort_session.Session(serialise(tensors.with_outputs(model, unknown)), optimized=False)
        tensors.declare_ranks(model, {name: x.shape for name, x in session.run(feeds, unknown).items()})

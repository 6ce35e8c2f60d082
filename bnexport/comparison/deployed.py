"""The ONNX file that is really deployed, whoever exported it, made comparable with the Keras model: which input is which, in what layout, in batches of what size."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.comparison.interface import Interface
from bnexport.comparison.selected import join_parts
from bnexport.comparison.sides import ComputeTensors, Feeds, Outputs, Runner, graph_spec
from bnexport.comparison.subject import Subject
from bnexport.comparison.targets import Target, target_spec
from bnexport.datasets.arrays.fit import shape_text
from bnexport.datasets.npz import Shape
from bnexport.errors import InputError
from bnexport.frameworks.onnx_file import read_onnx
from bnexport.onnx_graph import metadata, outputs, tensors
from bnexport.onnx_graph.precision import stored_precision
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.quantised import quantisation
from bnexport.onnx_graph.selections import same_selection
from bnexport.results.heads import Selection
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.runs import RunSpec
from bnexport.runtimes import ort_session
from bnexport.runtimes.ort_session import STRICT_CUDA
from bnexport.types import Array

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
        whole = tensors.with_outputs(self.graph, self.names.values())
        opened = target.open(serialise(whole), str(self.path), as_deployed=as_deployed)
        spec = target_spec(self.graph, target, as_deployed=as_deployed)
        runner = self._runner(whole, spec, opened.run, self.interface)
        runner.computes = opened.computes
        return runner

    def _runner(
        self,
        whole: onnx.ModelProto,
        spec: RunSpec,
        run: ComputeTensors,
        interface: Interface,
    ) -> Runner:
        def over(run: ComputeTensors) -> Callable[[Feeds], Outputs]:
            def compute(feeds: Feeds) -> Outputs:
                parts = _parts(interface.given(feeds), interface.batch)
                outputs = [run(part, list(self.names.values())) for part in parts]
                count = len(next(iter(feeds.values())))
                size = interface.batch or count
                given = [{name: part[tensor] for name, tensor in self.names.items()} for part in outputs]
                selected = join_parts(given, self.rows, size, count, str(self.path))
                joined = selected | {
                    name: _join([part[name] for part in given], count, size)
                    for name in self.names
                    if name not in selected
                }
                return {
                    name: _as_float(np.moveaxis(x, 1, -1) if name in interface.moved_out else x, self.dtypes.get(name))
                    for name, x in joined.items()
                }

            return compute

        return Runner(
            replace(spec, external=True),
            over(run),
            graph=lambda: whole,
            names=self.names,
            given=interface.given,
            quantised=quantisation(self.graph),
            over=over,
        )


def _join(parts: list[Array], count: int, size: int) -> Array:
    """An output of all parts of a batch, each of `size` items; of what was filled up to that size, `count` items are kept."""
    if len(parts) == 1 and (not parts[0].ndim or len(parts[0]) <= count or size == count):
        return parts[0]
    if not parts[0].ndim:
        return np.stack(parts)
    return np.concatenate(parts)[:count]


def _as_float(x: Array, wanted: np.dtype[np.generic] | None) -> Array:
    """Values of one float type as another, which the interface's differences say."""
    return x.astype(wanted) if wanted is not None and x.dtype != wanted and x.dtype.kind == wanted.kind == "f" else x


def _parts(feeds: Feeds, batch: int | None) -> list[dict[str, Array]]:
    """The batch in parts of the size the file is fixed to; the last part is filled up with its last image."""
    if batch is None:
        return [dict(feeds)]
    count = len(next(iter(feeds.values())))
    rows = [np.minimum(np.arange(start, start + batch), count - 1) for start in range(0, count, batch)]
    return [{name: x[part] for name, x in feeds.items()} for part in rows]


def open_deployed(path: Path, subject: Subject, spec: Preprocessing | None = None) -> Deployed:
    """The deployed file, held beside the model in `subject`; `spec` is how images are prepared for the model, None for arrays.

    Raises:
        InputError: it is not a valid ONNX model, or cannot be fed what the model is fed.
    """
    file = read_onnx(path)
    graph = file.graph
    theirs = {info.name: tensors.shape(info) or () for info in tensors.inputs(graph)}
    if len(theirs) != len(subject.shapes):
        raise InputError(
            f"the inputs of {path} differ from those of the model",
            found=f"the inputs {', '.join(theirs)}",
            expected=", ".join(subject.shapes),
        )
    same = set(theirs) == set(subject.shapes)
    inputs = {name: name for name in subject.shapes} if same else dict(zip(subject.shapes, theirs, strict=True))
    differences = [f"the input {ours} is called {its}" for ours, its in inputs.items() if ours != its]
    moved = set()
    for ours, its in inputs.items():
        if _fits(subject.shapes[ours], theirs[its]):
            continue
        if not _fits(_channels_first(subject.shapes[ours]), theirs[its]):
            raise InputError(
                f"the shape of the input {its} of {path} does not match the model",
                found=shape_text(theirs[its]),
                expected=shape_text(subject.shapes[ours]),
            )
        moved.add(ours)
        differences.append(
            f"the input {its} has its channels first, {shape_text(theirs[its])}: the images are transposed for it"
        )
    kinds = tensors.dtypes([*tensors.inputs(graph), *graph.graph.output])
    kept = {ours: subject.dtypes.get(ours, _FLOAT32) for ours in inputs}
    pixels = {ours: spec for ours, its in inputs.items() if kinds[its].kind in "iu" and kept[ours].kind == "f"}
    signed = frozenset(ours for ours in pixels if spec and kinds[inputs[ours]] == np.int8)
    fed = "pixels before scaling{}, rounded, so that it has to scale them itself" if spec else "same values"
    differences += [
        f"the input {its} is {kinds[its]}, in Keras {kept[ours]}"
        + (f": it is fed the {fed.format(' minus 128' if ours in signed else '')}" if ours in pixels else "")
        for ours, its in inputs.items()
        if kinds[its] != kept[ours]
    ]
    fixed = {shape[0] for shape in theirs.values() if shape} - {None}
    batch = fixed.pop() if len(fixed) == 1 else None
    if batch is not None:
        differences.append(f"the batch size is fixed to {batch}")
    differences += [
        f"the axis {axis} of the input {name} is fixed to {side}"
        for name, shape in shapes_in_layout(theirs, inputs, moved).items()
        for axis, side in enumerate(shape)
        if axis and side is not None and subject.shapes[name][axis] is None
    ]
    ours_out = {info.name: tensors.shape(info) for info in subject.graph.graph.output}
    theirs_out = {info.name: tensors.shape(info) for info in graph.graph.output}
    if set(ours_out) <= set(theirs_out):
        called = {name: name for name in ours_out}
    elif len(ours_out) == len(theirs_out):
        called = dict(zip(ours_out, theirs_out, strict=True))
        differences += [f"the output {ours} is called {its}" for ours, its in called.items() if ours != its]
    else:
        called = {name: name for name in ours_out if name in theirs_out}
    moved_out = {
        ours
        for ours, its in called.items()
        if (a := ours_out[ours]) and (b := theirs_out[its]) and not _fits(a, b) and _fits(_channels_first(a), b)
    }
    differences += [
        f"the output {called[name]} has its channels first: it is transposed for the comparison"
        for name in sorted(moved_out)
    ]
    dtypes = {name: subject.dtypes.get(name, _FLOAT32) for name in called}
    differences += [
        f"the output {its} is {kinds[its]}, in Keras {dtypes[ours]}"
        for ours, its in called.items()
        if its in kinds and str(kinds[its]) in _HALF and dtypes[ours].kind == "f" and kinds[its] != dtypes[ours]
    ]
    if stored_precision(graph).precision.half and not subject.half:
        differences.append("it computes in half precision (16 bits)")
    differences += _preparation(graph, subject)
    squashed = outputs.squashing_functions(graph)
    names = dict(called) | {f"{ours}/logits": squashed[its][0] for ours, its in called.items() if its in squashed}
    inner = same_selection(subject.graph, graph)
    names |= inner
    extra = [name for name in theirs_out if name not in called.values()]
    names |= {f"{name} (extra)": name for name in extra}  # nobody expects them, which the comparison will say
    return Deployed(
        path,
        graph,
        Interface(inputs, called, frozenset(moved), frozenset(moved_out), batch, pixels, tuple(differences), signed),
        names,
        file.notes,
        dtypes | {f"{name}/logits": kind for name, kind in dtypes.items()} | dict.fromkeys(inner, _FLOAT32),
        {name: rows for name, rows in subject.heads(()).rows.items() if rows.certain},
    )


_HALF = ("float16", "bfloat16")
_FLOAT32 = np.dtype(np.float32)


def _preparation(graph: onnx.ModelProto, subject: Subject) -> list[str]:
    theirs = metadata.read(graph, "preprocessing")
    ours = (
        subject.model_sidecar.preprocessing.as_dict()
        if subject.model_sidecar and subject.model_sidecar.preprocessing
        else None
    )
    if not theirs or not ours:
        return []
    return [
        f"the file says {key} {theirs[key]}, the model {ours[key]}"
        for key in ours
        if key in theirs and key != "layout" and theirs[key] != ours[key]
    ]


def _fits(ours: Shape, theirs: Shape) -> bool:
    return not theirs or (
        len(ours) == len(theirs)
        and all(a is None or b is None or a == b for a, b in zip(ours[1:], theirs[1:], strict=True))
    )


def shapes_in_layout(
    theirs: Mapping[str, Shape], inputs: Mapping[str, str], moved: Collection[str]
) -> dict[str, Shape]:
    """The shapes of a file's inputs by the names and in the layout of the model.

    Args:
        theirs: the shapes by the file's names.
        inputs: the file's name of each input of the model.
        moved: inputs whose channels stand last in the model and first in the file.
    """
    shapes = {ours: theirs[its] for ours, its in inputs.items()}
    return {n: (s[0], *s[2:], s[1]) if n in moved and len(s) > 2 else s for n, s in shapes.items()}


def _channels_first(shape: Shape) -> Shape:
    return (shape[0], shape[-1], *shape[1:-1]) if len(shape) > 2 else shape

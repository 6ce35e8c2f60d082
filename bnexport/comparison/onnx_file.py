"""An ONNX file, read for a check: complete, valid, in the order that ONNX wants, with parameters that can be looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bnexport.errors import InputError, MachineError, reason
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.order import sort_nodes
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.sites import own_parameters, sites, sites_with_computed_parameters
from bnexport.runtimes import ort_session
from bnexport.system import files

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
        InputError: it is not a complete, valid ONNX model, takes something else than numbers, or only a runtime with operators of
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
    """Refuses strings and inputs that are no tensors: nothing but numbers is fed."""
    for info in tensors.inputs(model):
        kind = info.type.WhichOneof("value")
        if kind == "tensor_type" and info.type.tensor_type.elem_type == STRING:
            raise InputError(
                f"{path} takes text",
                found=f"strings as the input {info.name}",
                expected="numbers",
                fix="check the part behind the tokenizer or lookup (onnx.utils.extract_model cuts it out), fed with "
                "token numbers through --arrays data.npz",
            )
        if kind != "tensor_type":
            raise InputError(
                f"{path} takes something else than tensors",
                found=f"{str(kind).removesuffix('_type')} as the input {info.name}",
                expected="tensors of numbers",
                fix="check the part of the graph behind it (onnx.utils.extract_model cuts it out)",
            )


STRING = 8
"""onnx.TensorProto.STRING"""


def learn_ranks(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> None:
    """Describes the tensors that BatchNormalization normalises and whose rank nothing says, by running the graph once; in place.

    Raises:
        InputError: the graph does not run on this batch.
    """
    unknown = sorted({site.x for site in sites(model)} - set(tensors.ranks(model)))
    if unknown:
        session = ort_session.Session(serialise(tensors.with_outputs(model, unknown)), optimized=False)
        tensors.declare_ranks(model, {name: x.shape for name, x in session.run(feeds, unknown).items()})

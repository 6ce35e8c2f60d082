"""Sessions of libraries that do not check their inputs well: this is done before they are asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError, reason
from bnexport.onnx_graph import tensors
from bnexport.runtimes.inputs import cast_input
from bnexport.runtimes.protocols import Artifact, Session, Signature, Tensors
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


def read_onnx(artifact: Artifact, runtime: str) -> onnx.ModelProto:
    """The ONNX model of an artifact.

    Args:
        artifact: what is to be executed.
        runtime: what messages call the runtime.

    Raises:
        InputError: it is another format, or no valid ONNX model.
    """
    import onnx

    if artifact.format != "onnx":
        raise InputError(f"{runtime} executes ONNX models only", found=artifact.format)
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(artifact.content)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker raise errors of many classes
        raise InputError(f"{artifact.name} is not a valid ONNX model ({reason(error)})") from error
    return model


def signature_of(model: onnx.ModelProto) -> Signature:
    """The inputs and outputs as an ONNX file declares them."""
    return Signature(tensors.ports(tensors.inputs(model)), tensors.ports(model.graph.output))


class CheckedSession(Session):
    """An artifact that is open; batches are checked against its signature, outputs have the types that it declares.

    Args:
        signature: what the artifact takes and gives.
    """

    optional: frozenset[str] = frozenset()
    """Outputs that may be missing."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._closed = False

    @abstractmethod
    def compute(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """All outputs for a batch that fits.

        Raises:
            InputError: the runtime refuses it.
        """

    def run(self, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The outputs named `outputs`, or all of them, for one batch."""
        if self._closed:
            raise InputError("the session is closed", fix="open it again")
        kinds = {port.name: port.dtype for port in self.signature.outputs}
        names = list(outputs) or list(kinds)
        if unknown := set(names) - kinds.keys():
            raise InputError(f"the model has no output {min(unknown)}", expected=" or ".join(kinds))
        self.signature.refuse_misfit(inputs)
        typed = {port.name: cast_input(port.name, inputs[port.name], port.dtype.type) for port in self.signature.inputs}
        values = self.compute(typed)
        if missing := [name for name in names if name not in values and name not in self.optional]:
            raise InputError(f"the runtime does not compute the output {missing[0]}")
        return {name: np.array(values[name], kinds[name]) for name in names if name in values}

    def close(self) -> None:
        """Computes nothing more."""
        self._closed = True

"""ONNX' own reference evaluator in float64 (onnx): slow, and as exact as a definition of the operators can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError, MachineError, reason
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.float64 import in_float64
from bnexport.runtimes.outputs import as_array
from bnexport.runtimes.protocols import About, Artifact, Session, Signature, Tensors, Want
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


class OnnxReference:
    """The runtime `onnx-reference`."""

    def about(self) -> About:
        """The version of onnx."""
        import onnx

        return About(onnx.__version__, shows_tensors=True)

    def open(self, artifact: Artifact, want: Want) -> ReferenceSession:
        """An ONNX model, ready to be evaluated."""
        import onnx

        if want.device != "cpu":
            raise MachineError("onnx-reference supports the CPU only", found=want.device)
        try:
            if artifact.format != "onnx":
                raise ValueError(f"it is {artifact.format}")
            model = onnx.ModelProto.FromString(artifact.content)
            onnx.checker.check_model(model)
        except Exception as error:  # protobuf and the checker raise errors of many classes
            raise InputError(f"{artifact.name} is not a valid ONNX model ({reason(error)})") from error
        return ReferenceSession(model)


class ReferenceSession(Session):
    """An ONNX model whose operators are evaluated in float64; outputs have the types that the model declares.

    Args:
        model: a valid one.

    Raises:
        InputError: onnx.reference lacks an operator, or an attribute of one.
        MachineError: there is not enough memory.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx.reference import ReferenceEvaluator

        self.signature = Signature(tensors.ports(tensors.inputs(model)), tensors.ports(model.graph.output))
        made = {output for node in model.graph.node for output in node.output}
        self._tensors = made | {port.name for port in self.signature.inputs}
        try:
            self._evaluator: ReferenceEvaluator | None = ReferenceEvaluator(in_float64(model))
        except MemoryError as error:
            raise MachineError("onnx-reference requires more memory than is available") from error
        except Exception as error:  # an operator, or an attribute of one, that it does not have
            raise InputError(f"onnx-reference cannot run the model ({reason(error)})") from error

    def run(self, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The tensors named `outputs`, or all outputs, for one batch; tensors inside the graph come in float64."""
        if self._evaluator is None:
            raise InputError("the session is closed", fix="open it again")
        names = list(outputs) or [port.name for port in self.signature.outputs]
        if unknown := set(names) - self._tensors:
            raise InputError(f"the model has no tensor {min(unknown)}")
        fed: dict[str, Array] = {}
        for port in self.signature.inputs:
            if port.name not in inputs:
                raise InputError(f"the input {port.name} is missing", found=", ".join(inputs) or "nothing")
            value = inputs[port.name]
            if value.dtype.kind not in ("OU" if port.dtype.kind in "OU" else "fiub") or value.ndim != len(port.shape):
                raise InputError(
                    f"the input {port.name} has another type or shape",
                    found=f"{value.dtype} of shape {value.shape}",
                    expected=f"{port.dtype} of shape {port.shape}",
                )
            fed[port.name] = value.astype(np.float64 if port.dtype.kind == "f" else port.dtype)
        try:
            values = self._evaluator.run(names, fed)
        except MemoryError as error:
            raise MachineError("onnx-reference requires more memory than is available") from error
        except Exception as error:  # whatever an operator raises
            raise InputError(f"onnx-reference cannot run the model ({reason(error)})") from error
        declared = {port.name: port.dtype for port in self.signature.outputs}
        arrays = {name: as_array(name, value) for name, value in zip(names, values, strict=True)}
        return {
            name: array if array.dtype.kind == "U" else array.astype(declared.get(name, array.dtype), copy=False)
            for name, array in arrays.items()
        }

    def close(self) -> None:
        """Forgets the model."""
        self._evaluator = None


def run_in_float64(model: onnx.ModelProto, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
    """The tensors named `outputs` of a float32 graph for one batch, computed and given in float64.

    Raises:
        InputError: onnx.reference has no such operator, or it fails.
        MachineError: there is not enough memory.
    """
    from onnx.reference import ReferenceEvaluator

    fed = {name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in inputs.items()}
    try:
        values = ReferenceEvaluator(in_float64(model)).run(list(outputs), fed)
    except MemoryError as error:
        raise MachineError("onnx-reference requires more memory than is available") from error
    except Exception as error:  # whatever an operator raises
        raise InputError(f"onnx-reference cannot run the model ({reason(error)})") from error
    return {name: np.asarray(value) for name, value in zip(outputs, values, strict=True)}

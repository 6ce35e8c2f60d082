"""onnxruntime as a runtime among others: its CPU and CUDA providers."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.errors import InputError, MachineError
from bnexport.runtimes import ort_library, ort_session
from bnexport.runtimes.libraries import refuse_unknown_options
from bnexport.runtimes.ort_session import Cuda
from bnexport.runtimes.protocols import About, Artifact, Session, Tensors, Want
from bnexport.types import Array

LEVEL, DISABLED = "graph_optimization_level", "disabled_optimizers"
"""Options of a session, by onnxruntime's names: ORT_DISABLE_ALL, and optimizers with commas between them."""

UNOPTIMISED = "ORT_DISABLE_ALL"


class OnnxRuntime:
    """The runtime `onnxruntime`."""

    def about(self) -> About:
        """Its version and providers; nothing runs."""
        try:
            version = ort_library.version()
        except MachineError as error:
            return About("", str(error))
        devices = ("cpu",) if ort_library.cuda_missing() else ("cpu", "cuda")
        return About(version, devices=devices, shows_tensors=True)

    def open(self, artifact: Artifact, want: Want) -> OnnxRuntimeSession:
        """An ONNX model, ready to run; on CUDA strictly in float32 unless as deployed."""
        if artifact.format != "onnx":
            raise InputError(f"{artifact.name} is not an ONNX model", found=artifact.format)
        refuse_unknown_options("onnxruntime", want.options, (LEVEL, DISABLED))
        session = ort_session.Session(
            artifact.content,
            ort_session.provider_of(want.device),
            optimized=want.options.get(LEVEL) != UNOPTIMISED,
            without=[name for name in want.options.get(DISABLED, "").split(",") if name],
            cuda=Cuda(deployed=want.as_deployed),
        )
        return OnnxRuntimeSession(session)


class OnnxRuntimeSession(Session):
    """An ONNX model that onnxruntime has opened."""

    def __init__(self, session: ort_session.Session) -> None:
        self._session: ort_session.Session | None = session
        self.signature = session.signature

    def run(self, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The tensors named `outputs`, which must be outputs of the model, or all of them."""
        if self._session is None:
            raise InputError("the session is closed", fix="open it again")
        return self._session.run(inputs, list(outputs) or [port.name for port in self.signature.outputs])

    def close(self) -> None:
        """Gives the session's memory back."""
        self._session = None

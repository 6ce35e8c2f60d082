"""An ONNX graph in onnxruntime, on the CPU or on CUDA where it truly runs (onnxruntime)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from bnexport.errors import InputError, MachineError, reason
from bnexport.runtimes import ort_library
from bnexport.runtimes.inputs import cast_input
from bnexport.runtimes.outputs import as_array
from bnexport.runtimes.protocols import Port, Signature
from bnexport.system import machine
from bnexport.types import Array

if TYPE_CHECKING:
    import onnxruntime

Provider = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Cuda:
    """How onnxruntime runs on CUDA.

    Args:
        deployed: with onnxruntime's own defaults, as in production: TF32 where the GPU has it, the fastest algorithms. Otherwise strictly: float32 throughout, deterministic.
        memory_limit: the most GPU memory its arena may take, in bytes; None for no limit.
    """

    deployed: bool = False
    memory_limit: int | None = None

    @property
    def options(self) -> dict[str, str]:
        """The provider's options (onnxruntime, "CUDA Execution Provider", Configuration Options)."""
        strict = {} if self.deployed else {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        limit = {} if self.memory_limit is None else {"gpu_mem_limit": str(self.memory_limit)}
        return strict | limit


STRICT_CUDA = Cuda()

WITHOUT_SPINNING = {"session.intra_op.allow_spinning": "0"}
"""Settings of a session whose threads sleep while they have nothing to do: a run takes slightly longer, and up to a third less CPU time."""


@dataclass(frozen=True, slots=True)
class Node:
    """Where a node runs, its operator and its name."""

    provider: Provider
    operator: str
    name: str


def provider_of(device: str) -> Provider:
    """The provider that runs on a device.

    Raises:
        MachineError: onnxruntime is not run on it.
    """
    provider: Provider
    for provider in get_args(Provider):
        if provider == device:
            return provider
    raise MachineError(
        f"the device {device} is not supported with onnxruntime", expected=" or ".join(get_args(Provider))
    )


class Session:
    """One graph, ready to run on one provider; a provider that was asked for is the one that runs, or this raises.

    Args:
        model: the serialised ONNX model, or its file.
        provider: "cpu" or "cuda".
        callers: how many threads will call `run` at the same time; the CPU threads are shared out among them.
        optimized: False for the graph as it is written.
        without: onnxruntime's names of optimizers that shall not run.
        cuda: how CUDA runs.
        settings: entries of the session's configuration, by onnxruntime's names.
        weights: the initializers whose values the model does not have (`bnexport.onnx_graph.weights.set_apart`); they are not copied.

    Raises:
        InputError: onnxruntime cannot read the graph.
        MachineError: CUDA was asked for and does not run.
    """

    def __init__(
        self,
        model: bytes | Path,
        provider: Provider = "cpu",
        *,
        callers: int = 1,
        optimized: bool = True,
        without: Sequence[str] = (),
        cuda: Cuda = STRICT_CUDA,
        settings: Mapping[str, str] | None = None,
        weights: Mapping[str, Array] | None = None,
    ) -> None:
        ort = ort_library.load()
        options = ort.SessionOptions()
        options.intra_op_num_threads = max(1, machine.threads() // callers)
        options.log_severity_level = 4  # its log holds names of nodes as they are; what matters comes as an exception
        if not optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        for key, value in (settings or {}).items():
            options.add_session_config_entry(key, value)
        self._weights = weights  # read where they are
        if weights:
            options.add_external_initializers(
                list(weights), [ort.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
            )
        self.provider = provider
        wanted: list[Any] = ["CPUExecutionProvider"]
        if provider == "cuda":
            if reason := ort_library.cuda_missing():
                raise MachineError(f"CUDA does not run here: {reason}")
            wanted.insert(0, ("CUDAExecutionProvider", cuda.options))
            options.use_deterministic_compute = not cuda.deployed
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            self._session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=wanted,
                enable_fallback=0,
                disabled_optimizers=list(without) or None,
            )
            self._session.disable_fallback()
        except Exception as error:
            raise _refusal(error, provider) from error
        if provider == "cuda" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            raise MachineError("CUDA does not run here: onnxruntime created a session without it")
        self._types = {i.name: i.type for i in self._session.get_inputs()}

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of the graph."""
        return Signature(_ports(self._session.get_inputs()), _ports(self._session.get_outputs()))

    def placement(self) -> list[Node]:
        """Where each node of a session on CUDA runs; empty where this onnxruntime does not tell."""
        assignment = getattr(self._session, "get_provider_graph_assignment_info", None)
        if self.provider != "cuda" or assignment is None:
            return []
        return [
            Node("cuda" if part.ep_name == "CUDAExecutionProvider" else "cpu", node.op_type, node.name)
            for part in assignment()
            for node in part.get_nodes()
        ]

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The tensors named `outputs` for one batch.

        Raises:
            InputError: the batch does not fit the graph.
            MachineError: the provider failed on it.
        """
        typed = {name: cast_input(name, value, _NUMPY.get(self._types.get(name, ""))) for name, value in feeds.items()}
        options = ort_library.load().RunOptions()
        _runs.add(options)
        try:
            values = self._session.run(list(outputs), typed, options)
        except Exception as error:
            raise _refusal(error, self.provider) from error
        finally:
            _runs.discard(options)
        return {name: as_array(name, value) for name, value in zip(outputs, values, strict=True)}


def _ports(arguments: Sequence[onnxruntime.NodeArg]) -> tuple[Port, ...]:
    return tuple(
        Port(
            argument.name,
            tuple(side if isinstance(side, int) else None for side in argument.shape),
            np.dtype(_NUMPY.get(argument.type, np.object_)),
        )
        for argument in arguments
    )


_runs: set[Any] = set()
"""The options of every run that has not returned."""


def stop_runs() -> None:
    """Lets every run of this process fail at its next node: a graph that loops for ever comes back no other way."""
    for options in list(_runs):
        options.terminate = True


_NUMPY: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.str_,
}


def _refusal(error: Exception, provider: Provider) -> InputError | MachineError:
    if provider == "cuda":
        return MachineError(f"CUDA does not run here: {reason(error)}")
    if machine.is_out_of_memory(error):
        return machine.lack_of_memory("the graph in onnxruntime", reason(error)[:200])
    if isinstance(error, OSError) or "pthread_create" in str(error):
        return MachineError(f"this machine cannot run the graph ({reason(error)})")
    return InputError(f"onnxruntime rejects the graph or the batch ({reason(error)})")

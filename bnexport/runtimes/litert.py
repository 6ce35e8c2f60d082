"""LiteRT, formerly TensorFlow Lite: what runs .tflite files on phones and small boards (ai-edge-litert)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError, MachineError, UsageError, reason
from bnexport.results.signature import Port, Signature, Tensors
from bnexport.runtimes.libraries import about_library, refuse_unknown_options
from bnexport.runtimes.protocols import About, Artifact, Session, Switch, Want
from bnexport.runtimes.tflite_file import Tensor, TfliteFile, read_tflite
from bnexport.system import machine
from bnexport.types import Array

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

OPTIONS = {"xnnpack": ("on", "off"), "kernels": ("optimised", "reference"), "threads": ()}
"""The options, with their values; () for a number."""

SWITCHES = (
    Switch("xnnpack", "off", "OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
    Switch("kernels", "reference", "OpResolverType.BUILTIN_REF"),
)
"""What is tried where LiteRT is wrong."""


class LiteRt:
    """The runtime `litert`.

    Options: xnnpack=off runs LiteRT's own kernels in place of XNNPACK's, kernels=reference the plain ones that define what the operators
    compute, and threads=N takes so many threads.
    """

    def about(self) -> About:
        """The version of the package, which is not imported."""
        about = about_library("ai_edge_litert", ("ai-edge-litert",), "litert")
        return replace(about, formats=("tflite",), shows_tensors=True, switches=SWITCHES)

    def about_target(self, device: str, options: Mapping[str, str]) -> About:  # noqa: ARG002 - there is one device
        """The same for all options; others are refused, and values that they do not take."""
        refuse_unknown_options("litert", options, OPTIONS)
        for name, value in options.items():
            values = OPTIONS[name]
            if value not in values if values else not (value.isdecimal() and int(value)):
                expected = " or ".join(values) or "a number from 1"
                raise UsageError(f"the option {name} of the target litert is invalid", found=value, expected=expected)
        return self.about()

    def open(self, artifact: Artifact, want: Want) -> LiteRtSession:
        """A .tflite file, ready to run."""
        about = self.about_target(want.device, want.options)
        if about.unavailable:
            raise MachineError("LiteRT does not run here", found=about.unavailable, fix=about.fix)
        if want.device != "cpu":
            raise MachineError("the runtime litert supports the CPU only", found=want.device)
        if artifact.format != "tflite":
            raise InputError(f"{artifact.name} is not a .tflite file", found=artifact.format)
        return LiteRtSession(artifact, want.options)


class LiteRtSession(Session):
    """A .tflite file that LiteRT has opened. Quantised inputs and outputs are real numbers here: they are quantised at the boundary."""

    def __init__(self, artifact: Artifact, options: Mapping[str, str]) -> None:
        self._artifact, self._options = artifact, options
        self._file = read_tflite(artifact.content, artifact.name)
        self._positions = self._file.positions
        self.signature = Signature(_ports(self._file, self._file.inputs), _ports(self._file, self._file.outputs))
        self._shapes: dict[bool, dict[int, tuple[int, ...]]] = {}
        self._interpreters: dict[bool, Interpreter] = {}
        self._open = True
        self._interpreter(preserving=False)

    def run(self, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The tensors named `outputs`, or all outputs, for one batch; for tensors inside of the file LiteRT keeps all of them in memory."""
        if not self._open:
            raise InputError("the session is closed", fix="open it again")
        names = list(outputs) or [port.name for port in self.signature.outputs]
        if unknown := set(names) - self._positions.keys():
            raise InputError(f"the model has no tensor {min(unknown)}")
        self.signature.refuse_misfit(inputs)
        if not all(x.size for x in inputs.values()):
            raise InputError("LiteRT does not run empty batches")
        preserving = bool(set(names) - self._file.outputs.keys())
        interpreter = self._interpreter(preserving=preserving)
        try:
            self._resize(interpreter, inputs, preserving=preserving)
            for name, at in self._file.inputs.items():
                interpreter.set_tensor(at, _to_stored(inputs[name], self._file.tensors[at]))
            interpreter.invoke()
            return {name: self._value(interpreter, self._positions[name]) for name in names}
        except MemoryError as error:
            raise MachineError("LiteRT requires more memory than is available") from error
        except (ValueError, RuntimeError, TypeError) as error:
            raise InputError(f"LiteRT cannot run {self._artifact.name} ({reason(error)})") from error

    def close(self) -> None:
        """Forgets the model."""
        self._interpreters.clear()
        self._open = False

    def _resize(self, interpreter: Interpreter, inputs: Tensors, *, preserving: bool) -> None:
        shapes = {at: inputs[name].shape for name, at in self._file.inputs.items()}
        if self._shapes.get(preserving) == shapes:
            return
        self._shapes.pop(preserving, None)
        for at, shape in shapes.items():
            interpreter.resize_tensor_input(at, shape)
        interpreter.allocate_tensors()
        self._shapes[preserving] = shapes

    def _value(self, interpreter: Interpreter, at: int) -> Array:
        return _from_stored(np.asarray(interpreter.get_tensor(at)), self._file.tensors[at])

    def _interpreter(self, *, preserving: bool) -> Interpreter:
        """The interpreter; another one, which keeps every tensor, where tensors inside of the file are asked for."""
        if preserving in self._interpreters:
            return self._interpreters[preserving]
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kinds = {"off": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
        kind = kinds.get(self._options.get("xnnpack", ""), OpResolverType.AUTO)
        kind = OpResolverType.BUILTIN_REF if self._options.get("kernels") == "reference" else kind
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that keeping every tensor takes memory
            try:
                interpreter = Interpreter(
                    model_content=self._artifact.content,
                    num_threads=int(self._options.get("threads", machine.threads())),
                    experimental_op_resolver_type=kind,
                    experimental_preserve_all_tensors=preserving,
                )
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise InputError(f"LiteRT cannot open {self._artifact.name} ({reason(error)})") from error
        self._interpreters[preserving] = interpreter
        return interpreter


def _ports(file: TfliteFile, positions: Mapping[str, int]) -> tuple[Port, ...]:
    tensors = {name: file.tensors[at] for name, at in positions.items()}
    return tuple(Port(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items())


def _to_stored(x: Array, tensor: Tensor) -> Array:
    """Values as a tensor stores them: q = round(x / scale) + zero point, within its type."""
    if not tensor.scale:
        return np.ascontiguousarray(x, tensor.dtype)
    limits = np.iinfo(tensor.type)
    steps = np.rint(np.asarray(x, np.float64) / tensor.scale) + tensor.zero_point
    return np.ascontiguousarray(np.clip(steps, limits.min, limits.max), np.dtype(tensor.type))


def _from_stored(x: Array, tensor: Tensor) -> Array:
    """Real numbers of what a tensor stores: x = (q - zero point) scale."""
    if not tensor.scale:
        return x
    return np.asarray((np.asarray(x, np.float64) - tensor.zero_point) * tensor.scale, np.float32)

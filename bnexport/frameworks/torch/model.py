"""A module of PyTorch as a reference: its inference and its training pass, in float32 and in float64 (torch)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np

from bnexport.errors import BnexportError, InputError, MachineError, reason
from bnexport.frameworks.models import refuse_unknown
from bnexport.frameworks.protocols import Layer, ModelInfo, Outputs, Tensors
from bnexport.frameworks.torch.calls import Call
from bnexport.frameworks.torch.float64 import widening
from bnexport.frameworks.torch.layers import LayerRecorder
from bnexport.frameworks.torch.modes import in_mode, own_copy, settle_layers
from bnexport.results.runs import Mode
from bnexport.types import Array, Nested

if TYPE_CHECKING:
    import onnx
    import torch


class TorchModel:
    """A program of PyTorch: a module, or what was made of one.

    Args:
        module: the module, which nobody else holds.
        call: how it is called.
        modes: which passes it has.
        sha256: of what it was made from.
        notes: what is unusual about it, one sentence each.
        graph: exports it as an ONNX graph; None where another graph says how it is called.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        call: Call,
        *,
        modes: tuple[Mode, ...],
        sha256: str,
        notes: Sequence[str] = (),
        graph: Callable[[], onnx.ModelProto] | None = None,
    ) -> None:
        import torch

        self._module, self._call, self.modes, self.graph = module, call, modes, graph
        self.signature = call.signature
        self._layers = settle_layers(module) if "training" in modes else None
        floating = [p.dtype for p in [*module.parameters(), *module.buffers()] if p.is_floating_point()]
        self._dtype = floating[0] if floating else torch.float32
        self._wide: torch.nn.Module | None = None
        self._lock = threading.Lock()
        self.info = ModelInfo(
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            layers=len(self._layers.normalisations) if self._layers else 0,
            frozen=len(self.frozen),
            dtype=str(self._dtype).removeprefix("torch."),
            random_layers=self._layers.random if self._layers else (),
            versions={"torch": str(torch.__version__)},
            sha256=sha256,
            notes=tuple(notes),
        )

    @property
    def frozen(self) -> frozenset[str]:
        """The BatchNormalization layers that use moving statistics in training mode, too."""
        return self._layers.frozen if self._layers else frozenset()

    def forward(self, x: Tensors, *, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        """What the module computes; in training mode dropout is off, and moving statistics stay as they are."""
        refuse_unknown(mode, self.modes, dtype, ("float32", "float64"))
        self.signature.refuse_misfit(x)
        with self._pass(mode, dtype, seed) as module:
            outputs = self._call.outputs(self._compute(module, x, dtype))
            return {name: _array(tensor) for name, tensor in outputs.items()}

    def weights(self) -> dict[str, Array]:
        """The parameters and buffers, by the names in the state dict."""
        import torch

        values = self._module.state_dict().items()
        return {name: _array(value) for name, value in values if isinstance(value, torch.Tensor)}

    @contextmanager
    def _pass(self, mode: Mode, dtype: str, seed: int | None = None) -> Iterator[torch.nn.Module]:
        """The module in a mode and a dtype."""
        import torch

        with ExitStack() as stack:
            stack.enter_context(self._lock)
            stack.enter_context(torch.no_grad())
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            stack.enter_context(torch.autocast("cpu", enabled=False))
            module = self._in(dtype)
            if self._layers is not None:
                stack.enter_context(in_mode(module, self._layers, mode, seed))
            if dtype == "float64":
                stack.enter_context(widening())
            yield module

    def _in(self, dtype: str) -> torch.nn.Module:
        if dtype == "float32":
            return self._module
        if self._wide is None:
            self._wide = own_copy(self._module).double()
        return self._wide

    def _compute(self, module: torch.nn.Module, x: Tensors, dtype: str) -> Nested:
        import torch

        floating = torch.float64 if dtype == "float64" else self._dtype
        given = {port.name: _tensor(x[port.name], port.dtype, floating) for port in self.signature.inputs}
        arguments, keywords = self._call.arguments(given)
        how = " in float64" if dtype == "float64" else ""
        try:
            return module(*arguments, **keywords)
        except (BnexportError, MemoryError):
            raise
        except Exception as error:  # whatever a module of somebody's own raises
            if "allocate memory" in str(error):
                raise MachineError(f"there is not enough memory to run the module{how} ({reason(error)})") from error
            raise InputError(f"the module cannot be run{how} ({reason(error)[:300]})") from error


class TorchModule(TorchModel):
    """A module whose layers are modules, too."""

    def layers(
        self, x: Tensors, *, mode: Mode, dtype: str = "float32", most_bytes: int = 512 << 20
    ) -> Iterator[tuple[Layer, Array]]:
        """What every module within it computes (`bnexport.frameworks.torch.layers`)."""
        refuse_unknown(mode, self.modes, dtype, ("float32", "float64"))
        self.signature.refuse_misfit(x)
        return self._iterate_layers(x, mode, dtype, most_bytes)

    def _iterate_layers(self, x: Tensors, mode: Mode, dtype: str, most_bytes: int) -> Iterator[tuple[Layer, Array]]:
        start, count = 0, 1
        while start < count:
            recorder = LayerRecorder(start, most_bytes)
            with self._pass(mode, dtype) as module, recorder.on(module):
                self._compute(module, x, dtype)
            for layer, tensor in recorder.kept:
                yield layer, _array(tensor)
            start, count = start + len(recorder.kept), recorder.count


def _tensor(x: Array, wanted: np.dtype[np.generic], floating: torch.dtype) -> torch.Tensor:
    """A copy of an array; floating-point numbers in the type that the module computes in, others in that of the input."""
    import torch

    if x.dtype.kind == "f":
        return torch.from_numpy(np.array(x, np.float64 if x.dtype.itemsize > 4 else np.float32)).to(floating)
    return torch.from_numpy(np.array(x, wanted if wanted.kind in "iub" else x.dtype))


def _array(tensor: torch.Tensor) -> Array:
    import torch

    plain = tensor.detach()
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    if plain.dtype == torch.bfloat16:
        plain = plain.float()
    return cast(Array, np.array(plain.cpu().resolve_conj().resolve_neg().numpy()))

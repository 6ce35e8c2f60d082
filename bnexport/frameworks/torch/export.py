"""Modules of PyTorch as ONNX graphs that keep their BatchNormalization nodes (torch, onnxscript)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnexport.errors import ExportError, InputError, MachineError, reason
from bnexport.frameworks.models import installed_version
from bnexport.frameworks.protocols import Port
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.sites import own_parameters

if TYPE_CHECKING:
    import onnx
    import torch

EXAMPLES = 2
"""How many items the example has that a module is exported with; with one, torch.export would take the batch axis for fixed."""


def export_module(module: torch.nn.Module, data: Sequence[Port]) -> onnx.ModelProto:
    """The graph of a module in inference mode, with an open batch axis.

    Args:
        module: the module, which nobody else holds; it is left in inference mode.
        data: what it is run on; a single array is for its first parameter, others are called as its parameters.

    Raises:
        ExportError: torch.onnx cannot export it.
        InputError: the names are not those of its parameters.
        MachineError: onnxscript is not installed.
    """
    import torch

    parameters = list(inspect.signature(module.forward).parameters)
    names = parameters[:1] if len(data) == 1 else [port.name for port in data]
    if missing := [name for name in names if name not in parameters]:
        raise InputError(
            f"the module has no parameter {missing[0]}", found=", ".join(names), expected=", ".join(parameters)
        )
    module.eval()
    floating = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    example = {
        name: torch.zeros([EXAMPLES, *(side or EXAMPLES for side in port.shape[1:])], dtype=_dtype(port, floating))
        for name, port in zip(names, data, strict=True)
    }
    batch = torch.export.Dim("batch")
    shapes = {name: {0: batch} for name in names}
    return _export(module, kwargs=example, dynamic_shapes=shapes, input_names=names)


def export_program(program: torch.export.ExportedProgram) -> onnx.ModelProto:
    """The graph of an exported program; the errors are those of `export_module`."""
    return _export(program)


def _export(model: object, **how: object) -> onnx.ModelProto:
    import torch

    if not installed_version("onnxscript"):
        raise MachineError("torch.onnx needs onnxscript, which is not installed", fix="pip install 'bnexport[torch]'")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of PyTorch about itself
            exported = torch.onnx.export(model, dynamo=True, optimize=False, verbose=False, **how)
        graph: onnx.ModelProto = exported.model_proto
    except Exception as error:  # torch.onnx raises what it comes upon
        cause = error.__cause__ or error
        raise ExportError(
            f"torch.onnx cannot export the module ({reason(cause)[:300]})",
            fix="check the file that is deployed: add --deployed model.onnx",
        ) from error
    own_parameters(graph)
    tensors.describe(graph)
    return graph


def _dtype(port: Port, floating: torch.dtype) -> torch.dtype:
    """The type of an input: floating-point numbers are of the one that the module computes in."""
    import torch

    kind = floating if port.dtype.kind == "f" else getattr(torch, port.dtype.name, None)
    if kind is None:
        raise InputError(
            f"PyTorch has no tensors of the type of {port.name}", found=str(port.dtype), expected="numbers or booleans"
        )
    return kind

"""Where modules of PyTorch come from: a name, a Python session, a TorchScript file, a torch.export file (torch)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bnexport.errors import InputError, UsageError, reason
from bnexport.frameworks.keras.custom_modules import import_module
from bnexport.frameworks.onnx_file import read_onnx
from bnexport.frameworks.protocols import Signature, Want
from bnexport.frameworks.torch.calls import call_of_function, call_of_program
from bnexport.frameworks.torch.export import export_module, export_program
from bnexport.frameworks.torch.model import TorchModel, TorchModule
from bnexport.frameworks.torch.modes import own_copy
from bnexport.frameworks.torch.weights import load_weights
from bnexport.onnx_graph import tensors
from bnexport.system import files

if TYPE_CHECKING:
    import onnx
    import torch

EXPORT = "torch.onnx.export(model.eval(), (example,), 'model.onnx', dynamo=True)"


def load_named(module: str, attribute: str, want: Want) -> TorchModel:
    """The module that `package.module:attribute` is, or makes.

    Raises:
        UsageError: it cannot be imported, or makes no module.
        InputError: the weights do not fit, or there is no ONNX file.
    """
    import torch

    _refuse_unknown_data(want)
    name, value = f"{module}:{attribute}", cast(object, import_module(module))
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            where = getattr(inspect.getmodule(value) or value, "__file__", None)
            raise UsageError(f"{module} has no {attribute}", found=str(where or module)) from error
    if not isinstance(value, torch.nn.Module):
        if not callable(value):
            raise _no_module(name, value)
        try:
            value = value()
        except Exception as error:  # whatever a function of somebody's own raises
            raise UsageError(
                f"{name} makes no module ({reason(error)})",
                fix="name a module, or a function or class that needs no arguments",
            ) from error
    if not isinstance(value, torch.nn.Module):
        raise _no_module(name, value)
    _refuse_lazy(value)
    notes = load_weights(value, want.weights) if want.weights is not None else []
    return _of_module(value, want, notes)


def load_object(model: object, want: Want) -> TorchModel:
    """A copy of a module or of an exported program of a Python session.

    Raises:
        InputError: it cannot be copied, or there is no ONNX file.
        UsageError: weights are named as well.
    """
    import torch

    if want.weights is not None:
        raise UsageError(
            "a module in memory has its weights", found=str(want.weights), fix="load them, or omit the option"
        )
    if isinstance(model, torch.export.ExportedProgram):
        return _of_program(model, want, "")
    module = cast("torch.nn.Module", model)
    _refuse_lazy(module)
    _refuse_unknown_data(want)
    return _of_module(own_copy(module), want, [])


def load_exported(source: Path, want: Want) -> TorchModel:
    """What `torch.export.save` wrote.

    Raises:
        InputError: it cannot be read, or is not trusted.
    """
    import torch

    _refuse_untrusted(source, want, "torch.export.load unpickles what is in the file")
    try:
        program = torch.export.load(source)
    except Exception as error:
        raise InputError(f"cannot read {source} ({reason(error)})") from error
    return _of_program(program, want, files.sha256(source))


def load_script(source: Path, want: Want) -> TorchModel:
    """What `torch.jit.save` wrote.

    Raises:
        InputError: it cannot be read, or is not trusted.
    """
    import torch

    _refuse_untrusted(source, want, "a TorchScript file is a program, which can read and write files")
    signature = _of_deployed(want)
    try:
        with files.open_regular(source) as stream:
            script = torch.jit.load(stream, map_location="cpu")
    except Exception as error:
        raise InputError(f"cannot read {source} ({reason(error)})") from error
    return _of_script(script, signature, files.sha256(source))


def _of_module(module: torch.nn.Module, want: Want, notes: Sequence[str]) -> TorchModel:
    """A module that belongs to this process alone."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return _of_script(module, _of_deployed(want), "")
    own = export_module(own_copy(module), want.data) if want.deployed is None else None
    signature = _of_deployed(want) if own is None else _signature(own)
    call = call_of_function(list(inspect.signature(module.forward).parameters.values()), signature)
    graph = None if own is None else lambda: own
    return TorchModule(module, call, modes=("inference", "training"), sha256=_hash(module), notes=notes, graph=graph)


def _of_script(script: torch.nn.Module, signature: Signature, sha256: str) -> TorchModel:
    arguments = script.forward.schema.arguments[1:]
    parameters = [
        inspect.Parameter(
            argument.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value if argument.has_default_value() else inspect.Parameter.empty,
        )
        for argument in arguments
    ]
    call = call_of_function(parameters, signature)
    return TorchModel(script, call, modes=("inference",), sha256=sha256 or _hash(script))


def _of_program(program: torch.export.ExportedProgram, want: Want, sha256: str) -> TorchModel:
    module = program.module()
    return TorchModel(
        module,
        call_of_program(program),
        modes=("inference",),
        sha256=sha256 or _hash(module),
        graph=None if want.deployed is not None else partial(export_program, program),
    )


def _refuse_unknown_data(want: Want) -> None:
    """Makes sure that something says what a module takes: its ONNX file, or what it is run on."""
    if want.deployed is None and not want.data:
        raise InputError(
            "a PyTorch module does not state what it takes; its ONNX file does",
            found="no ONNX file",
            fix=f"export it with {EXPORT}, and use that file",
        )


def _of_deployed(want: Want) -> Signature:
    """What the ONNX file of a program says that it takes and gives."""
    if want.deployed is None:
        raise InputError(
            "a TorchScript program does not state what it takes; its ONNX file does",
            found="no ONNX file",
            fix="pass the file that was exported of it with --deployed model.onnx",
        )
    return _signature(read_onnx(want.deployed).graph)


def _signature(graph: onnx.ModelProto) -> Signature:
    return Signature(tensors.ports(tensors.inputs(graph)), tensors.ports(graph.graph.output))


def _refuse_untrusted(source: Path, want: Want, why: str) -> None:
    if not want.trust:
        raise InputError(
            f"{source} may contain code ({why})",
            fix="if you trust the source of the file, add --allow-custom-code",
        )


def _refuse_lazy(module: torch.nn.Module) -> None:
    import torch

    lazy = [n for n, p in [*module.named_parameters(), *module.named_buffers()] if torch.nn.parameter.is_lazy(p)]
    if lazy:
        raise InputError(
            f"the module is not initialized: the shape of {lazy[0]} is open", fix="run it once on an example first"
        )


def _no_module(name: str, value: object) -> UsageError:
    return UsageError(
        f"{name} is not a module of PyTorch",
        found=f"a {type(value).__name__}",
        expected="a torch.nn.Module, or a function or class without arguments that makes one",
    )


def _hash(module: torch.nn.Module) -> str:
    """The SHA-256 of the class, and of every parameter and buffer with its name."""
    import torch

    digest = hashlib.sha256(f"{type(module).__module__}.{type(module).__qualname__}".encode())
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            plain = value.detach().cpu().contiguous()
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()

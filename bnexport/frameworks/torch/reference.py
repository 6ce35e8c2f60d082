"""PyTorch as a framework: modules, named or in memory, and TorchScript and torch.export files (torch)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.errors import InputError, MachineError
from bnexport.frameworks.models import installed_version
from bnexport.frameworks.names import model_named, split_name
from bnexport.frameworks.protocols import About, Want
from bnexport.frameworks.torch.files import TorchFile, kind_of

if TYPE_CHECKING:
    from bnexport.frameworks.torch.model import TorchModel

MODULE = "torch"
"""The format of a module that is named or in memory."""

NAME = "bnexport check package.module:factory DATA --weights state.pt --deployed model.onnx"


class Torch:
    """The framework `torch`."""

    def about(self) -> About:
        """The version of PyTorch, which is not imported."""
        return About(installed_version("torch"), title="PyTorch", weights=True)

    def recognises(self, source: object) -> str:
        """`package.module:factory`, a module or an exported program in memory, or a file that PyTorch wrote."""
        if not isinstance(source, Path):
            return MODULE if _is_module(source) else ""
        if split_name(source) is not None or _is_module(model_named(source)):
            return MODULE
        return str(kind_of(source) or "")

    def load(self, source: Path, want: Want) -> TorchModel:
        """The model that is named, or in a file.

        Raises:
            InputError: it cannot be read, or is a file that brings code and is not trusted.
            UsageError: what is named is no module.
            MachineError: PyTorch is not installed.
        """
        from bnexport.frameworks.torch import sources as torch_sources

        model = model_named(source)
        if model is not None:
            return self.load_model(model, want)
        _refuse_missing(source)
        if (name := split_name(source)) is not None:
            return torch_sources.load_named(*name, want)
        match kind_of(source):
            case TorchFile.EXPORTED:
                return torch_sources.load_exported(source, want)
            case TorchFile.SCRIPT:
                return torch_sources.load_script(source, want)
            case TorchFile.PICKLE | TorchFile.SAFETENSORS:
                raise InputError(
                    f"{source} has weights or a pickled module, but no code that computes with them",
                    fix="name the module, or a function without arguments that makes it, and the weights, which "
                    f"torch.save(model.state_dict(), 'state.pt') writes: {NAME}",
                )
        raise InputError(f"{source} is not a file of PyTorch")

    def load_model(self, model: object, want: Want) -> TorchModel:
        """A copy of a module or of an exported program in memory."""
        from bnexport.frameworks.torch import sources as torch_sources

        return torch_sources.load_object(model, want)


def _is_module(value: object) -> bool:
    """Whether a value is PyTorch's; layers and models of Keras on PyTorch are Keras'."""
    torch = sys.modules.get("torch")
    if torch is None or any(kind.__module__.startswith("keras.") for kind in type(value).__mro__):
        return False
    exported = sys.modules.get("torch.export")
    return isinstance(value, torch.nn.Module) or (
        exported is not None and isinstance(value, getattr(exported, "ExportedProgram", ()))
    )


def _refuse_missing(source: Path) -> None:
    if not installed_version("torch"):
        raise MachineError(f"{source} needs PyTorch, which is not installed", fix="pip install 'bnexport[torch]'")

"""What a file of PyTorch is, by its content; PyTorch is not imported."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from bnexport.errors import InputError
from bnexport.frameworks.formats import names_in_archive
from bnexport.system import files


class TorchFile(StrEnum):
    """What kind of file PyTorch wrote."""

    EXPORTED = "torch-export"
    """`torch.export.save`"""
    SCRIPT = "torchscript"
    """`torch.jit.save`"""
    PICKLE = "torch-pickle"
    """`torch.save`: a state dict, or a module"""
    SAFETENSORS = "safetensors"


_BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of `torch.save` begin that are no archives: the number 0x1950a86a20f9469cfc6c, pickled."""


def kind_of(path: Path) -> TorchFile | None:
    """The kind of a file; None where PyTorch did not write it, and where it cannot be read."""
    try:
        with files.open_regular(path) as stream:
            head = stream.read(len(_BEFORE_ZIP))
            if head == _BEFORE_ZIP:
                return TorchFile.PICKLE
            if not head.startswith(b"PK\x03\x04"):
                return TorchFile.SAFETENSORS if path.suffix == ".safetensors" and _is_safetensors(head, path) else None
    except (OSError, InputError):
        return None  # it is no file
    return _kind_of_archive(names_in_archive(path))


def _is_safetensors(head: bytes, path: Path) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _kind_of_archive(names: Sequence[str]) -> TorchFile | None:
    """All of PyTorch's archives have one folder, whose name does not matter."""
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or "serialized_exported_program.json" in {*inner, *names}:
        return TorchFile.EXPORTED
    if "constants.pkl" in inner and "data.pkl" in inner:
        return TorchFile.SCRIPT
    return TorchFile.PICKLE if "data.pkl" in inner else None

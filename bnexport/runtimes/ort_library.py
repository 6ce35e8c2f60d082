"""The onnxruntime that is installed: its version, and whether its CUDA provider can run (onnxruntime)."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from functools import cache
from types import ModuleType

from bnexport.errors import MachineError, reason
from bnexport.system import installed, machine
from bnexport.system.quiet import hold_native_output

# What onnxruntime-gpu's CUDA provider loads, by CUDA major version: (library, the pip package that brings it).
_LIBRARIES = {
    12: (
        ("libcudart.so.12", "cudart"),
        ("libcublas.so.12", "cublas"),
        ("libcufft.so.11", "cufft"),
        ("libcudnn.so.9", "cuDNN 9"),
    ),
    13: (
        ("libcudart.so.13", "cudart"),
        ("libcublas.so.13", "cublas"),
        ("libcufft.so.12", "cufft"),
        ("libcudnn.so.9", "cuDNN 9"),
    ),
}


def version() -> str:
    """Onnxruntime's version."""
    return str(load().__version__)


@cache
def cuda_missing() -> str:
    """Why CUDA cannot run here, in words; "" where nothing is known to be missing (only a real batch proves that it runs)."""
    if cuda_major() is None:
        return "this onnxruntime has no CUDA provider (install onnxruntime-gpu in place of onnxruntime)"
    if not loads("libcuda.so.1"):
        return "no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    missing = [brings for _, brings, there in cuda_libraries() if not there]
    if missing:
        return f"the CUDA {cuda_major()} libraries {', '.join(missing)} cannot be loaded (pip install 'onnxruntime-gpu[cuda,cudnn]')"
    return ""


def cuda_major() -> int | None:
    """The CUDA version that this onnxruntime is built for; None where it has no CUDA provider."""
    ort = load()
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return None
    return int(str(getattr(ort, "cuda_version", "") or "13").split(".", maxsplit=1)[0])


def cuda_libraries() -> list[tuple[str, str, bool]]:
    """Each library that the CUDA provider needs: its file, what brings it, and whether it loads."""
    with contextlib.redirect_stdout(io.StringIO()), hold_native_output():
        load().preload_dlls()  # prints to stdout what it does not find; the libraries are tried by name below
    needed = _LIBRARIES.get(cuda_major() or 13, _LIBRARIES[13])
    return [(library, brings, loads(library)) for library, brings in needed]


def loads(library: str) -> bool:
    """Whether the system finds a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@cache
def load() -> ModuleType:
    """The module, without its telemetry.

    Raises:
        MachineError: it is not installed, or beside another package that writes the same files, or memory is refused.
    """
    installed.refuse_mixture()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it starts with the import, and leaves a file in the temporary folder
    try:
        import onnxruntime
    except ImportError as error:
        if machine.is_out_of_memory(error):
            raise machine.lack_of_memory("onnxruntime", reason(error)) from error
        raise MachineError(
            f"onnxruntime is not installed ({error})",
            fix="install it with: pip install onnxruntime-gpu (uninstall the onnxruntime package first)",
        ) from error
    onnxruntime.set_default_logger_severity(4)
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    module: ModuleType = onnxruntime
    return module
